"""The int8 grids of Q8BERT, and float arithmetic that stays on them.

Zafrir et al. 2019, arXiv 1910.06188, with TFLite's conventions: weights are
q * scale with q in [-127, 127], activations (q - zero_point) * scale with q in
[-128, 127].

TF-MOT's quantizers and wrappers cannot carry a BERT: they fail on int32 ids,
on attention and other layers of several inputs, and under mixed precision;
their layout transforms rewrite the graph; MovingAverageQuantizer begins at
[-6, 6], moves by .001 a step and cannot be frozen; and XLA's per-channel op
gives NaN on a channel of zeros. So only the op that they are made of, fake
quantization by range, is used here, for activations.
"""

import math

import numpy as np
import tensorflow as tf

_WEIGHT_LEVELS = 127
_LOWEST, _HIGHEST = -128, 127
# Narrower ranges are none to TFLite's converter either.
NO_WIDTH = float(np.finfo(np.float64).eps)


def weight_scales(kernel, per_channel: bool):
    """Distances of the levels of a kernel or table.

    Args:
        kernel: [in, out] float32, a tensor or an array.
        per_channel: a scale for every output (the last axis) instead of one.

    Returns:
        float32 [out] or []: max|w| / 127, and 1 where all weights are zero. A
        tensor of a tensor, an array of an array.
    """
    if not tf.is_tensor(kernel):
        axis = tuple(range(np.ndim(kernel) - 1)) if per_channel else None
        largest = np.max(np.abs(kernel), axis).astype(np.float32)
        scales = largest / np.float32(_WEIGHT_LEVELS)
        # Of the smallest floats a 127th is 0.
        return np.where(scales == 0, np.float32(1), scales)
    axis = list(range(kernel.shape.rank - 1)) if per_channel else None
    # Not the maximum of |w|: that would write a copy of large tables.
    largest = tf.maximum(
        tf.reduce_max(kernel, axis), -tf.reduce_min(kernel, axis)
    )
    scales = largest / tf.constant(_WEIGHT_LEVELS, tf.float32)
    return tf.where(tf.equal(scales, 0.0), 1.0, scales)


