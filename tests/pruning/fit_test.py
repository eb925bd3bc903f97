"""Stock model.fit prunes by schedule, in every mode Keras offers."""

import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_model_optimization as tfmot

from tf_pof._keras import keras
from tf_pof.pruning import schedules, wrapper

X = np.random.default_rng(0).normal(size=(64, 10)).astype(np.float32)
Y = X[:, :1]


def model_of(schedule, policy=None, **kwargs):
    keras.utils.set_random_seed(1)
    inputs = keras.Input([10])
    x = keras.layers.Dense(10, "relu", name="d", dtype=policy)(inputs)
    x = keras.layers.Dense(1, name="out", dtype="float32")(x)
    return wrapper.prune(keras.Model(inputs, x), schedule, **kwargs)


def watch(model):
    """Records (step, zeros) of every selection."""
    seen = []
    update = model.pruner.update

    def watched(step):
        selected = update(step)
        if selected:
            seen.append((step, model.pruner.report()["zeros"]))
        return selected

    model.pruner.update = watched
    return seen


def fit(model, steps, epochs=1, callbacks=(), **kwargs):
    data = tf.data.Dataset.from_tensor_slices((X, Y)).batch(8).repeat()
    if model.optimizer is None:
        optimizer = keras.optimizers.Adam(0.01)
        model.compile(optimizer, "mse", **kwargs)
    model.fit(
        data,
        steps_per_epoch=steps,
        epochs=epochs,
        verbose=0,
        callbacks=list(callbacks),
    )
    return model


# floor(100 * .9 (1 - (1 - t/10)^3)) every 5 steps to 10, held to 15
RAMP = [(0, 0), (5, 78), (10, 90), (15, 90)]


def ramp():
    return schedules.PruneOnceSchedule(0, 0.9, 0, 10, 15, 5)


@pytest.mark.parametrize(
    "kwargs",
    [
        dict(),
        dict(jit_compile=True),
        dict(run_eagerly=True),
        dict(steps_per_execution=4),
        dict(steps_per_execution=20),
        dict(steps_per_execution=7, jit_compile=True),
    ],
)
def test_fit_follows_the_schedule(kwargs):
    model = model_of(ramp())
    seen = watch(model)
    fit(model, 20, **kwargs)
    assert seen == RAMP
    assert int(model.optimizer.iterations) == 20


def test_split_executions_compute_the_same():
    one = fit(model_of(ramp()), 20)
    many = fit(model_of(ramp()), 20, steps_per_execution=20)
    for a, b in zip(one.weights, many.weights):
        np.testing.assert_allclose(a.numpy(), b.numpy(), atol=1e-6)


def test_jit_compiled_computes_the_same():
    plain = fit(model_of(ramp()), 20)
    compiled = fit(model_of(ramp()), 20, jit_compile=True)
    for a, b in zip(plain.weights, compiled.weights):
        np.testing.assert_allclose(a.numpy(), b.numpy(), atol=1e-4)


def test_selection_after_the_last_step_is_not_missed():
    stock = tfmot.sparsity.keras.PolynomialDecay(0, 0.9, 0, 20, frequency=10)
    model = model_of(stock)
    fit(model, 20)
    assert model.pruner.sparsity() == {"d/kernel": 0.9}


def test_tfmot_callbacks_work(tmp_path):
    model = model_of(ramp())
    callbacks = [
        tfmot.sparsity.keras.UpdatePruningStep(),
        tfmot.sparsity.keras.PruningSummaries(str(tmp_path)),
    ]
    fit(model, 10, epochs=2, callbacks=callbacks)
    values = {}
    for path in tmp_path.glob("metrics/*"):
        for event in tf.compat.v1.train.summary_iterator(str(path)):
            for value in event.summary.value:
                values[value.tag, event.step] = float(
                    tf.make_ndarray(value.tensor)
                )
    tag = "prune_once_d/mask:0/sparsity"
    assert values[tag, 0] == 0
    assert values[tag, 10] == pytest.approx(0.9)
    assert values["prune_once_d/threshold:0/threshold", 10] > 0
    # UpdatePruningStep must not have written zeros over hidden values.
    assert np.count_nonzero(model.layers[1].pruning_vars[0][0]) > 90


