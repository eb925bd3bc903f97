"""The schedule's step is the model's: it outlives optimizers and files."""

import logging

import h5py
import numpy as np
import pytest
import tensorflow as tf

from tf_pof._keras import keras
from tf_pof.distillation import Distiller
from tf_pof.pruning import schedules, wrapper

X = np.random.default_rng(0).normal(size=(64, 10)).astype(np.float32)
Y = X[:, :1]
# floor(100 * .9 (1 - (1 - t/10)^3)) at 5 and 10, and once more at 15.
RAMP = {0: 0.0, 5: 0.78, 10: 0.9, 15: 0.9}


def new_model(**kwargs):
    keras.utils.set_random_seed(1)
    inputs = keras.Input([10])
    x = keras.layers.Dense(10, "relu", name="d")(inputs)
    model = keras.Model(inputs, keras.layers.Dense(1, name="out")(x), name="m")
    schedule = schedules.PruneOnceSchedule(0, 0.9, 0, 10, 15, 5)
    return wrapper.prune(model, schedule, **kwargs)


class Watch(keras.callbacks.Callback):
    """The sparsity that each training step was taken with."""

    def __init__(self, pruned):
        super().__init__()
        self.pruned, self.seen = pruned, []

    def on_train_batch_end(self, batch, logs=None):
        # The pruner is a step ahead by now, at a step that is no selection.
        self.seen.append(self.pruned.pruner.sparsity()["d/kernel"])


def fit(model, steps, pruned=None, compiled=None, **kwargs):
    """Compiles anew and trains; returns the sparsity after every step."""
    watch = Watch(pruned or model)
    model.compile(keras.optimizers.Adam(0.01), "mse", **(compiled or {}))
    data = tf.data.Dataset.from_tensor_slices((X, Y)).batch(8).repeat()
    callbacks = [watch, *kwargs.pop("callbacks", ())]
    model.fit(
        data,
        steps_per_epoch=steps,
        verbose=0,
        callbacks=callbacks,
        **kwargs,
    )
    return watch.seen


# After step t masks are those of step t + 1.
EXPECTED = [
    0.0 if t < 5 else 0.78 if t < 10 else 0.9 for t in range(1, 21)
]


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("cut", [3, 5, 12, 20])
def test_a_second_compile_goes_on(cut, keep):
    model = new_model(keep_pruned_values=keep)
    seen = fit(model, cut) + fit(model, 23 - cut)
    np.testing.assert_allclose(seen, EXPECTED + [0.9] * 3)
    assert model.pruner.step == 23
    assert int(model.optimizer.iterations) == 23 - cut


def test_another_distiller_goes_on():
    student = new_model()
    seen = []
    for steps in (4, 9, 7, 3):
        distiller = Distiller(student, hard_loss_weight=1.0)
        seen += fit(distiller, steps, student)
    np.testing.assert_allclose(seen, EXPECTED + [0.9] * 3)


def test_a_model_on_top_of_a_pruned_one_is_pruned_by_a_distiller():
    pruned = new_model()
    x = keras.layers.Dense(1, name="head")(pruned.output)
    student = keras.Model(pruned.input, x)
    seen = fit(Distiller(student, hard_loss_weight=1.0), 12, pruned)
    np.testing.assert_allclose(seen, EXPECTED[:12])
    assert pruned.pruner.step == 12


@pytest.mark.parametrize(
    "compiled", [dict(steps_per_execution=4), dict(jit_compile=True)]
)
def test_every_way_to_run_counts_optimizer_steps(compiled):
    model = new_model()
    fit(model, 8, compiled=compiled)
    assert model.pruner.step == 8
    fit(model, 12, compiled=compiled)
    assert model.pruner.step == 20
    assert model.pruner.sparsity()["d/kernel"] == 0.9


def test_micro_batches_count_once():
    student = new_model()
    distiller = Distiller(student, hard_loss_weight=1.0, micro_batch_size=2)
    fit(distiller, 7, student)
    assert student.pruner.step == 7


def test_data_that_end_inside_an_execution_are_counted():
    model = new_model()
    model.compile("sgd", "mse", steps_per_execution=4)
    data = tf.data.Dataset.from_tensor_slices((X[:56], Y[:56])).batch(8)
    model.fit(data, steps_per_epoch=8, verbose=0)
    # Keras counts a step that found no batch, or does not.
    assert model.pruner.step == int(model.optimizer.iterations) >= 7


def by_weights_file(model, path):
    model.save_weights(path / "m.weights.h5")
    return load_weights(path / "m.weights.h5")


def by_old_weights_file(model, path):
    model.save_weights(path / "m.h5")
    return load_weights(path / "m.h5")


def by_tf_weights(model, path):
    model.save_weights(path / "m")
    return load_weights(path / "m")


def load_weights(path):
    model = new_model()
    model.load_weights(path)
    return model