def int8(kernel: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """The integers that stand for a kernel; zeros are 0.

    Args:
        kernel: [in, out] float32.
        scales: of `weight_scales`.

    Returns:
        int8 of the kernel's shape, in [-127, 127].
    """
    levels = np.rint(np.asarray(kernel, np.float32) / scales)
    return np.clip(levels, -_WEIGHT_LEVELS, _WEIGHT_LEVELS).astype(np.int8)


def weights(kernel: tf.Tensor, per_channel: bool) -> tf.Tensor:
    """A kernel or table rounded to its grid; its gradient is the result's.

    Args:
        kernel: [in, out] float32.
        per_channel: see `weight_scales`.

    Returns:
        float32 of the same shape: `int8(kernel, scales) * scales`.
    """

    @tf.custom_gradient
    def straight_through(kernel):
        scales = weight_scales(kernel, per_channel)
        levels = tf.clip_by_value(
            tf.round(kernel / scales), -_WEIGHT_LEVELS, _WEIGHT_LEVELS
        )
        return levels * scales, lambda gradient: gradient

    return straight_through(kernel)


def activation_parameters(
    minimum: float, maximum: float
) -> tuple[float, int]:
    """Scale and zero point of a range, as TFLite's converter nudges them.

    Follows fakeQuantAttrsToType of MLIR's FakeQuantSupport.cpp, in double
    precision and on [0, 255], from where the converter shifts by -128.

    Args:
        minimum: <= 0, float32.
        maximum: >= 0, float32.

    Returns:
        scale: a float32 number, > 0; 1 for a range of no width.
        zero_point: in [-128, 127], the integer that stands for 0.

    Raises:
        ValueError: if the range lacks 0 or is not finite.
    """
    minimum, maximum = (float(np.float32(x)) for x in (minimum, maximum))
    check_range(minimum, maximum)
    if maximum - minimum < NO_WIDTH:
        return 1.0, _LOWEST
    levels = _HIGHEST - _LOWEST
    scale = (maximum - minimum) / levels
    # Of the two ends the one with the smaller rounding error.
    if abs(minimum) < levels * scale + abs(maximum):
        zero_point = -minimum / scale
    else:
        zero_point = levels - maximum / scale
    # Halves are rounded up, as C's round does and Python's does not.
    zero_point = math.floor(min(max(zero_point, 0), levels) + 0.5)
    return float(np.float32(scale)), zero_point + _LOWEST


def check_range(minimum, maximum, name: str = "") -> None:
    """Raises ValueError unless a range, or each of several, is finite and
    holds 0."""
    least, largest = np.min(minimum), np.max(maximum)
    is_finite = np.isfinite(least) and np.isfinite(largest)
    if not is_finite or np.max(minimum) > 0 or np.min(maximum) < 0:
        raise ValueError(
            f"The range [{least}, {largest}]{name and f' of {name}'} must be "
            "finite and hold 0, so that 0 has a level."
        )


def activations(
    inputs: tf.Tensor, minimum: tf.Tensor, maximum: tf.Tensor
) -> tf.Tensor:
    """Activations rounded to the 256 levels of a range, and clipped to it.

    The gradient is the result's inside the range and 0 outside.

    Args:
        inputs: float32 of any shape.
        minimum, maximum: scalar float32; holding 0 between them. A range of
            no width, which nothing was observed for, leaves the inputs alone.

    Returns:
        float32 of the inputs' shape.
    """
    has_width = maximum - minimum >= NO_WIDTH
    # XLA gives NaN for a range of no width, and NaN stays NaN in gradients.
    maximum = tf.where(has_width, maximum, 1.0)
    rounded = tf.quantization.fake_quant_with_min_max_vars(
        inputs, *_nudged(minimum, maximum), num_bits=8
    )
    return tf.where(has_width, rounded, inputs)


def channel_magnitudes(minimum, maximum):
    """Half the width of a symmetric range for every channel.

    Args:
        minimum: [channels] float32, <= 0, a tensor or an array.
        maximum: [channels] float32, >= 0.

    Returns:
        float32 [channels], a tensor of tensors: the larger end, and the
        largest of all where nothing was observed.
    """
    xp = tf if tf.is_tensor(maximum) else np
    magnitudes = xp.maximum(-minimum, maximum)
    largest = tf.reduce_max if xp is tf else np.max
    return xp.where(magnitudes > 0, magnitudes, largest(magnitudes))


def channels(
    inputs: tf.Tensor, minimum: tf.Tensor, maximum: tf.Tensor
) -> tf.Tensor:
    """Activations rounded to levels q * magnitude / 127, q in [-128, 127].

    The gradient is the result's between the ends and 0 beyond.

    Args:
        inputs: [..., channels] float32.
        minimum, maximum: [channels] float32, see `channel_magnitudes`. If all
            are 0 the inputs are left alone.

    Returns:
        float32 of the inputs' shape.
    """
    magnitudes = channel_magnitudes(minimum, maximum)
    has_width = magnitudes > 0
    steps = tf.where(has_width, magnitudes, 1.0) / _HIGHEST
    clipped = tf.clip_by_value(inputs, _LOWEST * steps, _HIGHEST * steps)
    rounded = tf.round(clipped / steps) * steps
    rounded = clipped + tf.stop_gradient(rounded - clipped)
    return tf.where(has_width, rounded, inputs)


def _nudged(minimum, maximum):
    """The range with 0 on a level, as `activation_parameters` has it.

    TensorFlow's op nudges too, but in float32, where a zero point near a half
    may be rounded to the other side; this leaves it nothing to decide.
    """
    minimum = tf.cast(minimum, tf.float64)
    maximum = tf.cast(maximum, tf.float64)
    levels = _HIGHEST - _LOWEST
    scale = (maximum - minimum) / levels
    zero_point = tf.where(
        -minimum < levels * scale + maximum,
        -minimum / scale,
        levels - maximum / scale,
    )
    zero_point = tf.floor(tf.clip_by_value(zero_point, 0, levels) + 0.5)
    least, largest = -zero_point * scale, (levels - zero_point) * scale
    return tf.cast(least, tf.float32), tf.cast(largest, tf.float32)
