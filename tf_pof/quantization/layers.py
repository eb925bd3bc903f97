"""Layers that compute as int8 inference will: weights and activations."""

import contextlib
import enum

from tf_pof._keras import keras

import numpy as np
import tensorflow as tf
from tf_keras.src.mixed_precision import autocast_variable

from tf_pof.models.layers import config_of_wrapper
from tf_pof.quantization import fake_quant

_register = keras.utils.register_keras_serializable(package="tf_pof")


class Phase(enum.IntEnum):
    """What the layers of a quantized model do while it is trained."""

    # Ranges of activations are learned, nothing is rounded.
    OBSERVE = 0
    # Ranges go on moving; weights and activations are rounded.
    QUANTIZE = 1
    # Ranges stay as they are.
    FROZEN = 2


class _Phased:
    """Mixin of layers that follow the phase of the model they are in."""

    # The model's int64 variable; without a model it is QUANTIZE.
    _phase = None

    def follow(self, phase: tf.Variable) -> None:
        """Takes the phase from a variable."""
        # Past Keras' tracking: it is the model's.
        object.__setattr__(self, "_phase", phase)

    def _rounded(self, rounded, plain):
        """The rounded tensor, or the plain one where nothing is rounded."""
        if self._phase is None:
            return rounded
        return tf.where(self._is_past(Phase.OBSERVE), rounded, plain)

    def _is_past(self, phase):
        return tf.convert_to_tensor(self._phase) > phase.value


class _QuantizedLayer(_Phased, keras.layers.Wrapper):
    """Lets a layer read a rounded weight; the variable itself stays float.

    Args:
        layer: whose weight `_weight` is rounded.
        **kwargs: Keras' own; name and dtype are the layer's.
    """

    _weight: str
    _per_channel: bool

    def __init__(self, layer, **kwargs):
        kwargs.setdefault("name", layer.name)
        # The wrapper casts inputs and opens the autocast scope, so it must
        # have the precision the layer was built with, not today's global one.
        kwargs.setdefault("dtype", layer.dtype_policy)
        super().__init__(layer, **kwargs)
        self.supports_masking = layer.supports_masking
        self._activity_regularizer = layer.activity_regularizer

    def quantized_weight(self) -> tf.Tensor:
        """The weight as the forward pass reads it, float32."""
        weight = getattr(self.layer, self._weight)
        # Rounded in float32: bfloat16 would move the levels.
        with autocast_variable.enable_auto_cast_variables(None):
            weight = tf.convert_to_tensor(weight)
        weight = tf.cast(weight, tf.float32)
        return self._rounded(
            fake_quant.weights(weight, self._per_channel), weight
        )

    @contextlib.contextmanager
    def _reading(self, **attributes):
        """Exchanges attributes of the layer while it is called."""
        before = {name: getattr(self.layer, name) for name in attributes}
        try:
            for name, value in attributes.items():
                # Past Keras' __setattr__, which would track the tensor.
                object.__setattr__(self.layer, name, value)
            yield
        finally:
            for name, value in before.items():
                object.__setattr__(self.layer, name, value)

    def get_config(self):
        return config_of_wrapper(self)

    @classmethod
    def from_config(cls, config):
        # Keras' own takes the layer for one of the legacy format.
        config = dict(config)
        return cls(keras.layers.deserialize(config.pop("layer")), **config)

    def compute_mask(self, inputs, mask=None):
        return self.layer.compute_mask(inputs, mask)

    def compute_output_shape(self, input_shape):
        return self.layer.compute_output_shape(input_shape)


@_register
class QuantizedDense(_QuantizedLayer):
    """A Dense with an int8 kernel, a scale for every output.

    It has no activation: TFLite computes `Dense(activation=...)` in float
    unless its output is quantized before, so that `quantize` makes a layer of
    its own of it. The bias, int32 in TFLite, is float here: its steps are
    those of the products that it is added to.
    """

    _weight, _per_channel = "kernel", True

    def call(self, inputs):
        kernel = tf.cast(self.quantized_weight(), self.compute_dtype)
        linear = keras.activations.linear
        with self._reading(kernel=kernel, activation=linear):
            # The class's own call: SavedModel export replaces the instance's
            # by a traced function, which keeps the kernel of its trace.
            return type(self.layer).call(self.layer, inputs)

    @property
    def kernel(self) -> tf.Variable:
        """The float kernel, [in, out]."""
        return self.layer.kernel

    @property
    def bias(self) -> tf.Variable | None:
        """[out], or None."""
        return self.layer.bias

    @property
    def units(self) -> int:
        """Outputs."""
        return self.layer.units


