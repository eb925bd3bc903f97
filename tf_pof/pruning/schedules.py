"""When to select masks, and at which sparsity.

Any TF-MOT `PruningSchedule` drives the pruner. `PruneOnceSchedule` adds the
one that the paper needs and that TF-MOT's PolynomialDecay cannot say: a cubic
ramp, then re-selection at the final sparsity, then frozen masks.
"""

import numbers

from absl import logging
from tf_pof._keras import keras

import numpy as np
import tensorflow as tf
from tensorflow_model_optimization.python.core.sparsity.keras import (
    pruning_schedule,
)

PruningSchedule = pruning_schedule.PruningSchedule


@keras.utils.register_keras_serializable(package="tf_pof")
class PruneOnceSchedule(PruningSchedule):
    """A polynomial ramp, re-selection at the final sparsity, then a hold.

    With p = (step - begin_step) / (ramp_end_step - begin_step), clipped to
    [0, 1], the sparsity is

        final + (initial - final) * (1 - p) ** power

    Masks are selected at begin_step, every `frequency` steps after it, and at
    end_step; never later. Follows Zafrir et al. 2021, "Prune Once for All",
    whose pre-training schedule is
    `PruneOnceSchedule(0.0, 0.9, 0, 50_000, 80_000, 1_000)`, on the polynomial
    of Zhu and Gupta 2017.

    Args:
        initial_sparsity: share of zeros at begin_step, in [0, 1).
        final_sparsity: share of zeros from ramp_end_step on, in [0, 1).
        begin_step: optimizer step (from 0) of the first selection.
        ramp_end_step: step at which the final sparsity is reached.
        end_step: step of the last selection.
        frequency: steps between two selections.
        power: exponent of the ramp.

    Raises:
        ValueError: if a value is out of range or the steps are out of order.
    """

    def __init__(
        self,
        initial_sparsity: float,
        final_sparsity: float,
        begin_step: int,
        ramp_end_step: int,
        end_step: int,
        frequency: int,
        power: float = 3,
    ):
        for name, value in (
            ("initial_sparsity", initial_sparsity),
            ("final_sparsity", final_sparsity),
        ):
            if not 0 <= value < 1:
                raise ValueError(
                    f"{name} is {value}, but a sparsity must be in [0, 1)."
                )
        if initial_sparsity > final_sparsity:
            raise ValueError(
                f"initial_sparsity {initial_sparsity} is above final_sparsity "
                f"{final_sparsity}: the ramp must not fall."
            )
        for name, value in (
            ("begin_step", begin_step),
            ("ramp_end_step", ramp_end_step),
            ("end_step", end_step),
            ("frequency", frequency),
        ):
            if not isinstance(value, numbers.Integral):
                raise ValueError(f"{name} is {value!r}, but must be an int.")
        if not 0 <= begin_step <= ramp_end_step <= end_step:
            raise ValueError(
                "A schedule needs 0 <= begin_step <= ramp_end_step <= "
                f"end_step, but they are {begin_step}, {ramp_end_step} and "
                f"{end_step}."
            )
        if frequency < 1:
            raise ValueError(f"frequency is {frequency}, but must be >= 1.")
        ramp = ramp_end_step - begin_step
        if 0 < ramp < frequency:
            raise ValueError(
                f"frequency {frequency} never hits inside the ramp from step "
                f"{begin_step} to {ramp_end_step}: use at most {ramp}."
            )
        if power <= 0:
            raise ValueError(f"power is {power}, but must be above 0.")
        self.initial_sparsity = float(initial_sparsity)
        self.final_sparsity = float(final_sparsity)
        self.begin_step = int(begin_step)
        self.ramp_end_step = int(ramp_end_step)
        self.end_step = int(end_step)
        self.frequency = int(frequency)
        self.power = power

    def selects(self, step: int) -> bool:
        """Whether masks are selected before optimizer step `step`."""
        if not self.begin_step <= step <= self.end_step:
            return False
        on_grid = (step - self.begin_step) % self.frequency == 0
        return on_grid or step == self.end_step

    def sparsity(self, step: int) -> float:
        """The share of zeros at `step`, in double precision."""
        if step >= self.ramp_end_step:
            return self.final_sparsity
        if step <= self.begin_step:
            return self.initial_sparsity
        rest = (self.ramp_end_step - step) / (
            self.ramp_end_step - self.begin_step
        )
        span = self.final_sparsity - self.initial_sparsity
        return self.final_sparsity - span * rest**self.power

    def __call__(self, step):
        """TF-MOT's interface: (bool tensor, float32 tensor) at `step`."""
        step = tf.cast(step, tf.int64)
        in_range = (step >= self.begin_step) & (step <= self.end_step)
        on_grid = tf.equal((step - self.begin_step) % self.frequency, 0)
        ramp = max(self.ramp_end_step - self.begin_step, 1)
        rest = tf.cast(self.ramp_end_step - step, tf.float64) / ramp
        rest = tf.clip_by_value(rest, 0.0, 1.0)
        span = self.final_sparsity - self.initial_sparsity
        sparsity = self.final_sparsity - span * rest**self.power
        return (
            in_range & (on_grid | tf.equal(step, self.end_step)),
            tf.cast(sparsity, tf.float32),
        )

    def get_config(self):
        return {
            "class_name": self.__class__.__name__,
            "config": {
                "initial_sparsity": self.initial_sparsity,
                "final_sparsity": self.final_sparsity,
                "begin_step": self.begin_step,
                "ramp_end_step": self.ramp_end_step,
                "end_step": self.end_step,
                "frequency": self.frequency,
                "power": self.power,
            },
        }


