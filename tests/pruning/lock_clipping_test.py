"""Gradients of locked zeros are none: they do not count in clipping."""

import numpy as np
import pytest
import tensorflow as tf

from tf_pof._keras import keras
from tf_pof.distillation import Distiller
from tf_pof.pruning import lock

X = np.random.default_rng(0).normal(size=(8, 6)).astype(np.float32)
Y = 5 * X[:, :2]
RATE = 0.5


def sparse_model(policy=None, rows=None):
    """A kernel with 18 of 24 zeros, or a table with them, and an output."""
    keras.utils.set_random_seed(1)
    if rows:
        inputs = keras.Input([3], dtype="int32")
        layer = keras.layers.Embedding(rows, 4, name="sparse", dtype=policy)
        x = keras.layers.Flatten()(layer(inputs))
    else:
        inputs = keras.Input([6])
        layer = keras.layers.Dense(4, name="sparse", dtype=policy)
        x = layer(inputs)
    outputs = keras.layers.Dense(2, name="out", dtype="float32")(x)
    model = keras.Model(inputs, outputs)
    weight = model.get_layer("sparse").weights[0]
    values = np.random.default_rng(3).normal(size=weight.shape)
    values.reshape(-1)[np.arange(weight.shape.num_elements()) % 4 > 0] = 0
    weight.assign(values)
    return model


def live_gradients(model, x):
    """By name of the variable, with zeros where a weight is zero."""
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean((tf.cast(model(x), tf.float32) - Y) ** 2)
    gradients = tape.gradient(loss, model.trainable_variables)
    return {
        v.name: np.where(
            "sparse" in v.name and v.shape.rank == 2, v.numpy() != 0, True
        )
        * tf.convert_to_tensor(g).numpy()
        for g, v in zip(gradients, model.trainable_variables)
    }


def clipped(gradients, kind, bound):
    if kind == "clipvalue":
        return {k: np.clip(g, -bound, bound) for k, g in gradients.items()}
    norms = {k: np.linalg.norm(g) for k, g in gradients.items()}
    if kind == "global_clipnorm":
        total = np.linalg.norm(list(norms.values()))
        norms = dict.fromkeys(norms, total)
    return {k: g * min(1, bound / norms[k]) for k, g in gradients.items()}


def assert_one_step(model, x, optimizer, kind, jit=False, atol=1e-4):
    """Trains a step of SGD, and compares it with the formula."""
    bound = 0.3
    gradients = live_gradients(model, x)
    live = clipped(gradients, kind, bound)
    assert any(np.abs(live[k] - g).max() > 0.01 for k, g in gradients.items())
    before = {v.name: v.numpy() for v in model.trainable_variables}
    model.compile(optimizer, "mse", jit_compile=jit)
    model.fit(x, Y, batch_size=8, epochs=1, verbose=0)
    assert int(model.optimizer.iterations) == 1
    for variable in model.trainable_variables:
        name = variable.name
        np.testing.assert_allclose(
            variable.numpy(),
            before[name] - RATE * live[name],
            atol=atol,
            rtol=0,
        )


KINDS = ("global_clipnorm", "clipnorm", "clipvalue")


@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", ["new", "legacy"])
def test_fit_clips_live_gradients(kind, family, jit):
    model = lock.lock(sparse_model(), ["sparse"])
    optimizers = keras.optimizers
    if family == "legacy":
        optimizers = optimizers.legacy
    optimizer = optimizers.SGD(RATE, **{kind: 0.3})
    assert_one_step(model, X, optimizer, kind, jit)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("kind", KINDS)
def test_mixed_precision_clips_live_gradients(kind, policy):
    model = lock.lock(sparse_model(policy), ["sparse"])
    optimizer = keras.optimizers.SGD(RATE, **{kind: 0.3})
    if policy == "mixed_float16":
        optimizer = keras.mixed_precision.LossScaleOptimizer(
            optimizer, dynamic=False, initial_scale=16.0
        )
    # bfloat16 has eight bits, and gradients before clipping are about 5.
    assert_one_step(model, X, optimizer, kind, atol=1e-2)


def test_gradients_of_looked_up_rows_are_live_ones_too():
    model = lock.lock(sparse_model(rows=24), ["sparse"])
    # Each row once: Keras counts those of repeated rows one by one.
    x = np.arange(24).reshape(8, 3)
    optimizer = keras.optimizers.SGD(RATE, global_clipnorm=0.3)
    assert_one_step(model, x, optimizer, "global_clipnorm")


def test_a_head_of_ones_own_and_a_distiller_clip_alike():
    results = []
    for kind in ("plain", "head", "distiller"):
        model = lock.lock(sparse_model(), ["sparse"])
        trained = model
        if kind == "head":
            trained = keras.Model(model.input, model.output)
        elif kind == "distiller":
            trained = Distiller(model, hard_loss_weight=1.0)
        trained.compile(keras.optimizers.SGD(RATE, global_clipnorm=0.3), "mse")
        trained.fit(X, Y, batch_size=8, verbose=0)
        results.append(model.get_weights())
    for other in results[1:]:
        for a, b in zip(results[0], other):
            np.testing.assert_allclose(a, b, atol=1e-6)


def test_without_a_lock_clipping_is_keras_own():
    lock.lock(sparse_model(), ["sparse"])  # The optimizers know of locks now.
    model = sparse_model()
    free = live_gradients(model, X)
    before = model.get_layer("sparse").kernel.numpy()
    model.compile(keras.optimizers.SGD(RATE, global_clipnorm=0.3), "mse")
    model.fit(X, Y, batch_size=8, verbose=0)
    moved = model.get_layer("sparse").kernel.numpy() - before
    assert np.abs(moved[before == 0]).max() > 0.01
    total = np.sqrt(sum((g**2).sum() for g in free.values()))
    live = RATE * free["sparse/kernel:0"][before != 0] * 0.3 / total
    # The zeros count here, so that the rest moves less.
    assert (np.abs(moved[before != 0]) < np.abs(live)).all()
