"""A hundred steps of pruning, worked out a second time in numpy."""

import tf_pof  # noqa: F401  (legacy Keras before TensorFlow)

import numpy as np
import pytest
import tensorflow as tf

from tf_pof._keras import keras
from tf_pof.distillation import Distiller
from tf_pof.pruning.schedules import PruneOnceSchedule
from tf_pof.pruning.wrapper import prune
from tf_pof.training.settings import TrainingSettings

STEPS, WARMUP = 100, 5
BEGIN, RAMP_END, END, FREQUENCY, FINAL = 10, 60, 80, 7, 0.9
PEAK, DECAY, CLIP = 0.02, 0.1, 0.5
BATCH, INPUTS, UNITS = 8, 10, 12


def rate(t):
    """The published code's, with the ramp's steps taken out of the fall."""
    ramp = RAMP_END - BEGIN
    if t < WARMUP:
        return PEAK * t / WARMUP
    if t < BEGIN:
        left = STEPS - ramp - t
    elif t < RAMP_END:
        left = STEPS - ramp - t + (t - BEGIN) // FREQUENCY * FREQUENCY
    else:
        left = STEPS - t
    return PEAK * left / (STEPS - ramp - WARMUP)


def mask_at(t, kernel, mask):
    """Zhu & Gupta 2017: the smallest magnitudes of a cubic share go."""
    if not BEGIN <= t <= END or (t - BEGIN) % FREQUENCY:
        return mask
    p = min((t - BEGIN) / (RAMP_END - BEGIN), 1)
    pruned = int(FINAL * (1 - (1 - p) ** 3) * kernel.size)
    mask = np.ones(kernel.size, bool)
    mask[np.abs(kernel).ravel().argsort()[:pruned]] = False
    return mask.reshape(kernel.shape)


def gradients(weights, mask, x, y):
    """Of the mean squared error of a tanh layer and a linear one."""
    kernel, bias, out, out_bias = weights
    hidden = np.tanh(x @ (kernel * mask) + bias)
    error = 2 * (hidden @ out + out_bias - y) / len(y)
    inner = error @ out.T * (1 - hidden**2)
    # A masked weight has no gradient, but moments and decay go on.
    return [
        x.T @ inner * mask,
        inner.sum(0),
        hidden.T @ error,
        error.sum(0),
    ]


def train(weights, data, lag):
    """Kernel and mask after each step; the step's own mask comes `lag` later.

    AdamW of Loshchilov & Hutter 2019 in float64, gradients clipped together,
    no decay on biases.
    """
    weights = [w.astype(np.float64) for w in weights]
    m = [np.zeros_like(w) for w in weights]
    v = [np.zeros_like(w) for w in weights]
    mask = np.ones(weights[0].shape, bool)
    for t, (x, y) in enumerate(data):
        if t == 0 and not lag:
            mask = mask_at(0, weights[0], mask)
        grads = gradients(weights, mask, x, y)
        norm = np.sqrt(sum((g**2).sum() for g in grads))
        for i, g in enumerate(grads):
            g = g * min(1.0, CLIP / norm)
            m[i] = 0.9 * m[i] + 0.1 * g
            v[i] = 0.999 * v[i] + 0.001 * g * g
            if i in (0, 2):
                weights[i] *= 1 - rate(t) * DECAY
            m_hat = m[i] / (1 - 0.9 ** (t + 1))
            v_hat = v[i] / (1 - 0.999 ** (t + 1))
            weights[i] -= rate(t) * m_hat / (np.sqrt(v_hat) + 1e-8)
        mask = mask_at(t + 1 - lag, weights[0], mask)
        yield weights[0].copy(), mask.copy()


class Record(keras.callbacks.Callback):
    """Kernel and mask of the pruned layer after each step."""

    def __init__(self, student):
        super().__init__()
        self.layer = student.layers[1]
        self.seen = []

    def on_train_batch_end(self, batch, logs=None):
        ((weight, mask, _),) = self.layer.pruning_vars
        self.seen.append((weight.numpy(), mask.numpy()))


@pytest.mark.parametrize("mask_update", ["before_step", "after_step"])
def test_a_hundred_steps_are_those_of_the_formulas(mask_update):
    keras.utils.set_random_seed(5)
    inputs = keras.Input([INPUTS])
    x = keras.layers.Dense(UNITS, name="d")(inputs)
    x = keras.layers.Activation("tanh")(x)
    outputs = keras.layers.Dense(1, name="out")(x)
    schedule = PruneOnceSchedule(0, FINAL, BEGIN, RAMP_END, END, FREQUENCY)
    student = prune(keras.Model(inputs, outputs), schedule, prunable="^d$")
    settings = TrainingSettings(
        model="m",
        output="o",
        batch_size=BATCH,
        learning_rate=PEAK,
        train_steps=STEPS,
        learning_rate_schedule="rewind",
        warmup_fraction=WARMUP / STEPS,
        weight_decay=DECAY,
        clip_norm=CLIP,
        schedule=schedule,
        ramp_end_step=RAMP_END,
        mask_update=mask_update,
    )
    distiller = Distiller(student, **settings.distillation())
    distiller.compile(settings.optimizer(), "mse")
    r = np.random.default_rng(6)
    truth = r.normal(size=(INPUTS, 1))
    x = r.normal(size=(STEPS, BATCH, INPUTS)).astype(np.float32)
    y = np.sin(x @ truth).astype(np.float32)
    start = [w.numpy() for w in student.trainable_weights]
    assert [w.shape for w in start] == [
        (INPUTS, UNITS), (UNITS,), (UNITS, 1), (1,)
    ]
    record = Record(student)
    data = tf.data.Dataset.from_tensor_slices((x, y))
    distiller.fit(data, callbacks=[record], verbose=0)
    lag = ["before_step", "after_step"].index(mask_update)
    expected = list(train(start, zip(x, y), lag))
    assert len(record.seen) == STEPS
    for t, (got, (kernel, mask)) in enumerate(zip(record.seen, expected)):
        np.testing.assert_array_equal(got[1], mask, f"mask of step {t}")
        np.testing.assert_allclose(
            got[0], kernel, rtol=2e-3, atol=2e-5, err_msg=f"step {t}"
        )
    # The first selection that prunes is that of step 17.
    masked = [int((~mask).sum()) for _, mask in record.seen]
    assert masked[15 + lag] == 0 < masked[16 + lag]
    assert masked[-1] == int(FINAL * INPUTS * UNITS)
