import tf_pof  # noqa: F401  (legacy Keras before TensorFlow)

import numpy as np
import pytest
import tensorflow as tf

from tf_pof._keras import keras
from tf_pof.training.optimizer import adamw, learning_rate_schedule


def test_linear_rate_by_arithmetic():
    rate = learning_rate_schedule("linear", 5e-5, 100_000, 1000)
    expected = {
        0: 0.0,
        500: 2.5e-5,
        1000: 5e-5,
        10_000: 5e-5 * 90 / 99,
        50_500: 2.5e-5,
        100_000: 0.0,
    }
    for step, value in expected.items():
        np.testing.assert_allclose(rate(step), value, rtol=1e-5, atol=1e-12)


def test_flat_then_linear_rate_by_arithmetic():
    rate = learning_rate_schedule(
        "flat_then_linear", 5e-5, 100_000, 1000, 50_000
    )
    expected = {
        0: 0.0,
        500: 2.5e-5,
        1000: 5e-5,
        10_000: 5e-5,
        50_000: 5e-5,
        80_000: 2e-5,
        100_000: 0.0,
    }
    for step, value in expected.items():
        np.testing.assert_allclose(rate(step), value, rtol=1e-5, atol=1e-12)


def rewound(t, n, warmup, begin, end, frequency):
    """The published code's rate at step t, in its own steps."""
    ramp = end - begin
    if t < warmup:
        return t / warmup
    if begin <= t < end:
        taken_back = (t - begin) // frequency * frequency
        left = n - ramp - t + taken_back
    elif t < begin:
        left = n - ramp - t
    else:
        left = n - t
    return left / (n - ramp - warmup)


@pytest.mark.parametrize(
    "begin,warmup", [(0, 1000), (0, 0), (12_000, 2000), (300, 700)]
)
def test_rewound_rate_is_the_published_code_s(begin, warmup):
    n, end, frequency = 100_000, 50_000, 1000
    rate = learning_rate_schedule(
        "rewind", 5e-5, n, warmup, end, begin, frequency
    )
    steps = {0, 1, 299, 300, 500, 699, 700, 999, 1000, 1999, 2000, 11_999}
    steps |= {12_000, 12_001, 12_999, 13_000, 30_987, 49_999, 50_000, 50_001}
    for step in sorted(steps | {80_000, 99_999, 100_000}):
        expected = 5e-5 * rewound(step, n, warmup, begin, end, frequency)
        np.testing.assert_allclose(
            rate(step), expected, rtol=1e-5, atol=1e-12, err_msg=str(step)
        )


def test_steps_outside_the_run_are_refused():
    for kind in ("rewind", "flat_then_linear"):
        with pytest.raises(ValueError, match="not within the 100"):
            learning_rate_schedule(kind, 1.0, 100, 10, 100)
    with pytest.raises(ValueError, match="50 is not within the 50"):
        learning_rate_schedule("rewind", 1.0, 100, 50, 50)
    with pytest.raises(ValueError, match="linear, rewind, flat_then_linear"):
        learning_rate_schedule("cosine", 1.0, 100)


def adamw_in_numpy(values, gradients, decayed, rates, clip, decay):
    """Loshchilov & Hutter 2019, in float64, gradients clipped together."""
    values = [v.astype(np.float64) for v in values]
    m = [np.zeros_like(v) for v in values]
    s = [np.zeros_like(v) for v in values]
    for t, (step, rate) in enumerate(zip(gradients, rates), 1):
        norm = np.sqrt(sum((g.astype(np.float64) ** 2).sum() for g in step))
        factor = min(1.0, clip / norm)
        for i, g in enumerate(step):
            g = g.astype(np.float64) * factor
            if decayed[i]:
                values[i] -= rate * decay * values[i]
            m[i] = 0.9 * m[i] + 0.1 * g
            s[i] = 0.999 * s[i] + 0.001 * g * g
            m_hat, s_hat = m[i] / (1 - 0.9**t), s[i] / (1 - 0.999**t)
            values[i] -= rate * m_hat / (np.sqrt(s_hat) + 1e-8)
    return values


@pytest.mark.parametrize("jit", [False, True])
def test_updates_follow_adamw_without_decay_on_norms_and_biases(jit):
    r = np.random.default_rng(0)
    names = ["dense/kernel", "dense/bias", "layer_0_layer_norm/gamma"]
    start = [r.normal(size=s).astype(np.float32) for s in ((3, 4), (4,), (4,))]
    gradients = [
        [3 * r.normal(size=v.shape).astype(np.float32) for v in start]
        for _ in range(5)
    ]
    variables = [tf.Variable(v, name=n) for v, n in zip(start, names)]
    schedule = learning_rate_schedule("linear", 0.1, 5, 2)
    optimizer = adamw(schedule, weight_decay=0.3, clip_norm=1.0)
    optimizer.build(variables)

    @tf.function(jit_compile=jit)
    def step(*gradients):
        optimizer.apply_gradients(zip(gradients, variables))

    for g in gradients:
        step(*g)
    expected = adamw_in_numpy(
        start,
        gradients,
        [True, False, False],
        [0.0, 0.05, 0.1, 0.1 * 2 / 3, 0.1 / 3],
        1.0,
        0.3,
    )
    for got, value in zip(variables, expected):
        np.testing.assert_allclose(got.numpy(), value, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", ["rewind", "flat_then_linear"])
def test_optimizer_survives_serialization(kind):
    optimizer = adamw(learning_rate_schedule(kind, 1e-3, 10, 1, 5))
    config = keras.optimizers.serialize(optimizer)
    again = keras.optimizers.deserialize(config)
    assert type(again) is type(optimizer)
    # 3 steps of 5 - 1, or of 5.
    steps = {"rewind": 4, "flat_then_linear": 5}[kind]
    np.testing.assert_allclose(
        again._learning_rate(7), 1e-3 * 3 / steps, rtol=1e-5
    )
