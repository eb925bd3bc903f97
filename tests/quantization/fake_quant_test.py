"""The int8 grids, by numpy, by TensorFlow's op and by TFLite's converter."""

import tf_pof  # noqa: F401  (legacy Keras before TensorFlow)

from ai_edge_litert.interpreter import Interpreter
from hypothesis import example, given, settings, strategies as st
import numpy as np
import pytest
import tensorflow as tf

from tf_pof.quantization import fake_quant


def kernel_of(seed=0, shape=(24, 10)):
    """Normal numbers of many sizes, 60 % zeros, a column of zeros."""
    rng = np.random.default_rng(seed)
    kernel = rng.normal(size=shape) * 10.0 ** rng.integers(-6, 4, shape[1])
    kernel[rng.random(shape) < 0.6] = 0
    kernel[:, 3] = 0
    return kernel.astype(np.float32)


def test_every_output_channel_has_its_own_127_levels_a_side():
    kernel = kernel_of()
    scales = fake_quant.weight_scales(kernel, per_channel=True)
    levels = fake_quant.int8(kernel, scales)
    assert scales.dtype == np.float32 and scales.shape == (10,)
    for column, scale, integers in zip(kernel.T, scales, levels.T):
        if not column.any():
            assert scale == 1 and not integers.any()
            continue
        assert scale == np.abs(column).max() / np.float32(127)
        assert np.abs(integers.astype(int)).max() == 127
        error = np.abs(integers * scale.astype(float) - column)
        assert error.max() <= 0.5001 * scale
        # Zeros are 0, and nothing above half a step is.
        assert not integers[column == 0].any()
        assert integers[np.abs(column) > 0.501 * scale].all()


def test_a_table_has_one_scale():
    kernel = kernel_of()
    scale = fake_quant.weight_scales(kernel, per_channel=False)
    assert scale.shape == () and scale == np.abs(kernel).max() / np.float32(127)
    levels = fake_quant.int8(kernel, scale)
    assert np.abs(levels.astype(int)).max() == 127
    assert fake_quant.weight_scales(np.zeros((2, 3)), False) == 1


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("per_channel", [False, True])
def test_rounded_weights_are_integers_times_scales(per_channel, jit_compile):
    kernel = kernel_of(1)
    kernel[:, 7] = 1e-44
    scales = fake_quant.weight_scales(kernel, per_channel)
    rounded = tf.function(fake_quant.weights, jit_compile=jit_compile)
    found = rounded(tf.constant(kernel), per_channel).numpy()
    expected = fake_quant.int8(kernel, scales) * scales
    np.testing.assert_allclose(found, expected, rtol=2e-7)
    if not jit_compile:
        np.testing.assert_array_equal(found, expected)
    # Bitwise: no -0.0 for a zero.
    assert not found[kernel == 0].view(np.uint32).any()
    found = fake_quant.weight_scales(tf.constant(kernel), per_channel)
    np.testing.assert_array_equal(found, scales)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_gradients_pass_weights_straight_through(jit_compile):
    kernel = tf.Variable(kernel_of())

    @tf.function(jit_compile=jit_compile)
    def gradient(upstream):
        with tf.GradientTape() as tape:
            rounded = fake_quant.weights(tf.convert_to_tensor(kernel), True)
            loss = tf.reduce_sum(rounded * upstream)
        return tape.gradient(loss, kernel)

    upstream = np.random.default_rng(0).normal(size=(24, 10))
    upstream = upstream.astype(np.float32)
    np.testing.assert_array_equal(gradient(upstream), upstream)


def test_activation_parameters_by_hand():
    parameters = fake_quant.activation_parameters
    # Steps of 1/64: 0 is 64 steps above the least value.
    assert parameters(-1.0, 191 / 64) == (1 / 64, -64)
    assert parameters(0.0, 255.0) == (1.0, -128)
    assert parameters(-255.0, 0.0) == (1.0, 127)
    # 126.5 steps: half a step is rounded up.
    assert parameters(-126.5 / 64, 128.5 / 64) == (1 / 64, -1)
    assert parameters(0.0, 0.0) == (1.0, -128)
    assert parameters(-1e-30, 1e-30) == (1.0, -128)


@pytest.mark.parametrize(
    "range_", [(0.5, 1.0), (-2.0, -1.0), (0.0, np.inf), (np.nan, 1.0)]
)
def test_ranges_without_zero_are_refused(range_):
    with pytest.raises(ValueError, match="must be finite and hold 0"):
        fake_quant.activation_parameters(*range_)


