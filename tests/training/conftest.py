"""A small data set and a model of a few thousand weights."""

import random

import tf_pof  # noqa: F401  (legacy Keras before TensorFlow)

import pytest

from tf_pof._keras import keras
from tf_pof.data import documents, examples, pipeline
from tf_pof.models import bert, saving
from tf_pof.models.config import BertConfig

_LETTERS = "abcdefgh"
_SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "."]


@pytest.fixture(scope="session")
def vocab_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("vocab") / "vocab.txt"
    pieces = [*_LETTERS, *(f"##{c}" for c in _LETTERS)]
    path.write_text("\n".join([*_SPECIAL, *pieces]) + "\n")
    return str(path)


@pytest.fixture(scope="session")
def data(tmp_path_factory, vocab_file):
    """Examples of up to 24 tokens."""
    root = tmp_path_factory.mktemp("text")
    r = random.Random(0)

    def sentence():
        words = ("".join(r.choices(_LETTERS, k=2)) for _ in range(4))
        return " ".join(words) + "."

    text = "\n\n".join(
        "\n".join(sentence().capitalize() for _ in range(20))
        for _ in range(30)
    )
    (root / "text.txt").write_text(text)
    pieces = documents.plan_files([str(root / "text.txt")])
    pipeline.prepare(
        pieces,
        str(root / "data"),
        vocab_file,
        examples.PairOptions(24),
        validation_fraction=0.1,
        num_shards=2,
        num_workers=1,
    )
    return str(root / "data")


@pytest.fixture(scope="session")
def model(tmp_path_factory, vocab_file):
    """Folder of a prepared teacher, with dropout."""
    keras.utils.set_random_seed(7)
    config = BertConfig(
        vocabulary_size=22,
        num_layers=1,
        num_heads=2,
        hidden_dim=16,
        intermediate_dim=32,
        max_sequence_length=24,
    )
    path = str(tmp_path_factory.mktemp("model") / "teacher")
    return saving.save(bert.build(config, "pretraining"), path, vocab_file)
