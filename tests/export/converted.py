"""Small quantized models of every family and head, and their .tflite files."""

import functools
import types

import numpy as np

from tests.quantization import small
from tf_pof.export import convert

# Arguments of `small.model`, sequence lengths and batch size.
KINDS = {
    "classifier": ({"num_layers": 2}, (8, 12), 0),
    "span": ({"head": "span", "activation": "gelu_new"}, (12,), 2),
    "distilbert": ({"num_segments": 0, "pooler": False}, (12,), 0),
    "encoder": ({"head": None}, (12,), 0),
}


@functools.cache
def make(kind: str) -> types.SimpleNamespace:
    """Made once: read it only.

    Attributes of the result: `model` (quantized), `kernels` (of its Dense
    layers by name, [in, out] float32), `contents` (of the .tflite).
    """
    arguments, lengths, batch_size = KINDS[kind]
    plain = small.model(**arguments)
    kernels = {}
    for layer in plain.layers:
        if not hasattr(layer, "kernel"):
            continue
        kernel = layer.kernel.numpy()
        kernel[np.abs(kernel) < 0.3] = 0
        if layer.name == "layer_0_output":
            kernel[:, 3] = 0
        layer.kernel.assign(kernel)
        kernels[layer.name] = kernel
    if kind == "encoder":
        # One bias of zeros, which the converter leaves out.
        plain.get_layer("layer_0_key").bias.assign(np.zeros(16))
    model = small.calibrated(plain)
    return types.SimpleNamespace(
        model=model,
        kernels=kernels,
        contents=convert.convert(model, lengths, batch_size),
    )


def inputs(model, batch, seq, seed=5):
    """Of the model's names."""
    segments = "segment_ids" in model.input
    return small.inputs(seed, batch, seq, segments)
