"""Checkpoints that a killed run resumes from, bit for bit on a CPU."""

import os
import shutil

import tensorflow as tf

from tf_pof._keras import keras
from tf_pof.training.strategy import is_chief


class Checkpointer:
    """Saves and restores everything a run's future depends on.

    That is: weights with the values behind their masks, masks, optimizer
    slots and step, and the random state of dropout. The data position is the
    optimizer's step (`pretraining_dataset(start_step=...)`), and masking is
    drawn from the seed and the position.

    A checkpoint is written beside the older ones and becomes the last one by
    the rename of a small file, so a kill leaves the older one in force.

    Args:
        model: compiled `Distiller`.
        folder: of the checkpoints; in a multi-worker run every worker calls
            `save`, the chief's files stay.
    """

    def __init__(self, model: keras.Model, folder: str):
        self.folder = folder
        model.optimizer.build(model.trainable_variables)
        self._model = model
        self._checkpoint = tf.train.Checkpoint(
            student=model.student,
            projections=model.projections,
            optimizer=model.optimizer,
        )
        self._own_folder = folder
        strategy = model.distribute_strategy
        if not is_chief(strategy):
            worker = strategy.cluster_resolver.task_id
            self._own_folder = os.path.join(folder, f"discard_{worker}")
        self._manager = tf.train.CheckpointManager(
            self._checkpoint,
            self._own_folder,
            max_to_keep=2,
            step_counter=model.optimizer.iterations,
        )

    @property
    def latest(self) -> str | None:
        """Path prefix of the last complete checkpoint."""
        return tf.train.latest_checkpoint(self.folder)

    def restore(self) -> int:
        """Restores the last checkpoint, if there is one.

        Returns:
            The optimizer step to go on from.

        Raises:
            ValueError: if the checkpoint does not fit the model or cannot be
                read.
        """
        if self.latest:
            try:
                status = self._checkpoint.restore(self.latest)
                status.assert_existing_objects_matched()
            except (AssertionError, ValueError, tf.errors.OpError) as error:
                first = str(error).strip().splitlines()[0]
                raise ValueError(
                    f"The checkpoint {self.latest} cannot be restored "
                    f"({first}): delete it, or choose another --output."
                ) from error
        return int(self._model.optimizer.iterations.numpy())

    def save(self) -> None:
        """Writes a checkpoint of the present step.

        Raises:
            ValueError: if a weight is not finite.
            OSError: if it cannot be written; the last one stays readable.
        """
        for variable in self._model.trainable_variables:
            if not bool(tf.math.is_finite(tf.reduce_sum(variable))):
                raise diverged(self, f"{variable.name} is not finite")
        try:
            self._manager.save(
                checkpoint_number=self._model.optimizer.iterations
            )
        except (tf.errors.OpError, OSError) as error:
            first = str(error).strip().splitlines()[0]
            raise OSError(
                f"A checkpoint could not be written to {self.folder} "
                f"({first}): make room; the last readable one is "
                f"{self.latest or 'none'}, and the same command goes on there."
            ) from error
        if self._own_folder != self.folder:
            shutil.rmtree(self._own_folder, ignore_errors=True)


def diverged(checkpointer: Checkpointer, what: str) -> ValueError:
    """The error of a run whose numbers are no longer finite."""
    step = int(checkpointer._model.optimizer.iterations.numpy())
    last = checkpointer.latest
    return ValueError(
        f"Training diverged at step {step}: {what}; the last good checkpoint "
        f"is {last or 'none'}: start again from there with a lower "
        "--learning_rate in another --output."
    )
