"""Locked zeros stay zero, whatever trains the model."""

import numpy as np
import pytest
import tensorflow as tf

import tf_pof
from tf_pof._keras import keras
from tf_pof.pruning import lock, schedules
from tf_pof.training import optimizer as own

X = np.random.default_rng(0).normal(size=(64, 12)).astype(np.float32)
Y = X[:, :2] - X[:, 2:4]


def sparse(shape, seed=3):
    """Random values, of which about 3 in 4 are zero."""
    rng = np.random.default_rng(seed)
    values = rng.normal(0, 0.5, shape).astype(np.float32)
    return np.where(rng.random(shape) < 0.75, np.float32(0), values)


def model_of(policy=None, **kwargs):
    """Two sparse kernels, one dense one in between, and a dense output."""
    keras.utils.set_random_seed(1)
    inputs = keras.Input([12])
    x = keras.layers.Dense(16, "tanh", name="a", dtype=policy, **kwargs)(inputs)
    x = keras.layers.Dense(16, "tanh", name="dense", dtype=policy)(x)
    x = keras.layers.Dense(16, "tanh", name="b", dtype=policy)(x)
    outputs = keras.layers.Dense(2, name="out", dtype="float32")(x)
    model = keras.Model(inputs, outputs, name="small")
    for name in "ab":
        kernel = model.get_layer(name).kernel
        kernel.assign(sparse(kernel.shape))
    return model


def kernels(model):
    return {n: model.get_layer(n).kernel.numpy() for n in ("a", "dense", "b")}


def assert_locked(before, after):
    """The zeros are the same and exact, and all that lives has moved."""
    for name in before:
        zero = before[name] == 0
        assert not after[name][zero].view(np.uint32).any(), name
        assert (after[name] != before[name])[~zero].mean() > 0.9, name
    assert (before["a"] == 0).sum() > 100 < (before["b"] == 0).sum()


def fit(model, optimizer, steps=5, **kwargs):
    model.compile(optimizer, "mse", **kwargs)
    data = tf.data.Dataset.from_tensor_slices((X, Y)).batch(16).repeat()
    model.fit(data, steps_per_epoch=steps, verbose=0)
    return model


def stale(optimizer, model):
    """Fills the slots of an optimizer, as a dense training leaves them."""
    optimizer.build(model.trainable_variables)
    for variable in optimizer.variables:
        if variable.shape.rank == 2:
            variable.assign(tf.fill(variable.shape, 0.3))
    return optimizer


