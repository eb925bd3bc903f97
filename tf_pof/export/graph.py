"""From a QuantizedModel to the functions that the TFLite converter reads.

The converter does not take per-channel fake quantization of weights (it meets
a transpose and says "mismatched quantized axes"). Hence kernels are put on
their int8 grid here, w = round(w / s) * s, and the converter, which sees that
max|w| is 127 s in every channel, finds the same integers again. Activations
keep fake quantization, with ranges that are constants. TFLite has one scale
for a tensor of activations; where channels have ranges of their own, kernel
and bias are divided by them, which leaves the integers alone, and what comes
out is multiplied by them.
"""

from collections.abc import Sequence

from tf_pof._keras import keras

import numpy as np
import tensorflow as tf

from tf_pof.models import layers
from tf_pof.pruning import cloning
from tf_pof.quantization import fake_quant
from tf_pof.quantization.layers import ActivationQuantizer
from tf_pof.quantization.layers import QuantizedDense, QuantizedEmbedding

# What `FloatIsland` puts in and `cleanup` takes out; no model has it itself.
BARRIER = "FLOOR"


def output_names(model: keras.Model) -> list[str]:
    """What is exported: a task head's logits, else the encoder's outputs."""
    if model.head in ("classifier", "span"):
        return [n for n in model.output if n.endswith("logits")]
    return [
        n for n in ("sequence_output", "pooled_output") if n in model.output
    ]


def signature_names(sequence_lengths: Sequence[int]) -> list[str]:
    """"seq_64", "seq_128" ..; "serving_default" of a single length."""
    if len(sequence_lengths) == 1:
        return ["serving_default"]
    return [f"seq_{length}" for length in sequence_lengths]


def inference_functions(
    model: keras.Model, sequence_lengths: Sequence[int], batch_size: int = 0
) -> tuple[tf.Module, dict]:
    """What a model computes at inference, a function for every length.

    Args:
        model: a QuantizedModel.
        sequence_lengths: tokens of a sequence, ascending.
        batch_size: sequences of a batch; 0 leaves it dynamic.

    Returns:
        module: that holds all variables of the functions.
        functions: concrete functions by signature name; they map int32
            [batch, seq] by the names of the model's inputs to a dict of
            float32, see `output_names`. They are to be converted, not run:
            `cleanup` must take out what `FloatIsland` puts in.

    Raises:
        ValueError: if a layer is not quantized, has no range yet or is not
            float32, or if a length exceeds the model's positions.
    """
    _check_lengths(model, sequence_lengths)
    inference = _inference_model(model)
    module = tf.Module()
    module.variables_of_layers = inference.weights
    names = list(inference.output)

    def forward(**inputs):
        outputs = inference(inputs, training=False)
        return {name: outputs[name] for name in names}

    functions = {}
    for name, length in zip(
        signature_names(sequence_lengths), sequence_lengths
    ):
        specs = {
            key: tf.TensorSpec([batch_size or None, length], tf.int32, name=key)
            for key in inference.input
        }
        functions[name] = tf.function(forward).get_concrete_function(**specs)
    return module, functions


def _check_lengths(model, sequence_lengths):
    limit = model.config.max_sequence_length
    lengths = list(sequence_lengths)
    if not lengths or lengths != sorted(set(lengths)) or lengths[0] < 1:
        raise ValueError(
            "The sequence lengths must be different positive numbers in "
            f"ascending order, not {lengths}."
        )
    if lengths[-1] > limit:
        raise ValueError(
            f"A sequence of {lengths[-1]} tokens is too long: {model.name} has "
            f"{limit} positions."
        )


def _inference_model(model):
    """A clone on baked weights, with the exported outputs alone."""
    outputs = {name: model.output[name] for name in output_names(model)}
    # Without what only other outputs need, such as the decoder of the MLM.
    part = keras.Model(model.input, outputs, name=model.name)
    for layer in part.layers:
        if layer.compute_dtype not in ("float32", "int32"):
            raise ValueError(
                f"{layer.name} computes in {layer.compute_dtype}: load the "
                "model in float32 to export it."
            )
    magnitudes = {
        layer.name: layer.channel_magnitudes()
        for layer in part.layers
        if isinstance(layer, ActivationQuantizer)
    }

    def replacement(layer):
        if isinstance(layer, QuantizedDense):
            return BakedDense(
                layer, magnitudes[f"{layer.name}_output_quantizer"]
            )
        return _replacement(layer)

    return cloning.clone(part, replacement, keras.Model)


