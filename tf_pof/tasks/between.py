"""Scores of a run between its steps, and the best model of them."""

from collections.abc import Callable
import os
from typing import Any

from tf_pof.distillation import Distiller
from tf_pof.quantization import QuantizationSchedule
from tf_pof.tasks.evaluation import Splits
from tf_pof.tasks.settings import Settings
from tf_pof.tasks.task import Task
from tf_pof.training import loop, run_folder
from tf_pof.training.best import Best


def evaluation(
    settings: Settings,
    splits: Splits,
    distiller: Distiller,
    examples: int,
    kept: Best | None,
) -> loop.Evaluation:
    """When and how a run is scored before its end.

    Args:
        settings: of the run.
        splits: of its task.
        distiller: whose student is scored.
        examples: of the training split.
        kept: keeps the best model; None keeps none.
    """
    task = splits.task

    def metrics():
        # The first split is the task's own.
        found = {}
        for split in task.evaluation_splits[:1]:
            found |= splits.score(distiller.student, split)
        return found

    every, at_end = settings.evaluate_every, True
    if every == "epoch":
        # The last step's model is scored in any case.
        every, at_end = -(-examples // settings.batch_size), False
    if not task.evaluation_splits:
        every = 0
    return loop.Evaluation(
        metrics=metrics, every=every, at_end=at_end, best=kept
    )


def best(
    settings: Settings,
    task: Task,
    quantization: QuantizationSchedule | None,
    save: Callable[[str], Any],
) -> Best | None:
    """Keeps the best model of those that are what the last is to be.

    Models that are denser or less rounded than the last one do not count.
    """
    if settings.qat and settings.strategy != "default":
        # Saving builds a float32 copy, which a strategy would take part in.
        return None
    if not (settings.keep_best and task.evaluation_splits):
        return None
    begin = settings.ramp_end_step if settings.schedule is not None else 0
    if quantization:
        begin = quantization.freeze_step
    folder = os.path.join(settings.output, run_folder.BEST)
    return Best(folder, task.main_metric, begin, save)
