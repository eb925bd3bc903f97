"""Small models, and what quantized ones compute, in numpy."""

import math

import tf_pof

import numpy as np

from tests.tasks import tiny
from tf_pof._keras import keras
from tf_pof.models import bert
from tf_pof.quantization import calibrate


def model(head="classifier", num_labels=3, seed=3, dtype=None, **changes):
    keras.utils.set_random_seed(seed)
    result = bert.build(tiny.config(**changes), head, num_labels, dtype=dtype)
    rng = np.random.default_rng(seed)
    for variable in result.trainable_variables:
        if "bias" in variable.name:
            variable.assign(0.1 * rng.normal(size=variable.shape))
    return result


def inputs(seed=0, batch=8, seq=12, segments=True):
    """Token ids; the last example is half padding."""
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, len(tiny.VOCABULARY), (batch, seq))
    mask = np.ones((batch, seq), np.int32)
    mask[-1, seq // 2 :] = 0
    found = {"token_ids": ids.astype(np.int32), "padding_mask": mask}
    if segments:
        found["segment_ids"] = np.tile(np.arange(seq) >= seq // 3, (batch, 1))
        found["segment_ids"] = found["segment_ids"].astype(np.int32)
    return found


def calibrated(plain):
    """The model quantized, with ranges of two batches."""
    segments = "segment_ids" in plain.input
    quantized = tf_pof.quantize(plain)
    return calibrate(
        quantized, [inputs(seed, segments=segments) for seed in (1, 2)]
    )


def round_weights(kernel, per_channel=True):
    """Float64, from int8 and scales."""
    axis = 0 if per_channel else None
    scale = np.abs(kernel).max(axis).astype(np.float64) / 127
    scale = np.where(scale == 0, 1, scale)
    return np.rint(kernel / scale) * scale


def round_activations(x, range_):
    minimum, maximum = np.asarray(range_)
    if minimum.ndim:
        step = np.maximum(-minimum, maximum) / 127
        return np.clip(np.rint(x / step), -128, 127) * step
    scale = (maximum - minimum) / 255
    zero_point = np.floor(-minimum / scale + 0.5)
    levels = np.clip(np.floor(x / scale + 0.5) + zero_point, 0, 255)
    return (levels - zero_point) * scale


def forward(plain, ranges, x):
    """Logits of a quantized BERT classifier, in float64 numpy.

    Args:
        plain: the float model that was quantized.
        ranges: of its quantizers.
        x: inputs.
    """
    config = plain.config

    def weights(name):
        values = plain.get_layer(name).get_weights()
        return [value.astype(np.float64) for value in values]

    def dense(x, name, reads=None):
        kernel, bias = weights(name)
        x = round_activations(x, ranges[f"{reads or name}_input_quantizer"])
        y = x @ round_weights(kernel) + bias
        return round_activations(y, ranges[f"{name}_output_quantizer"])

    def norm(x, name):
        gamma, beta = weights(name)
        x = x - x.mean(-1, keepdims=True)
        variance = (x**2).mean(-1, keepdims=True)
        epsilon = config.layer_norm_epsilon
        return x / np.sqrt(variance + epsilon) * gamma + beta

    def table(name):
        return round_weights(weights(f"{name}_embedding")[0], False)

    ids, mask = x["token_ids"], x["padding_mask"]
    batch, seq = ids.shape
    h = table("token")[ids] + table("position")[:seq]
    h = norm(h + table("segment")[x["segment_ids"]], "embeddings_layer_norm")
    heads, size = config.num_heads, config.hidden_dim // config.num_heads

    def split(x):
        return x.reshape(batch, seq, heads, size).transpose(0, 2, 1, 3)

    for i in range(config.num_layers):
        prefix = f"layer_{i}"
        q, k, v = (
            split(dense(h, f"{prefix}_{part}", f"{prefix}_query"))
            for part in ("query", "key", "value")
        )
        scores = q @ k.transpose(0, 1, 3, 2) / math.sqrt(size)
        scores = scores + (mask[:, None, None, :] - 1) * 1e9
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        context = scores / scores.sum(-1, keepdims=True) @ v
        context = context.transpose(0, 2, 1, 3).reshape(batch, seq, -1)
        y = dense(context, f"{prefix}_attention_output")
        h = norm(h + y, f"{prefix}_attention_layer_norm")
        y = dense(h, f"{prefix}_intermediate")
        erf = np.vectorize(math.erf)
        y = dense(y * 0.5 * (1 + erf(y / math.sqrt(2))), f"{prefix}_output")
        h = norm(h + y, f"{prefix}_output_layer_norm")
    return dense(np.tanh(dense(h[:, 0], "pooler")), "classifier")
