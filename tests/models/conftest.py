"""Models, batches and downloads that the tests of models share."""

import os
import pathlib

import numpy as np
import pytest

from tf_pof.models import minilm

HERE = pathlib.Path(__file__).parent


@pytest.fixture(scope="session")
def minilm_folder():
    """The real MiniLM weights, downloaded once."""
    try:
        return minilm.fetch()
    except OSError as error:
        pytest.skip(f"The MiniLM weights cannot be had: {error}")


@pytest.fixture(scope="session")
def golden():
    """Hugging Face's own outputs on real text; see make_golden.py."""
    with np.load(HERE / "minilm_golden.npz") as file:
        return dict(file)


@pytest.fixture(scope="session")
def keras3_preset():
    return os.fspath(HERE / "keras3_preset")


@pytest.fixture
def tiny():
    """Builds a tiny model whose every weight is random and not small."""
    from tf_pof.models import bert
    from tf_pof.models.config import BertConfig

    def make(head=None, family="bert", seed=0, num_labels=2, **fields):
        if family == "distilbert":
            fields = {"num_segments": 0, "pooler": False, **fields}
        config = BertConfig(
            **{
                "vocabulary_size": 60,
                "num_layers": 2,
                "num_heads": 4,
                "hidden_dim": 16,
                "intermediate_dim": 24,
                "max_sequence_length": 20,
                **fields,
            }
        )
        model = bert.build(config, head, num_labels)
        rng = np.random.default_rng(seed)
        for weight in model.weights:
            weight.assign(rng.normal(0, 0.5, weight.shape))
        return model

    return make


@pytest.fixture
def batch():
    """3 sequences of 9 tokens below 60, padded to different lengths."""
    rng = np.random.default_rng(1)
    lengths = np.array([[9], [6], [2]])
    return {
        "token_ids": rng.integers(1, 60, (3, 9)).astype(np.int32),
        "segment_ids": rng.integers(0, 2, (3, 9)).astype(np.int32),
        "padding_mask": (np.arange(9) < lengths).astype(np.int32),
    }
