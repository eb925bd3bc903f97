"""The training loop that every program shares: resume, fit, checkpoints."""

from collections.abc import Callable, Sequence
import contextlib
import os

import rich.console

from tf_pof._keras import keras
from tf_pof import files
from tf_pof.distillation import Distiller
from tf_pof.training import strategy as strategies
from tf_pof.training.callbacks import Progress, SaveCheckpoints
from tf_pof.training.checkpoint import Checkpointer
from tf_pof.training.settings import TrainingSettings


def train(
    settings: TrainingSettings,
    distiller: Distiller,
    data: Callable,
    evaluate: Callable[[], dict[str, float]],
    console: rich.console.Console,
    readable_errors: Callable = contextlib.nullcontext,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> None:
    """Trains to the last step, from the last checkpoint if there is one.

    Args:
        settings: of the run.
        distiller: compiled, built in its strategy's scope.
        data: maps the optimizer step to go on from to a data set of one
            replica's batches without end.
        evaluate: called every `settings.evaluate_every` steps.
        console: of the command.
        readable_errors: context manager around reading the data.
        callbacks: that act before those that log and save.

    Raises:
        ValueError: on divergence, or for a checkpoint that does not fit.
        OSError: if something cannot be written.
    """
    strategy = distiller.distribute_strategy
    with strategy.scope():
        checkpointer = Checkpointer(
            distiller, os.path.join(settings.output, "checkpoints")
        )
        step = checkpointer.restore()
    chief = strategies.is_chief(strategy)
    if chief:
        # Only now: a command that failed must not claim the folder.
        files.write_json(settings.path, settings.identity())
    if step:
        console.print(f"Going on from step {step} of {settings.train_steps}.")
    if step >= settings.train_steps:
        return
    progress = Progress(
        settings.output if chief else None,
        settings.train_steps,
        settings.batch_size,
        settings.log_every,
        console,
        evaluate,
        settings.evaluate_every,
    )
    try:
        with readable_errors():
            distiller.fit(
                data(step),
                steps_per_epoch=settings.train_steps - step,
                callbacks=[
                    *callbacks,
                    progress,
                    SaveCheckpoints(checkpointer, settings.checkpoint_every),
                ],
                verbose=0,
            )
    finally:
        progress.close()
    if settings.train_steps % settings.checkpoint_every:
        checkpointer.save()