def evaluate(schedule: PruningSchedule, step: int) -> tuple[bool, float]:
    """Whether masks are selected at `step`, and the sparsity as a double.

    TF-MOT's schedules compute in float32, where 0.9 is 0.89999998 and would
    cost one zero in every tensor of 10 weights; the shortest decimal that
    rounds to the same float32 is what the user wrote.
    """
    if isinstance(schedule, PruneOnceSchedule):
        return schedule.selects(step), schedule.sparsity(step)
    selects, sparsity = schedule(tf.constant(step, tf.int64))
    return bool(selects), float(str(np.float32(sparsity)))


def deserialize(config: dict) -> PruningSchedule:
    """Builds a schedule from the dict that its get_config returns."""
    return keras.utils.legacy.deserialize_keras_object(
        config,
        custom_objects={
            "PruneOnceSchedule": PruneOnceSchedule,
            "ConstantSparsity": pruning_schedule.ConstantSparsity,
            "PolynomialDecay": pruning_schedule.PolynomialDecay,
        },
        printable_module_name="pruning schedule",
    )


def target_sparsity(schedule: PruningSchedule) -> float | None:
    """The sparsity a schedule aims at; None if it does not say."""
    for name in ("final_sparsity", "target_sparsity"):
        if hasattr(schedule, name):
            return float(getattr(schedule, name))
    return None


def first(schedule: PruningSchedule) -> float:
    """The sparsity of a schedule's first selection."""
    return evaluate(schedule, max(0, getattr(schedule, "begin_step", 0)))[1]


def require(schedule) -> None:
    """Raises ValueError if something is no schedule."""
    if not isinstance(schedule, PruningSchedule):
        raise ValueError(
            f"The schedule is {schedule!r:.80}, but must be a "
            "tf_pof.PruneOnceSchedule, or another PruningSchedule of TF-MOT "
            "such as ConstantSparsity."
        )


def check(schedule: PruningSchedule) -> None:
    """Rejects schedules that would end without any sparsity.

    TF-MOT selects at begin_step + i * frequency only, so a PolynomialDecay
    whose frequency is longer than its range stays at its initial sparsity.
    One that stops short of its target is worth a warning.

    Raises:
        ValueError: if the last selection inside begin_step..end_step is at
            sparsity 0 although the schedule aims above 0.
    """
    target = target_sparsity(schedule)
    end = getattr(schedule, "end_step", -1)
    if not target or end < 0 or not hasattr(schedule, "frequency"):
        return
    begin, frequency = schedule.begin_step, schedule.frequency
    last = begin + (end - begin) // frequency * frequency
    if isinstance(schedule, PruneOnceSchedule):
        last = end
    reached = evaluate(schedule, last)[1]
    if reached == 0:
        raise ValueError(
            f"The schedule's frequency {frequency} never hits inside steps "
            f"{begin + 1}..{end}, so the sparsity would stay 0 instead of "
            f"reaching {target}: lower the frequency."
        )
    if reached < target:
        logging.warning(
            "The schedule's last selection is at step %d and sparsity %.4f, "
            "short of %g: let frequency %d divide end_step - begin_step.",
            last,
            reached,
            target,
            frequency,
        )
