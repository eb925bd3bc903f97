"""The pruner selects by schedule, exactly, and in both modes of hiding."""

import json

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_model_optimization as tfmot

from tf_pof._keras import keras
from tf_pof.pruning import schedules, wrapper

RNG = np.random.default_rng(0)


def model_of(*widths):
    """Dense layers d0, d1, ... between the widths, then one output."""
    x = inputs = keras.Input([widths[0]])
    for i, width in enumerate(widths[1:]):
        x = keras.layers.Dense(width, name=f"d{i}")(x)
    return keras.Model(inputs, keras.layers.Dense(1, name="out")(x))


def kernel_and_mask(model, name="d0"):
    return model.get_layer(f"prune_once_{name}").pruning_vars[0][:2]


def zeros_of(model):
    return [t["zeros"] for t in model.pruner.report()["tensors"].values()]


def test_follows_the_schedule_exactly():
    schedule = schedules.PruneOnceSchedule(0, 0.9, 0, 50, 80, 10)
    model = wrapper.prune(model_of(100, 100), schedule)
    seen = {}
    for step in range(100):
        if model.pruner.update(step):
            seen[step] = zeros_of(model)[0]
    # floor(10,000 * .9 (1 - (1 - t/50)^3)): the recipe's check points.
    assert seen == {
        0: 0,
        10: 4392,
        20: 7056,
        30: 8424,
        40: 8928,
        50: 9000,
        60: 9000,
        70: 9000,
        80: 9000,
    }


@pytest.mark.parametrize(
    "stock, seen",
    [
        (
            tfmot.sparsity.keras.ConstantSparsity(0.9, 2, frequency=3),
            {2: 900, 5: 900, 8: 900},
        ),
        (
            # .9 (1 - (1 - t/8)^3) * 1000 at t = 4 and 8
            tfmot.sparsity.keras.PolynomialDecay(0, 0.9, 0, 8, frequency=4),
            {0: 0, 4: 787, 8: 900},
        ),
    ],
)
def test_follows_stock_schedules(stock, seen):
    model = wrapper.prune(model_of(100, 10), stock)
    assert seen == {
        step: zeros_of(model)[0]
        for step in range(10)
        if model.pruner.update(step)
    }