def _replacement(layer):
    if isinstance(layer, QuantizedEmbedding):
        return BakedEmbedding(layer)
    if isinstance(layer, ActivationQuantizer):
        return FixedRange(layer)
    if isinstance(layer, layers.AttentionContext):
        return FloatIsland(layer)
    if _is_tanh(layer):
        return FloatIsland(layer, after=True)
    if isinstance(
        layer,
        (
            keras.layers.Dense,
            keras.layers.Embedding,
            layers.PositionEmbedding,
        ),
    ):
        raise ValueError(
            f"The layer {layer.name} is not quantized: fine-tune the model "
            "with bin/finetune --qat first."
        )
    return layer


def _is_tanh(layer):
    return (
        isinstance(layer, keras.layers.Activation)
        and layer.activation is keras.activations.tanh
    )


def _constant(values):
    return tf.Variable(values, trainable=False)


class BakedDense(keras.layers.Layer):
    """A Dense whose kernel is on the int8 grid.

    Args:
        layer: the Dense.
        magnitudes: float32 [out] or [], what its output is divided by.
    """

    def __init__(self, layer: QuantizedDense, magnitudes: np.ndarray):
        super().__init__(name=layer.name, dtype="float32")
        kernel = layer.kernel.numpy()
        scales = fake_quant.weight_scales(kernel, per_channel=True)
        integers = fake_quant.int8(kernel, scales)
        self.kernel = _constant(integers * (scales / magnitudes))
        bias = np.float32(0) if layer.bias is None else layer.bias.numpy()
        self.bias = _constant(
            np.broadcast_to(bias / magnitudes, scales.shape)
        )

    def call(self, inputs):
        return tf.matmul(inputs, self.kernel) + self.bias


class BakedEmbedding(keras.layers.Layer):
    """An embedding whose table is on the int8 grid.

    Tables are read by GATHER or a slice, which do not say a scale: unlike
    kernels they need fake quantization, which per tensor converts.
    """

    def __init__(self, layer: QuantizedEmbedding):
        super().__init__(name=layer.name, dtype="float32")
        table = layer.embeddings.numpy()
        scale = fake_quant.weight_scales(table, per_channel=False)
        integers = fake_quant.int8(table, scale)
        self.embeddings = _constant(integers * scale)
        self._largest = float(127 * scale)
        self._is_position = isinstance(layer.layer, layers.PositionEmbedding)

    def call(self, inputs):
        table = tf.quantization.fake_quant_with_min_max_args(
            self.embeddings, -self._largest, self._largest, narrow_range=True
        )
        if not self._is_position:
            return tf.gather(table, inputs)
        # The shape of the trace is static: a slice by constants.
        return tf.expand_dims(table[: tf.shape(inputs)[1]], 0)


class FixedRange(keras.layers.Layer):
    """Fake quantization of activations by ranges that are constants."""

    def __init__(self, layer: ActivationQuantizer):
        super().__init__(name=layer.name, dtype="float32")
        minimum, maximum = layer.minimum.numpy(), layer.maximum.numpy()
        if not np.max(maximum - minimum) >= fake_quant.NO_WIDTH:
            raise ValueError(
                f"{layer.name} has no range of activations yet: train the "
                "quantized model, or call tf_pof.quantization.calibrate."
            )
        self._multipliers = None
        if layer.per_channel:
            # Of what `BakedDense` has divided; 0 is level 0.
            minimum, maximum = -128 / 127, 1
            self._multipliers = _constant(layer.channel_magnitudes())
        self._minimum, self._maximum = float(minimum), float(maximum)

    def call(self, inputs):
        rounded = tf.quantization.fake_quant_with_min_max_args(
            inputs, self._minimum, self._maximum
        )
        if self._multipliers is None:
            return rounded
        return rounded * self._multipliers


class FloatIsland(keras.layers.Layer):
    """Keeps the converter from computing a layer in int8.

    SOFTMAX and TANH have a fixed int8 range in TFLite, which the converter
    takes without being asked: probabilities would be multiples of 1/256, and
    no attention over 512 tokens would be left. It stops at an operator that
    TFLite has in float alone; `cleanup` takes that out of the file.

    Args:
        layer: of one input, or of a list whose last one is parted from what
            comes before.
        after: whether to part the layer from what follows, too.
    """

    def __init__(self, layer: keras.layers.Layer, after: bool = False):
        super().__init__(name=layer.name, dtype="float32")
        self._layer, self._after = layer, after

    def call(self, inputs):
        if isinstance(inputs, (list, tuple)):
            inputs = [*inputs[:-1], tf.floor(inputs[-1])]
        else:
            inputs = tf.floor(inputs)
        outputs = self._layer(inputs)
        return tf.floor(outputs) if self._after else outputs
