"""What happens around the training steps: progress, curves, checkpoints."""

from collections.abc import Callable
import contextlib
import math
import os
import time

import rich.console
import rich.progress
import tensorflow as tf

from tf_pof._keras import keras
from tf_pof.training import curve
from tf_pof.training.checkpoint import Checkpointer, diverged
from tf_pof.training.run_folder import CURVE, TENSORBOARD


class SaveCheckpoints(keras.callbacks.Callback):
    """Checkpoints every so many steps, and stops on a loss not finite.

    Args:
        checkpointer: of the run.
        every: optimizer steps.
    """

    def __init__(self, checkpointer: Checkpointer, every: int):
        super().__init__()
        self.checkpointer, self.every = checkpointer, every

    def on_train_batch_end(self, batch, logs=None):
        # Keras' logs are running means: one NaN stays in them.
        if not math.isfinite(logs["loss"]):
            raise diverged(self.checkpointer, f"the loss is {logs['loss']}")
        if int(self.model.optimizer.iterations.numpy()) % self.every == 0:
            self.checkpointer.save()


class Progress(keras.callbacks.Callback):
    """Progress line with ETA, curve file and TensorBoard scalars.

    Every `log_every` steps the means since the last time go to
    curve.jsonl, one JSON object a line, and to TensorBoard, with the sparsity
    of every pruned tensor, and to the console; before an evaluation too.

    Args:
        folder: of the run; None on workers that write nothing.
        train_steps: last step of the run.
        batch_size: global, for samples/s.
        log_every: optimizer steps.
        console: rich console.
        evaluate: called after the steps that `evaluates_at` names, on all
            workers; maps the step to validation metrics to log.
        evaluates_at: whether there is an evaluation after a step.
    """

    def __init__(
        self,
        folder: str | None,
        train_steps: int,
        batch_size: int,
        log_every: int,
        console: rich.console.Console,
        evaluate: Callable[[int], dict[str, float]],
        evaluates_at: Callable[[int], bool],
    ):
        super().__init__()
        self.train_steps, self.batch_size = train_steps, batch_size
        self.log_every, self.console = log_every, console
        self.evaluate, self.evaluates_at = evaluate, evaluates_at
        self.curve = folder and os.path.join(folder, CURVE)
        self.board = tf.summary.create_noop_writer()
        if folder:
            self.board = tf.summary.create_file_writer(
                os.path.join(folder, TENSORBOARD)
            )
        self.bar = rich.progress.Progress(
            rich.progress.TextColumn("step {task.completed}/{task.total}"),
            rich.progress.BarColumn(),
            rich.progress.TimeElapsedColumn(),
            rich.progress.TextColumn("ETA"),
            rich.progress.TimeRemainingColumn(),
            rich.progress.TextColumn("{task.fields[status]}"),
            console=console,
            disable=not console.is_terminal,
            speed_estimate_period=300,
        )
        self.sparsity = None

    @property
    def step(self) -> int:
        return int(self.model.optimizer.iterations.numpy())

    def on_train_begin(self, logs=None):
        if self.curve:
            curve.drop_points_after(self.curve, self.step)
        self.task = self.bar.add_task(
            "", total=self.train_steps, completed=self.step, status=""
        )
        self.bar.start()
        self.began, self.first_step = time.monotonic(), self.step
        self._restart_means()

    def on_train_end(self, logs=None):
        self.close()

    def close(self):
        """Gives the terminal back; also after a failure."""
        self.bar.stop()
        # A full disk is better said of the checkpoints.
        with contextlib.suppress(tf.errors.OpError):
            self.board.flush()

    def on_train_batch_end(self, batch, logs=None):
        step = self.step
        # A model that diverged is not worth an evaluation.
        evaluates = self.evaluates_at(step) and math.isfinite(logs["loss"])
        is_due = step % self.log_every == 0 or step == self.train_steps
        if is_due or evaluates:
            self._log(step, {k: float(v) for k, v in logs.items()}, evaluates)
            self._restart_means()
        status = f"loss {logs['loss']:.3f}"
        if self.sparsity is not None:
            status += f"  sparsity {self.sparsity:.1%}"
        status += f"  {self._rate(step) * self.batch_size:.1f} samples/s"
        self.bar.update(self.task, completed=step, status=status)

    def _rate(self, step):
        """Steps a second of this process."""
        return (step - self.first_step) / (time.monotonic() - self.began)

    def _restart_means(self):
        self.model.reset_metrics()
        self._since, self._since_step = time.monotonic(), self.step

    def _log(self, step, values, evaluates):
        elapsed = time.monotonic() - self._since
        values["samples_per_second"] = (
            (step - self._since_step) * self.batch_size / elapsed
        )
        values["learning_rate"] = float(
            self.model.optimizer.learning_rate.numpy()
        )
        tensors = {}
        if self.model.pruner is not None:
            report = self.model.pruner.report()
            values["sparsity"] = self.sparsity = report["sparsity"]
            tensors = report["tensors"]
        validation = self.evaluate(step) if evaluates else {}
        values |= {f"validation_{k}": v for k, v in validation.items()}
        if self.curve:
            curve.append(self.curve, {"step": step, **values})
        with self.board.as_default(step=step):
            for name, value in values.items():
                tf.summary.scalar(name, value)
            for name, tensor in tensors.items():
                tf.summary.scalar(f"sparsity/{name}", tensor["sparsity"])
        self._show(step, values)

    def _show(self, step, values):
        eta = (self.train_steps - step) / self._rate(step)
        shown = ("loss", "mlm", "sparsity", "samples_per_second")
        shown += tuple(k for k in values if k.startswith("validation_"))
        text = "  ".join(f"{k} {values[k]:.4g}" for k in shown if k in values)
        # Above the bar, if there is one.
        self.console.print(
            f"step {step}/{self.train_steps}  ETA {_hms(eta)}  {text}",
            soft_wrap=True,
        )


def _hms(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}"