@pytest.mark.parametrize("sparsity", [0.0, 0.9, 0.99, 0.999])
def test_sparsity_is_exact_per_tensor(sparsity):
    schedule = tfmot.sparsity.keras.ConstantSparsity(sparsity, 0)
    model = wrapper.prune(model_of(50, 40, 3, 3), schedule)
    model.pruner.update(0)
    permille = round(sparsity * 1000)
    assert zeros_of(model) == [n * permille // 1000 for n in (2000, 120, 9)]


def test_hidden_values_return_when_they_outgrow_the_others():
    schedule = tfmot.sparsity.keras.ConstantSparsity(0.5, 0, frequency=1)
    model = wrapper.prune(model_of(2, 2), schedule)
    kernel, mask = kernel_and_mask(model)
    kernel.assign([[1.0, 4.0], [3.0, 2.0]])
    model.pruner.update(0)
    assert mask.numpy().tolist() == [[False, True], [True, False]]
    assert kernel.numpy()[0, 0] == 1.0
    kernel.assign([[5.0, 4.0], [3.0, 2.0]])
    model.pruner.update(1)
    assert mask.numpy().tolist() == [[True, True], [False, False]]


@pytest.mark.parametrize(
    "pattern, budget",
    [
        ("unstructured", "uniform"),
        ("unstructured", "global"),
        ("unstructured", "erk"),
        ("4x1", "uniform"),
        ("4x1", "global"),
        ("2:4", "uniform"),
    ],
)
def test_zero_for_good_never_returns(pattern, budget):
    schedule = schedules.PruneOnceSchedule(0.2, 0.8, 0, 10, 20, 1)
    model = wrapper.prune(
        model_of(10, 14, 8),
        schedule,
        pattern=pattern,
        budget=budget,
        keep_pruned_values=False,
    )
    dead = None
    for step in range(21):
        for name in ("d0", "d1"):
            # What an optimizer's momentum might do, and more.
            kernel = kernel_and_mask(model, name)[0]
            kernel.assign_add(RNG.normal(size=kernel.shape))
        model.pruner.update(step)
        now = []
        for name in ("d0", "d1"):
            kernel, mask = kernel_and_mask(model, name)
            assert not kernel.numpy()[~mask.numpy()].any()
            now.append(~mask.numpy())
        if dead is not None:
            assert all((old <= new).all() for old, new in zip(dead, now))
        dead = now
    zeros = sum(d.sum() for d in dead)
    if pattern == "2:4":
        # 10 and 14 inputs: 2 or 3 full groups of 4, and 2 inputs that live.
        assert zeros == 4 * 14 + 6 * 8
    else:
        assert zeros == pytest.approx(0.8 * (140 + 112), abs=12)


def test_zero_for_good_holds_a_falling_schedule():
    class Falling(schedules.PruningSchedule):
        def __call__(self, step):
            return True, 0.5 if step == 0 else 0.25

        def get_config(self):
            return {"class_name": "Falling", "config": {}}

    for keep, zeros in ((True, 25), (False, 50)):
        model = wrapper.prune(
            model_of(10, 10), Falling(), keep_pruned_values=keep
        )
        model.pruner.update(0)
        model.pruner.update(1)
        assert zeros_of(model) == [zeros]


def test_update_is_idempotent():
    for keep in (True, False):
        model = wrapper.prune(
            model_of(10, 10),
            tfmot.sparsity.keras.ConstantSparsity(0.5, 0),
            keep_pruned_values=keep,
        )
        kernel, mask = kernel_and_mask(model)
        kernel.assign(RNG.integers(-2, 3, size=[10, 10]))  # ties and zeros
        model.pruner.update(0)
        first = mask.numpy()
        model.pruner.update(0)
        np.testing.assert_array_equal(mask.numpy(), first)


def test_global_budget_ranks_the_whole_model():
    schedule = tfmot.sparsity.keras.ConstantSparsity(0.5, 0)
    model = wrapper.prune(model_of(4, 4, 4), schedule, budget="global")
    kernel_and_mask(model, "d0")[0].assign(tf.fill([4, 4], 2.0))
    kernel_and_mask(model, "d1")[0].assign(tf.fill([4, 4], 1.0))
    model.pruner.update(0)
    assert model.pruner.sparsity() == {"d0/kernel": 0.0, "d1/kernel": 1.0}
    assert model.pruner.report()["sparsity"] == 0.5


@pytest.mark.parametrize("budget", ["er", "erk"])
def test_erdos_renyi_budget_keeps_more_of_thin_kernels(budget):
    schedule = tfmot.sparsity.keras.ConstantSparsity(0.5, 0)
    model = wrapper.prune(model_of(10, 10, 40), schedule, budget=budget)
    model.pruner.update(0)
    # As worked out by hand in budgets_test.
    assert zeros_of(model) == [29, 221]


def test_report_is_json_and_counts_right():
    schedule = schedules.PruneOnceSchedule(0, 0.9, 0, 2, 4, 1)
    model = wrapper.prune(model_of(6, 5), schedule, pattern="1x4")
    assert model.pruner.report()["tensors"]["d0/kernel"][
        "selected_at_step"
    ] == -1
    model.pruner.update(2)
    report = json.loads(json.dumps(model.pruner.report()))
    # 5 outputs x 2 blocks (4 and 2 inputs): 9 of 10 blocks die.
    tensor = report["tensors"]["d0/kernel"]
    assert tensor["zeros"] in (30 - 4, 30 - 2)
    assert tensor["sparsity"] == tensor["zeros"] / 30 == report["sparsity"]
    assert tensor["shape"] == [6, 5] and tensor["pattern"] == "1x4"
    assert tensor["selected_at_step"] == 2
    assert tensor["schedule"] == schedule.get_config()


def test_nan_names_the_tensor():
    schedule = tfmot.sparsity.keras.ConstantSparsity(0.5, 0)
    model = wrapper.prune(model_of(4, 4), schedule)
    kernel_and_mask(model)[0].assign(tf.fill([4, 4], float("nan")))
    with pytest.raises(ValueError, match="d0/kernel holds NaN"):
        model.pruner.update(0)


def test_inside_a_graph_it_says_where_to_call_it():
    model = wrapper.prune(
        model_of(4, 4), tfmot.sparsity.keras.ConstantSparsity(0.5, 0)
    )
    with pytest.raises(RuntimeError, match="between training steps"):
        tf.function(lambda: model.pruner.update(0))()


def test_steps_to_selection():
    schedule = schedules.PruneOnceSchedule(0, 0.9, 0, 10, 25, 10)
    pruner = wrapper.prune(model_of(4, 4), schedule).pruner
    steps = [pruner.steps_to_selection(s, 8) for s in (0, 5, 10, 24, 25)]
    assert steps == [8, 5, 8, 1, 8]
