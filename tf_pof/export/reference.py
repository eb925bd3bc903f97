"""What a .tflite is compared with: the model's outputs, and their noise."""

from tf_pof._keras import keras

import numpy as np

from tf_pof.export import graph, layerwise
from tf_pof.pruning import cloning
from tf_pof.quantization import fake_quant

# The Dense whose steps outputs are counted in.
_STEP_OF = {
    "logits": "classifier",
    "start_logits": "span_logits",
    "end_logits": "span_logits",
}


def logits(outputs: dict) -> dict:
    """The logits, or of an encoder the first token's vector as such."""
    if "pooled_output" in outputs:
        return {"logits": outputs["pooled_output"]}
    if "sequence_output" in outputs:
        return {"logits": outputs["sequence_output"][:, 0]}
    return outputs


def exported_view(model: keras.Model) -> keras.Model:
    """What is exported of a model: it has no other outputs."""
    outputs = {name: model.output[name] for name in graph.output_names(model)}
    return keras.Model(model.input, logits(outputs), name=model.name)


class Int32Bias(keras.layers.Layer):
    """A Dense whose bias is rounded as TFLite rounds it.

    Args:
        dense: a QuantizedDense.
        step: of its input.
    """

    def __init__(self, dense, step):
        super().__init__(name=dense.name, dtype="float32")
        self._dense = dense
        self._correction = np.float32(0)
        if dense.bias is not None:
            scales = fake_quant.weight_scales(dense.kernel.numpy(), True) * step
            bias = dense.bias.numpy()
            self._correction = np.rint(bias / scales) * scales - bias

    def call(self, inputs):
        return self._dense(inputs) + self._correction


def with_int32_biases(view: keras.Model) -> keras.Model:
    """A clone that differs from a model as any right .tflite does."""
    nodes = layerwise.dense_nodes(view)

    def replacement(layer):
        if layer.name not in nodes:
            return layer
        quantizer = nodes[layer.name].keras_inputs[0]._keras_history.layer
        return Int32Bias(layer, _quantizer_step(quantizer))

    return cloning.clone(view, replacement, keras.Model)


def _quantizer_step(quantizer):
    return fake_quant.activation_parameters(
        quantizer.minimum.numpy(), quantizer.maximum.numpy()
    )[0]


def step_of(model: keras.Model, name: str) -> float:
    """Distance of the levels of an output; 0 if it is on none."""
    if model.head not in ("classifier", "span"):
        return 0.0
    quantizer = model.get_layer(f"{_STEP_OF[name]}_output_quantizer")
    return float(_quantizer_step(quantizer))


def differences(found, expected, rounded, valid, step):
    """Differences of an output, and of the model's with int32 biases.

    Without levels (`step` is 0) a step is 1/256 of the range of the output.
    """
    found, expected, rounded = found[valid], expected[valid], rounded[valid]
    step = step or float(np.ptp(expected)) / 256 or 1.0
    apart = np.abs(found - expected)
    norms = np.linalg.norm(found) * np.linalg.norm(expected)
    return {
        "step": step,
        "max_difference": float(apart.max()),
        "max_steps": float(apart.max()) / step,
        "mean_steps": float(apart.mean()) / step,
        "int32_biases_mean_steps": float(np.abs(rounded - expected).mean())
        / step,
        "cosine": float(np.vdot(found, expected) / norms) if norms else 1.0,
    }