@pytest.mark.parametrize("callback", [True, False])
def test_zero_for_good_is_zero_in_the_variable_after_every_epoch(callback):
    model = model_of(ramp(), keep_pruned_values=False)

    class Check(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            kernel, mask, _ = model.layers[1].pruning_vars[0]
            assert not kernel.numpy()[~mask.numpy()].any()

    callbacks = [Check()]
    if callback:
        callbacks.insert(0, tfmot.sparsity.keras.UpdatePruningStep())
    fit(model, 4, epochs=4, callbacks=callbacks)
    kernel = model.layers[1].pruning_vars[0][0]
    assert np.count_nonzero(kernel) <= 10
    plain = tfmot.sparsity.keras.strip_pruning(model)
    assert np.count_nonzero(plain.get_layer("d").kernel) <= 10


def test_train_on_batch_and_a_second_fit_continue():
    model = model_of(ramp())
    seen = watch(model)
    model.compile("sgd", "mse")
    for _ in range(7):
        model.train_on_batch(X[:8], Y[:8])
    assert sorted(set(seen)) == RAMP[:2]
    fit(model, 13)
    assert sorted(set(seen)) == RAMP


def test_bfloat16_does_not_round_master_weights():
    model = model_of(
        tfmot.sparsity.keras.ConstantSparsity(0.5, 0, frequency=1),
        "mixed_bfloat16",
    )
    kernel, mask, _ = model.layers[1].pruning_vars[0]
    kernel.assign(tf.ones([10, 10]))
    for step in range(50):
        model.pruner.update(step)
        output = model(X[:4])
        kernel.assign_add(tf.fill([10, 10], 1e-4))
    assert output.dtype == tf.float32
    np.testing.assert_allclose(kernel.numpy(), 1.005, atol=1e-5)


@pytest.mark.parametrize("jit", [False, True])
def test_bfloat16_fit_moves_weights_by_less_than_bfloat16_resolves(jit):
    model = model_of(ramp(), "mixed_bfloat16")
    kernel = model.layers[1].pruning_vars[0][0]
    kernel.assign(tf.ones([10, 10]))
    model.compile(keras.optimizers.SGD(1e-6), "mse", jit_compile=jit)
    fit(model, 20)
    moved = np.abs(kernel.numpy() - 1)
    assert 0 < moved.max() < 1e-3
    assert model.pruner.sparsity() == {"d/kernel": 0.9}


def test_mixin_serves_a_subclassed_model_with_its_own_train_step():
    class Distiller(wrapper.PruningMixin, keras.Model):
        def __init__(self, student):
            super().__init__()
            self.student = student
            self.pruner = wrapper.Pruner(student)

        def call(self, inputs):
            return self.student(inputs)

        def train_step(self, data):
            x, y = data
            gradients = None
            # Two halves make one step: steps are the optimizer's, not calls.
            for part in (slice(0, 4), slice(4, 8)):
                with tf.GradientTape() as tape:
                    loss = tf.reduce_mean((self(x[part]) - y[part]) ** 2)
                new = tape.gradient(loss, self.student.trainable_variables)
                gradients = new if gradients is None else [
                    a + b for a, b in zip(gradients, new)
                ]
            self.optimizer.apply_gradients(
                zip(gradients, self.student.trainable_variables)
            )
            return {"loss": loss}

    model = Distiller(model_of(ramp()))
    seen = watch(model)
    fit(model, 20, jit_compile=True)
    assert seen == RAMP
    assert Distiller.pruner is None


def test_resumed_run_is_bit_identical(tmp_path):
    def run(model, start, stop):
        model.compile(keras.optimizers.AdamW(0.01), "mse")
        model.optimizer.build(model.trainable_variables)
        checkpoint = tf.train.Checkpoint(
            model=model, optimizer=model.optimizer
        )
        if start:
            checkpoint.restore(str(tmp_path / "c-1")).assert_consumed()
        for step in range(start, stop):
            batch = slice(8 * (step % 8), 8 * (step % 8) + 8)
            model.train_on_batch(X[batch], Y[batch])
        checkpoint.save(str(tmp_path / "c"))
        return [w.numpy() for w in model.weights]

    whole = run(model_of(ramp()), 0, 20)
    for cut in (4, 5, 12):
        for path in tmp_path.iterdir():
            path.unlink()
        run(model_of(ramp()), 0, cut)
        again = run(model_of(ramp()), cut, 20)
        for a, b in zip(whole, again):
            np.testing.assert_array_equal(a, b)


def test_mirrored_replicas_agree_with_one_device():
    # Logical devices must be set before TensorFlow starts: own process.
    script = textwrap.dedent(
        """
        import numpy as np
        from tf_pof._keras import keras
        import tensorflow as tf
        from tf_pof.pruning import schedules, wrapper

        cpu = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(
            cpu, [tf.config.LogicalDeviceConfiguration()] * 2
        )
        x = np.random.default_rng(0).normal(size=(64, 10)).astype("float32")
        data = tf.data.Dataset.from_tensor_slices((x, x[:, :1])).batch(8)

        def run(strategy, inside, **kwargs):
            keras.utils.set_random_seed(1)
            schedule = schedules.PruneOnceSchedule(0, 0.9, 0, 10, 15, 5)
            def prune(model):
                return wrapper.prune(model, schedule, **kwargs)
            with strategy.scope():
                inputs = keras.Input([10])
                h = keras.layers.Dense(10, "relu", name="d")(inputs)
                model = keras.Model(inputs, keras.layers.Dense(1)(h))
                if inside:
                    model = prune(model)
            if not inside:
                model = prune(model)
            with strategy.scope():
                model.compile("adam", "mse")
            model.fit(data.repeat(), steps_per_epoch=20, verbose=0)
            for w in model.weights:
                values = [v.numpy() for v in getattr(w, "values", [w])]
                for value in values[1:]:
                    np.testing.assert_array_equal(value, values[0])
            assert model.pruner.sparsity() == {"d/kernel": 0.9}
            plain = wrapper.strip(model)
            np.testing.assert_array_equal(plain(x), model(x))
            return [w.numpy() for w in model.weights]

        for keep in (True, False):
            one = run(tf.distribute.get_strategy(), True,
                      keep_pruned_values=keep)
            for inside in (True, False):
                two = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
                two = run(two, inside, keep_pruned_values=keep)
                for a, b in zip(one, two):
                    np.testing.assert_allclose(a, b, atol=1e-5)
        print("replicas agree")
        """
    )
    result = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "replicas agree" in result.stdout, result.stderr[-2000:]


@pytest.mark.parametrize("per_execution", [1, 4, 20])
def test_masks_after_a_step_are_those_of_its_schedule(per_execution):
    model = model_of(ramp())
    model.mask_update = "after_step"
    seen, steps = watch(model), []
    select = model.pruner.update
    model.pruner.update = lambda step: (
        steps.append((step, int(model.optimizer.iterations))),
        select(step),
    )[1]
    fit(model, 20, steps_per_execution=per_execution)
    assert seen == RAMP
    selected = {step for step, _ in RAMP}
    # Of step t, when t + 1 steps are done; never before the first.
    assert all(done == step + 1 for step, done in steps)
    assert selected <= {step for step, _ in steps}


def test_a_selection_after_the_last_step_is_made_with_after_step_too():
    model = model_of(ramp())
    model.mask_update = "after_step"
    fit(model, 11)
    assert model.pruner.sparsity() == {"d/kernel": 0.9}


def test_an_unknown_mask_update_is_refused():
    model = model_of(ramp())
    assert model.mask_update == "before_step"
    with pytest.raises(ValueError, match="before_step, after_step, not later"):
        model.mask_update = "later"