RANGES = [
    *((-(k + 0.5) / 64, (255 - k - 0.5) / 64) for k in (0, 3, 100, 127, 254)),
    (0.0, 3.0),
    (-2.0, 0.0),
    (0.0, 1e-3),
    (-0.68, 1.02),
    (-2.8, 6.05),
    (-3.28, 0.0012),
    (-1e-5, 700.0),
]


def test_the_converter_finds_the_same_scales_and_zero_points():
    """Of every range as the input of a FULLY_CONNECTED."""

    @tf.function(input_signature=[tf.TensorSpec([1, 4])])
    def graph(x):
        results = []
        for i, (minimum, maximum) in enumerate(RANGES):
            y = tf.quantization.fake_quant_with_min_max_args(
                x, minimum, maximum
            )
            w = tf.quantization.fake_quant_with_min_max_vars(
                tf.eye(4) * (i + 1), -127.0, 127.0, narrow_range=True
            )
            results.append(
                tf.quantization.fake_quant_with_min_max_args(y @ w, -1, 1)
            )
        return results

    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [graph.get_concrete_function()], tf.Module()
    )
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    interpreter = Interpreter(model_content=converter.convert())
    found = {
        (np.float32(t["quantization"][0]).item(), t["quantization"][1])
        for t in interpreter.get_tensor_details()
    }
    for minimum, maximum in RANGES:
        expected = fake_quant.activation_parameters(minimum, maximum)
        assert expected in found, (minimum, maximum)


# Half-way between two zero points in float32, but not in float64.
@example(np.float32(-1.9).item(), 1.5)
@settings(max_examples=60, deadline=None)
@given(
    st.floats(-100, 0, width=32),
    st.floats(np.float32(1e-3).item(), 100, width=32),
)
def test_activations_are_the_levels_of_scale_and_zero_point(minimum, maximum):
    scale, zero_point = fake_quant.activation_parameters(minimum, maximum)
    least, largest = (-128 - zero_point) * scale, (127 - zero_point) * scale
    x = np.linspace(least - scale, largest + scale, 999, dtype=np.float32)
    x = np.append(x, np.float32(0))
    found = fake_quant.activations(
        tf.constant(x), tf.constant(minimum), tf.constant(maximum)
    ).numpy()
    levels = found / scale + zero_point
    assert found[-1] == 0
    np.testing.assert_allclose(levels, np.rint(levels), atol=1e-3)
    assert np.rint(levels).min() == -128 and np.rint(levels).max() == 127
    exact = np.clip(x, least, largest)
    np.testing.assert_allclose(found, exact, atol=0.5001 * scale)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_gradients_stop_where_activations_are_clipped(jit_compile):
    @tf.function(jit_compile=jit_compile)
    def gradient(x, minimum, maximum):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = fake_quant.activations(x, minimum, maximum)
        return y, tape.gradient(y, x)

    x = tf.constant([-1.5, -0.9, 0.0, 1.9, 2.1])
    _, found = gradient(x, tf.constant(-1.0), tf.constant(2.0))
    np.testing.assert_array_equal(found, [0, 1, 1, 1, 0])
    # Without a range it is the identity, and nothing is NaN.
    y, found = gradient(x, tf.constant(0.0), tf.constant(0.0))
    np.testing.assert_array_equal(y, x)
    np.testing.assert_array_equal(found, np.ones(5))


@pytest.mark.parametrize("jit_compile", [False, True])
def test_gradients_of_channels_stop_at_their_ends(jit_compile):
    x = tf.constant([[0.99, 2.0], [-1.1, 30.0], [0.3, -39.0]])
    ends = tf.constant([1.0, 38.1])

    @tf.function(jit_compile=jit_compile)
    def channels(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = fake_quant.channels(x, -0.5 * ends, ends)
        return y, tape.gradient(y, x)

    y, gradient = channels(x)
    steps = ends.numpy() / 127
    levels = np.clip(np.rint(x.numpy() / steps), -128, 127)
    np.testing.assert_allclose(y, levels * steps, rtol=1e-5)
    np.testing.assert_array_equal(gradient, [[1, 1], [0, 1], [1, 0]])


def test_channels_of_no_width_are_left_alone():
    x = tf.constant([[0.99, 2.0], [-1.1, 30.0]])
    nothing = tf.zeros([2])
    np.testing.assert_array_equal(fake_quant.channels(x, nothing, nothing), x)
