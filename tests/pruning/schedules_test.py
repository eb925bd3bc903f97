"""Schedules say when masks are selected and at which sparsity."""

import hypothesis
import pytest
import tensorflow_model_optimization as tfmot
from hypothesis import strategies as st

from tf_pof._keras import keras
from tf_pof.pruning import schedules

PAPER = (0.0, 0.9, 0, 50_000, 80_000, 1_000)


@pytest.mark.parametrize(
    "step, sparsity",
    [
        (0, 0.0),
        (1_000, 0.9 * (1 - 0.98**3)),
        (10_000, 0.4392),
        (20_000, 0.7056),
        (30_000, 0.8424),
        (40_000, 0.8928),
        (50_000, 0.9),
        (65_000, 0.9),
        (80_000, 0.9),
    ],
)
def test_paper_schedule_at_its_check_points(step, sparsity):
    schedule = schedules.PruneOnceSchedule(*PAPER)
    selects, value = schedules.evaluate(schedule, step)
    assert selects
    assert value == pytest.approx(sparsity, abs=1e-12)
    selects, value = schedule(step)
    assert bool(selects)
    assert float(value) == pytest.approx(sparsity, abs=1e-7)


@pytest.mark.parametrize("step", [1, 999, 1_001, 79_999, 81_000, 100_000])
def test_paper_schedule_selects_neither_between_nor_after(step):
    schedule = schedules.PruneOnceSchedule(*PAPER)
    assert not schedules.evaluate(schedule, step)[0]
    assert not bool(schedule(step)[0])


def test_last_step_selects_off_the_grid():
    schedule = schedules.PruneOnceSchedule(0, 0.5, 0, 40, 55, 20)
    hits = [s for s in range(100) if schedules.evaluate(schedule, s)[0]]
    assert hits == [0, 20, 40, 55]
    assert hits == [s for s in range(100) if bool(schedule(s)[0])]


@hypothesis.given(
    initial=st.floats(0, 0.99),
    rise=st.floats(0, 0.99),
    begin=st.integers(0, 1000),
    ramp=st.integers(0, 1000),
    hold=st.integers(0, 1000),
    power=st.floats(0.5, 5),
)
@hypothesis.settings(max_examples=60, deadline=None)
def test_sparsity_never_falls_and_stays_in_bounds(
    initial, rise, begin, ramp, hold, power
):
    final = initial + rise * (0.99 - initial)
    schedule = schedules.PruneOnceSchedule(
        initial, final, begin, begin + ramp, begin + ramp + hold, 1, power
    )
    values = [schedule.sparsity(step) for step in range(0, 3100, 31)]
    assert all(a <= b + 1e-12 for a, b in zip(values, values[1:]))
    assert min(values) >= initial - 1e-12
    assert max(values) <= final + 1e-12
    assert values[-1] == final
    assert float(schedule(begin + ramp)[1]) == pytest.approx(final, abs=1e-6)


@pytest.mark.parametrize(
    "arguments, word",
    [
        ((0.0, 1.0, 0, 10, 20, 1), "final_sparsity"),
        ((-0.1, 0.5, 0, 10, 20, 1), "initial_sparsity"),
        ((0.6, 0.5, 0, 10, 20, 1), "must not fall"),
        ((0.0, float("nan"), 0, 10, 20, 1), "final_sparsity"),
        ((0.0, 0.5, 11, 10, 20, 1), "begin_step"),
        ((0.0, 0.5, 0, 30, 20, 1), "end_step"),
        ((0.0, 0.5, 0, 10, 20, 0), "frequency"),
        ((0.0, 0.5, 0, 10.5, 20, 1), "ramp_end_step"),
        ((0.0, 0.5, 0, 10, 20, 11), "never hits"),
        ((0.0, 0.5, 0, 10, 20, 1, 0), "power"),
    ],
)
def test_wrong_arguments_are_named(arguments, word):
    with pytest.raises(ValueError, match=word):
        schedules.PruneOnceSchedule(*arguments)


def test_config_round_trip():
    schedule = schedules.PruneOnceSchedule(0.1, 0.9, 5, 50, 80, 7, 2)
    config = schedule.get_config()
    again = schedules.deserialize(config)
    assert isinstance(again, schedules.PruneOnceSchedule)
    assert again.get_config() == config
    constant = tfmot.sparsity.keras.ConstantSparsity(0.5, 3, frequency=2)
    again = schedules.deserialize(constant.get_config())
    assert again.get_config() == constant.get_config()


def test_registered_with_keras():
    name = keras.utils.get_registered_name(schedules.PruneOnceSchedule)
    assert keras.utils.get_registered_object(name) is not None


@pytest.mark.parametrize("sparsity", [0.9, 0.99, 0.999, 0.29, 0.7])
def test_stock_float32_sparsity_is_what_the_user_wrote(sparsity):
    stock = tfmot.sparsity.keras.ConstantSparsity(sparsity, 0, frequency=1)
    assert schedules.evaluate(stock, 3) == (True, sparsity)


def test_frequency_that_never_hits_is_an_error():
    stock = tfmot.sparsity.keras.PolynomialDecay(
        0.0, 0.9, 0, 50, frequency=100
    )
    with pytest.raises(ValueError, match="frequency 100 never hits"):
        schedules.check(stock)


def test_frequency_that_misses_the_end_is_a_warning(caplog):
    stock = tfmot.sparsity.keras.PolynomialDecay(
        0.0, 0.9, 0, 150, frequency=100
    )
    with caplog.at_level("WARNING"):
        schedules.check(stock)
    # 0.9 * (1 - (1 - 100/150)^3) = 0.8667
    assert "0.8667, short of 0.9" in caplog.text


@pytest.mark.parametrize(
    "stock",
    [
        tfmot.sparsity.keras.ConstantSparsity(0.5, 0),
        tfmot.sparsity.keras.ConstantSparsity(0.5, 0, 50, 100),
        tfmot.sparsity.keras.ConstantSparsity(0.0, 0),
        tfmot.sparsity.keras.PolynomialDecay(0.0, 0.9, 0, 200, frequency=100),
        schedules.PruneOnceSchedule(*PAPER),
    ],
)
def test_sound_schedules_pass(stock, caplog):
    schedules.check(stock)
    assert not caplog.text