new, legacy = keras.optimizers, keras.optimizers.legacy
OPTIMIZERS = {
    "sgd": lambda: new.SGD(0.3),
    "nesterov": lambda: new.SGD(
        0.1, momentum=0.9, nesterov=True, weight_decay=0.1
    ),
    "adam": lambda: new.Adam(0.1),
    "amsgrad": lambda: new.Adam(0.1, amsgrad=True, clipnorm=1.0),
    "adamw": lambda: new.AdamW(0.1, weight_decay=0.1),
    "own_adamw": lambda: own.adamw(0.1, weight_decay=0.1),
    "rmsprop": lambda: new.RMSprop(0.1, momentum=0.9, centered=True),
    "adagrad": lambda: new.Adagrad(0.3),
    "adadelta": lambda: new.Adadelta(3.0),
    "adamax": lambda: new.Adamax(0.1),
    "nadam": lambda: new.Nadam(0.1),
    "ftrl": lambda: new.Ftrl(0.1),
    "adafactor": lambda: new.Adafactor(0.1),
    "lion": lambda: new.Lion(0.1),
    "jit": lambda: new.Adam(0.1, jit_compile=True),
    "ema": lambda: new.Adam(0.1, use_ema=True, ema_momentum=0.5),
    "ema_overwritten": lambda: new.SGD(
        0.1, use_ema=True, ema_momentum=0.5, ema_overwrite_frequency=2
    ),
    "loss_scale": lambda: keras.mixed_precision.LossScaleOptimizer(
        own.adamw(0.1)
    ),
    "loss_scale_ema": lambda: keras.mixed_precision.LossScaleOptimizer(
        new.Adam(0.1, use_ema=True, ema_momentum=0.5)
    ),
    "legacy_sgd": lambda: legacy.SGD(0.1, momentum=0.9, nesterov=True),
    "legacy_adam": lambda: legacy.Adam(0.1),
    "legacy_rmsprop": lambda: legacy.RMSprop(0.1, momentum=0.9),
    "legacy_adagrad": lambda: legacy.Adagrad(0.3),
    "legacy_adadelta": lambda: legacy.Adadelta(3.0),
    "legacy_adamax": lambda: legacy.Adamax(0.1),
    "legacy_nadam": lambda: legacy.Nadam(0.1),
    "legacy_ftrl": lambda: legacy.Ftrl(0.1),
    "legacy_loss_scale": lambda: keras.mixed_precision.LossScaleOptimizer(
        legacy.Adam(0.1)
    ),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_zeros_stay_under_every_optimizer(name):
    model = tf_pof.lock(model_of())
    before = kernels(model)
    fit(model, OPTIMIZERS[name]())
    assert_locked(before, kernels(model))
    lock.check(model)


@pytest.mark.parametrize("name", ["adam", "own_adamw", "sgd", "ema"])
def test_zeros_move_without_the_lock(name):
    model = model_of()
    before = kernels(model)
    fit(model, OPTIMIZERS[name]())
    after = kernels(model)
    for name in "ab":
        moved = after[name][before[name] == 0] != 0
        assert moved.mean() > 0.9


@pytest.mark.parametrize(
    "name", ["nesterov", "adam", "adamw", "own_adamw", "rmsprop", "ema"]
)
def test_zeros_stay_under_momentum_of_a_dense_training(name):
    model = tf_pof.lock(model_of())
    before = kernels(model)
    fit(model, stale(OPTIMIZERS[name](), model))
    assert_locked(before, kernels(model))


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize(
    "name,jit_compile",
    [("own_adamw", True), ("ema", False), ("legacy_adam", False)],
)
def test_zeros_stay_in_mixed_precision(policy, name, jit_compile):
    keras.mixed_precision.set_global_policy(policy)
    model = tf_pof.lock(model_of())
    before = kernels(model)
    fit(model, OPTIMIZERS[name](), jit_compile=jit_compile)
    assert_locked(before, kernels(model))


def test_master_weights_are_never_rounded():
    # 50 updates of 1e-4 on 1.0 are lost in bfloat16, whose step is 2^-7.
    model = model_of("mixed_bfloat16")
    kernel = model.get_layer("a").kernel
    kernel.assign(tf.where(kernel == 0, 0.0, 1.0))
    tf_pof.lock(model)
    zero = kernel.numpy() == 0
    optimizer = keras.optimizers.SGD(1e-4)
    for _ in range(50):
        optimizer.apply_gradients([(-tf.ones_like(kernel), kernel)])
    np.testing.assert_allclose(kernel.numpy()[~zero], 1.005, atol=1e-5)
    assert not kernel.numpy()[zero].any()


@pytest.mark.parametrize(
    "name,kwargs",
    [
        ("adamw", dict(jit_compile=True)),
        ("legacy_adam", dict(jit_compile=True)),
        ("adamw", dict(run_eagerly=True)),
        ("legacy_adam", dict(steps_per_execution=5)),
    ],
)
def test_zeros_stay_in_every_mode_of_fit(name, kwargs):
    model = tf_pof.lock(model_of())
    before = kernels(model)
    fit(model, OPTIMIZERS[name](), **kwargs)
    assert_locked(before, kernels(model))


@pytest.mark.parametrize("jit_compile", [False, True])
def test_zeros_stay_in_a_loop_of_ones_own(jit_compile):
    model = tf_pof.lock(model_of())
    before = kernels(model)
    optimizer = keras.optimizers.Adam(0.1)
    optimizer.build(model.trainable_variables)

    @tf.function(jit_compile=jit_compile)
    def step():
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((model(X) - Y) ** 2)
        variables = model.trainable_variables
        gradients = tape.gradient(loss, variables)
        optimizer.apply_gradients(zip(gradients, variables))

    for _ in range(4):
        step()
    assert_locked(before, kernels(model))


def test_an_infinite_update_leaves_zeros_not_nan():
    model = tf_pof.lock(model_of())
    kernel = model.get_layer("a").kernel
    zero = kernel.numpy() == 0
    gradient = tf.fill(kernel.shape, np.float32(np.inf))
    keras.optimizers.SGD(1.0).apply_gradients([(gradient, kernel)])
    assert not kernel.numpy()[zero].any()


def test_a_constraint_of_the_layer_still_holds():
    model = model_of(kernel_constraint=keras.constraints.MaxNorm(0.5))
    tf_pof.lock(model)
    before = kernels(model)
    fit(model, keras.optimizers.Adam(0.1))
    assert_locked(before, kernels(model))
    norms = np.linalg.norm(kernels(model)["a"], axis=0)
    assert norms.max() <= 0.5 + 1e-5


# What is locked.


def test_locked_lists_kernels_with_zeros_only():
    model = model_of()
    zeros = {n: int((k == 0).sum()) for n, k in kernels(model).items()}
    assert lock.locked(model) == {}
    assert tf_pof.lock(model) is model
    assert lock.locked(model) == {
        "a/kernel": {
            "shape": [12, 16],
            "size": 192,
            "zeros": zeros["a"],
            "sparsity": zeros["a"] / 192,
        },
        "b/kernel": {
            "shape": [16, 16],
            "size": 256,
            "zeros": zeros["b"],
            "sparsity": zeros["b"] / 256,
        },
    }


@pytest.mark.parametrize(
    "layers", ["^a$", ["a"], lambda layer: layer.name == "a"]
)
def test_layers_can_be_chosen(layers):
    model = tf_pof.lock(model_of(), layers)
    assert list(lock.locked(model)) == ["a/kernel"]
    before = kernels(model)
    fit(model, keras.optimizers.Adam(0.1))
    after = kernels(model)
    assert not after["a"][before["a"] == 0].any()
    assert after["b"][before["b"] == 0].all()


def test_locking_again_takes_the_zeros_of_today():
    model = tf_pof.lock(model_of())
    fit(model, keras.optimizers.Adam(0.1))
    kernel = model.get_layer("a").kernel
    kernel.assign(sparse(kernel.shape, seed=9))
    tf_pof.lock(model)
    before = kernels(model)
    # The function that is compiled already obeys the new lock too.
    model.fit(X, Y, epochs=2, verbose=0)
    assert_locked(before, kernels(model))


def test_a_model_that_was_trained_before_can_be_locked():
    model = fit(model_of(), keras.optimizers.SGD(0.0))
    model.optimizer.learning_rate = 0.1
    before = kernels(tf_pof.lock(model))
    model.fit(X, Y, verbose=0)
    assert_locked(before, kernels(model))


def test_unlock_lets_all_weights_move():
    model = fit(tf_pof.lock(model_of()), keras.optimizers.Adam(0.1))
    lock.unlock(model)
    assert lock.locked(model) == {}
    model.fit(X, Y, verbose=0)
    assert (kernels(model)["a"] != 0).mean() > 0.9
    with pytest.raises(ValueError, match="has a zero to lock"):
        tf_pof.lock(model)


def test_every_model_of_the_same_variables_is_locked():
    encoder = tf_pof.lock(model_of())
    features = encoder.get_layer("b").output
    mine = keras.layers.Dense(2, name="mine")(features)
    model = keras.Model(encoder.input, mine, name="user")
    nested = keras.Sequential([encoder, keras.layers.Dense(2)])
    for other in (model, nested):
        before = kernels(encoder)
        assert lock.locked(other) == lock.locked(encoder)
        fit(other, keras.optimizers.Adam(0.1))
        assert_locked(before, kernels(encoder))


def test_a_nested_encoder_is_found():
    inputs = keras.Input([12])
    outputs = keras.layers.Dense(1, name="mine")(model_of()(inputs))
    model = tf_pof.lock(keras.Model(inputs, outputs))
    assert list(lock.locked(model)) == ["a/kernel", "b/kernel"]


def test_equal_names_are_told_apart():
    inputs = keras.Input([12])
    towers = [model_of() for _ in range(2)]
    for i, tower in enumerate(towers):
        tower._name = f"tower_{i}"
    outputs = keras.layers.Add()([tower(inputs) for tower in towers])
    model = tf_pof.lock(keras.Model(inputs, outputs))
    assert sorted(lock.locked(model)) == [
        "a/kernel",
        "a/kernel_1",
        "b/kernel",
        "b/kernel_1",
    ]


def test_check_names_the_kernel_whose_zeros_moved():
    model = tf_pof.lock(model_of())
    kernel = model.get_layer("b").kernel
    values = kernel.numpy()
    row, column = np.argwhere(values == 0)[0]
    values[row, column] = 1e-30
    kernel.assign(values)
    with pytest.raises(ValueError, match="1 locked zeros of b/kernel"):
        lock.check(model)


@pytest.mark.parametrize(
    "spoil,layers,message",
    [
        (lambda m: m.get_layer("a").kernel.assign(np.ones([12, 16])), "^a$",
         "No kernel of small has a zero to lock"),
        (lambda m: m.get_layer("a").kernel.assign(np.zeros([12, 16])), None,
         "All weights of a/kernel are zero"),
        (lambda m: None, ["z"], "no layer 'z', which is listed in `layers`"),
        (lambda m: None, "z", "No layer of small matches 'z'"),
        (lambda m: None, lambda layer: False, "chosen by `layers`"),
    ],
)  # fmt: skip
def test_what_cannot_be_locked_is_refused(spoil, layers, message):
    model = model_of()
    spoil(model)
    with pytest.raises(ValueError, match=message):
        tf_pof.lock(model, layers)
    assert lock.locked(model) == {}


def test_a_pruned_model_must_be_stripped_first():
    now = schedules.PruneOnceSchedule(0.75, 0.75, 0, 0, 0, 1)
    pruned = tf_pof.prune(model_of(), now)
    with pytest.raises(ValueError, match=r"use tf_pof.strip\(model\) first"):
        tf_pof.lock(pruned)
    pruned.pruner.update(0)
    assert lock.locked(tf_pof.lock(tf_pof.strip(pruned))).keys() == {
        "a/kernel",
        "dense/kernel",
        "b/kernel",
    }


def test_a_subclassed_model_is_refused():
    with pytest.raises(ValueError, match="such as the student of a Distiller"):
        tf_pof.lock(tf_pof.Distiller(model_of()))