def by_checkpoint(model, path):
    saved = tf.train.Checkpoint(model=model).write(str(path / "c"))
    other = new_model()
    tf.train.Checkpoint(model=other).read(saved).expect_partial()
    return other


def by_file(name):
    def load(model, path):
        model.save(path / name)
        return keras.models.load_model(path / name)

    return load


WAYS = {
    "weights.h5": by_weights_file,
    "h5 weights": by_old_weights_file,
    "tf weights": by_tf_weights,
    "checkpoint": by_checkpoint,
    "keras": by_file("m.keras"),
    "h5": by_file("m.h5"),
    "SavedModel": by_file("m"),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("cut", [7, 20])
def test_masks_and_step_survive_every_format(way, cut, tmp_path):
    model = new_model()
    seen = fit(model, cut)
    other = WAYS[way](model, tmp_path)
    assert other.pruner.report() == model.pruner.report()
    assert other.pruner.step == cut
    for mine, theirs in zip(model.weights, other.weights, strict=True):
        np.testing.assert_array_equal(mine.numpy(), theirs.numpy())
    seen += fit(other, 23 - cut)
    np.testing.assert_allclose(seen, EXPECTED + [0.9] * 3)


def test_a_file_without_a_step_goes_on_where_it_selected_last(tmp_path):
    model = new_model()
    fit(model, 17)
    path = tmp_path / "old.weights.h5"
    model.save_weights(path)
    with h5py.File(path, "a") as file:
        assert int(file["vars/0"][()]) == 17
        del file["vars/0"]
    other = load_weights(path)
    assert other.pruner.step == 15
    assert fit(other, 2) == [0.9, 0.9]
    assert other.pruner.step == 17


def test_a_pruner_of_another_model_on_the_same_layers_counts_too():
    model = new_model()
    part = keras.Model(model.input, model.layers[1].output)
    wrapper.Pruner(part).update(6)
    assert model.pruner.step == 6


def test_a_schedule_begins_anew_if_it_is_told_to():
    model = new_model()
    fit(model, 20)
    model.pruner.step = 0
    np.testing.assert_allclose(fit(model, 20), EXPECTED)


def warnings_of(caplog):
    found = [r.getMessage() for r in caplog.records]
    caplog.clear()
    return [text for text in found if "its schedule ends at" in text]


def test_a_fit_that_ends_inside_the_ramp_says_so(caplog):
    caplog.set_level(logging.WARNING)
    model = new_model()
    fit(model, 7)
    (text,) = warnings_of(caplog)
    assert "m has a sparsity of 78.00 %" in text and "90.00 %" in text
    assert "step is 7 of 15" in text
    fit(Distiller(model, hard_loss_weight=1.0), 2, model)
    assert "step is 9 of 15" in warnings_of(caplog)[0]
    fit(model, 1)
    assert not warnings_of(caplog)


def test_masks_that_early_stopping_restores_are_told_of(caplog):
    caplog.set_level(logging.WARNING)

    class Worse(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            logs["loss"] = float(epoch)

    model = new_model()
    stop = keras.callbacks.EarlyStopping(
        "loss", patience=3, restore_best_weights=True
    )
    fit(model, 6, epochs=5, callbacks=[Worse(), stop])
    # The first epoch was the best, and ended at step 6 with masks of step 5.
    assert len(warnings_of(caplog)) == 1
    assert model.pruner.step == 6
    assert model.pruner.sparsity()["d/kernel"] == 0.78


@pytest.mark.parametrize("way", ["m.keras", "m.h5", "m", "strip"])
def test_saving_inside_the_ramp_says_so(way, tmp_path, caplog):
    model = new_model()
    for step, count in ((7, 1), (10, 0)):
        model.pruner.update(5 if step == 7 else 10)
        model.pruner.step = step
        caplog.clear()
        if way == "strip":
            wrapper.strip(model)
        else:
            model.save(tmp_path / way)
        assert len(warnings_of(caplog)) == count


@pytest.mark.parametrize(
    "kwargs",
    [
        dict(),
        dict(budget="global"),
        dict(budget="erk"),
        dict(pattern="4x1"),
        dict(pattern="1:4"),
    ],
)
def test_a_finished_schedule_says_nothing_whatever_the_pattern(kwargs, caplog):
    inputs = keras.Input([10])
    x = keras.layers.Dense(7, name="a")(inputs)
    x = keras.layers.Dense(9, name="b")(x)
    model = keras.Model(inputs, keras.layers.Dense(1)(x))
    schedule = schedules.PruneOnceSchedule(0.3, 0.77, 0, 2, 2, 1)
    model = wrapper.prune(model, schedule, **kwargs)
    caplog.clear()
    model.pruner.update(0)
    assert model.pruner.warn_if_short()
    model.pruner.update(2)
    assert not model.pruner.warn_if_short()
    assert len(warnings_of(caplog)) == 1
