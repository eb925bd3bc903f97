"""Random quantized models of the published sizes, for sizes and speed."""

import re

from tf_pof._keras import keras

import numpy as np

from tf_pof import quantization
from tf_pof.models import bert
from tf_pof.models.config import BertConfig
from tf_pof.pruning import selection

_BATCHES, _BATCH, _LENGTH = 2, 4, 32


def quantized(
    name: str,
    sparsity: float,
    pattern: str = "1x1",
    seed: int = 1,
    vocabulary_size: int | None = None,
    **overrides,
) -> quantization.QuantizedModel:
    """A sequence classifier with random weights and zeros by magnitude.

    Kernels are BERT's initializer, pruned one by one as `selection.select`
    does; biases are as large as weights, so that they are no zeros that a
    converter leaves out. Ranges are calibrated on random ids.

    Args:
        name: one of `models.config.PRESETS`.
        sparsity: share of zeros in every kernel of the encoder, in [0, 1).
        pattern: of the zeros, outputs x inputs.
        seed: of weights and ids.
        vocabulary_size: rows of the word table; BERT's 30522 by default.
        **overrides: other fields of BertConfig.
    """
    if vocabulary_size is not None:
        overrides["vocabulary_size"] = vocabulary_size
    config = BertConfig.preset(name, **overrides)
    keras.utils.set_random_seed(seed)
    random = np.random.default_rng(seed)
    plain = bert.build(config, "classifier", num_labels=2, dtype="float32")
    for layer in plain.layers:
        if not isinstance(layer, keras.layers.Dense):
            continue
        layer.bias.assign(
            random.normal(0, config.initializer_range, layer.bias.shape)
        )
    prune(plain, sparsity, pattern)
    model = quantization.quantize(plain)
    return quantization.calibrate(
        model, [_inputs(random, config) for _ in range(_BATCHES)]
    )


def prune(model, sparsity: float, pattern: str) -> None:
    """Prunes the encoder's kernels by magnitude, in one shot."""
    for layer in model.layers:
        if re.match(bert.PRUNABLE, layer.name):
            kernel = layer.kernel.numpy()
            live = selection.select(kernel, sparsity, pattern, layer.name)
            layer.kernel.assign(np.where(live, kernel, 0))


def _inputs(random, config):
    length = min(_LENGTH, config.max_sequence_length)
    shape = _BATCH, length
    ids = random.integers(0, config.vocabulary_size, shape, np.int32)
    found = {"token_ids": ids, "padding_mask": np.ones(shape, np.int32)}
    if config.num_segments:
        found["segment_ids"] = random.integers(
            0, config.num_segments, shape, np.int32
        )
    return found