@_register
class QuantizedEmbedding(_QuantizedLayer):
    """An embedding with an int8 table of one scale."""

    _weight, _per_channel = "embeddings", False

    def call(self, inputs, reverse=False):
        """What the layer says; `reverse` is TokenEmbedding's."""
        kwargs = {"reverse": True} if reverse else {}
        # Embeddings cast their rows, not the table.
        with self._reading(embeddings=self.quantized_weight()):
            return type(self.layer).call(self.layer, inputs, **kwargs)

    @property
    def embeddings(self) -> tf.Variable:
        """The float table, [rows, hidden]."""
        return self.layer.embeddings


@_register
class ActivationQuantizer(_Phased, keras.layers.Layer):
    """Rounds a tensor to 256 levels of a range that it learns in training.

    Of the last axis every channel may have a range of its own, which is
    symmetric then: in TFLite the tensor has one scale, and a multiplication by
    a constant vector behind it. This is for sums: the residual stream of a BERT
    has a few channels a hundred times as wide as the others, which would leave
    these with hardly a level (Bondarenko et al. 2021, arXiv 2109.12948).

    The first batch sets the range, from its least to its largest value and 0
    in any case; then ranges of batches are averaged with weights that fall by
    `decay` a batch. Until then it is the identity. A replica's share of a
    batch and a micro batch count as batches, and replicas average their ranges
    when they are read, as with BatchNormalization.

    Args:
        decay: of the moving average, in [0, 1).
        per_channel: whether each channel has a range.
    """

    # Its variables are no weights of the model, see `models.weights`.
    is_quantizer = True

    def __init__(
        self, decay: float = 0.99, per_channel: bool = False, **kwargs
    ):
        # Inputs in another precision than the result's are rounded as they
        # are, in float32.
        super().__init__(autocast=False, **kwargs)
        if not 0 <= decay < 1:
            raise ValueError(f"decay must be in [0, 1), got {decay}.")
        self.decay, self.per_channel = decay, per_channel
        self.supports_masking = True
        # Not None while extremes of batches are collected, see `calibrate`.
        self.collected = None

    def build(self, input_shape):
        self.minimum, self.maximum = (
            self.add_weight(
                name,
                shape=input_shape[-1:] if self.per_channel else [],
                initializer="zeros",
                dtype=tf.float32,
                trainable=False,
                experimental_autocast=False,
                synchronization=tf.VariableSynchronization.ON_READ,
                aggregation=tf.VariableAggregation.MEAN,
            )
            for name in ("minimum", "maximum")
        )
        super().build(input_shape)

    def call(self, inputs, training=None):
        values = tf.cast(inputs, tf.float32)
        if self.collected is not None:
            self.collected.append(self._extremes(values))
        minimum = tf.convert_to_tensor(self.minimum)
        maximum = tf.convert_to_tensor(self.maximum)
        if training is not None and training is not False:
            minimum, maximum = self._observe(
                values, minimum, maximum, training
            )
            self.minimum.assign(minimum)
            self.maximum.assign(maximum)
        rounded = self._fake_quant(values, minimum, maximum)
        return tf.cast(self._rounded(rounded, values), self.compute_dtype)

    def _observe(self, values, minimum, maximum, training):
        """The range after a batch of training."""
        observes = tf.cast(training, tf.bool)
        if self._phase is not None:
            is_frozen = self._is_past(Phase.QUANTIZE)
            observes = tf.logical_and(observes, tf.logical_not(is_frozen))
        least, largest = tf.unstack(self._extremes(tf.stop_gradient(values)))
        is_first = maximum - minimum < fake_quant.NO_WIDTH
        keep = tf.where(is_first, 0.0, self.decay)
        # No conditional: it would double the time that tracing takes.
        return (
            tf.where(observes, keep * minimum + (1 - keep) * least, minimum),
            tf.where(observes, keep * maximum + (1 - keep) * largest, maximum),
        )

    @property
    def _fake_quant(self):
        if self.per_channel:
            return fake_quant.channels
        return fake_quant.activations

    def _extremes(self, values):
        """[2] or [2, channels]: least and largest values, 0 among them."""
        axis = list(range(values.shape.rank - 1)) if self.per_channel else None
        return tf.stack(
            [
                tf.minimum(tf.reduce_min(values, axis), 0.0),
                tf.maximum(tf.reduce_max(values, axis), 0.0),
            ]
        )

    def channel_magnitudes(self) -> np.ndarray:
        """What the channels are multiplied by behind int8 values of one scale.

        Returns:
            float32 [channels], or [] and 1 with one range for all.
        """
        if not self.per_channel:
            return np.float32(1)
        return fake_quant.channel_magnitudes(
            self.minimum.numpy(), self.maximum.numpy()
        )

    def get_config(self):
        config = {"decay": self.decay, "per_channel": self.per_channel}
        return {**super().get_config(), **config}
