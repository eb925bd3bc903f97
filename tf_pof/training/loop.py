"""The training loop that every program shares: resume, fit, checkpoints."""

from collections.abc import Callable, Iterator, Sequence
import contextlib
import dataclasses
import os

import rich.console
import tensorflow as tf

from tf_pof._keras import keras
from tf_pof.distillation import Distiller
from tf_pof.training import ending, run_folder, strategy as strategies
from tf_pof.training.best import Best
from tf_pof.training.callbacks import Progress, SaveCheckpoints
from tf_pof.training.checkpoint import Checkpointer
from tf_pof.training.settings import TrainingSettings


@dataclasses.dataclass(frozen=True, kw_only=True)
class Data:
    """What a run learns from.

    Attributes:
        batches: maps the optimizer step to go on from to a data set of one
            replica's batches without end.
        examples: how many there are.
        hashes: of all that the run reads, by what it is called.
        readable_errors: context manager around reading the batches.
    """

    batches: Callable
    examples: int
    hashes: dict[str, str]
    readable_errors: Callable = contextlib.nullcontext


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluation:
    """When a run is evaluated before its end.

    Attributes:
        metrics: gives those of the present model.
        every: optimizer steps; 0 for never.
        at_end: whether also after the last step.
        best: keeps the best model; None keeps none.
    """

    metrics: Callable[[], dict[str, float]]
    every: int
    at_end: bool = True
    best: Best | None = None


def train(
    settings: TrainingSettings,
    distiller: Distiller,
    data: Data,
    evaluation: Evaluation,
    console: rich.console.Console,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> None:
    """Trains to the last step, from the last checkpoint if there is one.

    Args:
        settings: of the run.
        distiller: compiled, built in its strategy's scope.
        data: that is learned.
        evaluation: before the end.
        console: of the command.
        callbacks: that act before those that log and save.

    Raises:
        ValueError: on divergence, or for a checkpoint that does not fit.
        OSError: if something cannot be written, or memory is short.
    """
    strategies.fix_order_of_sums()
    strategy = distiller.distribute_strategy
    chief = strategies.is_chief(strategy)
    with strategy.scope():
        checkpointer = Checkpointer(
            distiller, os.path.join(settings.output, run_folder.CHECKPOINTS)
        )
        step = checkpointer.restore(lambda text: ending.say(console, text))
    best = evaluation.best if chief else None
    if best is not None:
        best.begin(step)
    if chief:
        # Only now: a command that failed must not claim the folder.
        run_folder.claim(settings, data.hashes)
    ending.say(console, _plan(settings, data.examples))
    if step:
        ending.say(
            console, f"Going on from step {step} of {settings.train_steps}."
        )
    if step >= settings.train_steps:
        return

    def evaluates_at(step: int) -> bool:
        is_last = step == settings.train_steps
        is_due = evaluation.every and step % evaluation.every == 0
        return bool(is_due) and (evaluation.at_end or not is_last)

    def evaluate(step: int) -> dict[str, float]:
        metrics = evaluation.metrics()
        if best is not None:
            best.offer(step, metrics)
        return metrics

    progress = Progress(
        settings.output if chief else None,
        settings.train_steps,
        settings.batch_size,
        settings.log_every,
        console,
        evaluate,
        evaluates_at,
    )
    try:
        with _one_sentence(settings), data.readable_errors():
            distiller.fit(
                data.batches(step),
                steps_per_epoch=settings.train_steps - step,
                callbacks=[
                    *callbacks,
                    progress,
                    SaveCheckpoints(checkpointer, settings.checkpoint_every),
                ],
                verbose=0,
            )
    except BaseException:
        checkpointer.tidy()
        raise
    finally:
        progress.close()
    if settings.train_steps % settings.checkpoint_every:
        checkpointer.save()


def _plan(settings, examples) -> str:
    """How much there is to do."""
    each = -(-examples // settings.batch_size)
    return (
        f"{examples:,} examples are {each:,} steps an epoch; the run has "
        f"{settings.train_steps:,} steps of {settings.batch_size:,}: "
        f"{settings.train_steps * settings.batch_size / examples:.3g} epochs."
    )


@contextlib.contextmanager
def _one_sentence(settings: TrainingSettings) -> Iterator[None]:
    """Turns what stops a training from outside into one sentence."""
    again = "the same command goes on from the last checkpoint"
    try:
        yield
    except (tf.errors.ResourceExhaustedError, MemoryError) as error:
        size = settings.micro_batch_size or settings.batch_size
        raise OSError(
            f"There is not enough memory for steps of {size} examples at a "
            "time: lower --micro_batch_size, which changes nothing else; "
            f"{again}."
        ) from error
    except (
        tf.errors.UnavailableError,
        tf.errors.AbortedError,
        tf.errors.DeadlineExceededError,
    ) as error:
        raise OSError(
            "Another worker of the run cannot be reached any more: start all "
            f"of them again; {again}."
        ) from error
