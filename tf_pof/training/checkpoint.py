"""Checkpoints that a killed run resumes from, bit for bit on a CPU."""

from collections.abc import Callable, Iterator
import contextlib
import os
import re
import shutil
import tempfile

import tensorflow as tf

from tf_pof._keras import keras
from tf_pof.training.strategy import is_chief

_INDEX = re.compile(r"ckpt-(\d{1,10})\.index")
# What TensorFlow writes before a checkpoint has its index.
_UNFINISHED = re.compile(
    r"(ckpt-\d+)(_temp|\.(index|data-\d+-of-\d+)(\.tempstate\d+)?)"
    r"|checkpoint\.tmp\w+"
)
# Where the workers write that are not the chief.
_DISCARD = re.compile(r"discard_\d+")
_STATE = "checkpoint"
_KEPT = 2


def prefixes(folder: str) -> list[str]:
    """Path prefixes of the checkpoints in a folder, the last step first.

    The files themselves are looked at: TensorFlow's own list of them may be
    lost, or name files of other folders.
    """
    if not os.path.isdir(folder):
        return []
    found = filter(None, map(_INDEX.fullmatch, os.listdir(folder)))
    steps = sorted((int(match[1]) for match in found), reverse=True)
    return [os.path.join(folder, f"ckpt-{step}") for step in steps]


class Checkpointer:
    """Saves and restores everything a run's future depends on.

    That is: weights with the values behind their masks, masks, optimizer
    slots and step, and the random state of dropout. The data position is the
    optimizer's step (`pretraining_dataset(start_step=...)`), and masking is
    drawn from the seed and the position.

    A checkpoint is written beside the older ones, its index last, so a kill
    leaves the older one in force.

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
        self._is_chief = is_chief(strategy)
        if not self._is_chief:
            worker = strategy.cluster_resolver.task_id
            self._own_folder = os.path.join(folder, f"discard_{worker}")
        self.latest: str | None = next(iter(prefixes(folder)), None)
        self.tidy()
        if self._is_chief:
            # Later they are others' to remove, who may still write there.
            _remove_discarded(folder)
        self._write_state()
        self._manager = tf.train.CheckpointManager(
            self._checkpoint,
            self._own_folder,
            max_to_keep=_KEPT,
            step_counter=model.optimizer.iterations,
        )

    def _write_state(self):
        """TensorFlow's list of checkpoints, which it deletes older ones by."""
        if not self._is_chief:
            return
        if there := prefixes(self.folder):
            tf.compat.v1.train.update_checkpoint_state(
                self.folder, there[0], there[::-1]
            )
        else:
            _remove(os.path.join(self.folder, _STATE))

    def restore(self, say: Callable[[str], None] = lambda text: None) -> int:
        """Restores the last checkpoint that can be read, if there is one.

        Args:
            say: told, in a sentence, of each that cannot.

        Returns:
            The optimizer step to go on from.

        Raises:
            ValueError: if there are checkpoints, and none fits the model and
                can be read.
        """
        there = prefixes(self.folder)
        for prefix, older in zip(there, [*there[1:], None]):
            try:
                with without_glob(prefix) as path:
                    status = self._checkpoint.restore(path)
                    status.assert_existing_objects_matched()
            # Files that were changed raise errors of many kinds, those of
            # protocol buffers too.
            except Exception as error:
                reason = _first_line(error)
            else:
                self.latest = prefix
                break
            if older is None:
                raise ValueError(
                    f"The checkpoint {prefix} cannot be restored ({reason}): "
                    f"delete {self.folder} to begin again, or choose another "
                    "--output."
                )
            say(
                f"The checkpoint {prefix} cannot be restored ({reason}): "
                f"trying the older {os.path.basename(older)}."
            )
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
            prefix = self._manager.save(
                checkpoint_number=self._model.optimizer.iterations
            )
        except (tf.errors.OpError, OSError) as error:
            self.tidy()
            raise OSError(
                f"A checkpoint could not be written to {self.folder} "
                f"({_first_line(error)}): make room; the last readable one is "
                f"{self.latest or 'none'}, and the same command goes on there."
            ) from error
        if self._is_chief:
            self.latest = prefix
            # TensorFlow finds older ones by globbing, or not at all.
            for older in prefixes(self.folder)[_KEPT:]:
                _remove(f"{older}.index")
        self.tidy()

    def tidy(self) -> None:
        """Removes what is left of checkpoints that were never finished."""
        if not self._is_chief:
            shutil.rmtree(self._own_folder, ignore_errors=True)
            return
        _remove_unfinished(self.folder)


@contextlib.contextmanager
def without_glob(prefix: str) -> Iterator[str]:
    """A path of the same checkpoint with nothing in it to be globbed.

    TensorFlow takes the path of a checkpoint for a pattern.
    """
    if not re.search(r"[*?\[\\]", prefix):
        yield prefix
        return
    folder, name = os.path.split(os.path.abspath(prefix))
    with tempfile.TemporaryDirectory() as temporary:
        link = os.path.join(temporary, "checkpoints")
        os.symlink(folder, link)
        yield os.path.join(link, name)


def drop(folder: str) -> None:
    """Removes all checkpoints of a folder, and it if nothing else is there."""
    for prefix in prefixes(folder):
        _remove(f"{prefix}.index")
    _remove_unfinished(folder)
    _remove_discarded(folder)
    _remove(os.path.join(folder, _STATE))
    with contextlib.suppress(OSError):
        os.rmdir(folder)


def _remove_unfinished(folder):
    if not os.path.isdir(folder):
        return
    finished = {os.path.basename(prefix) for prefix in prefixes(folder)}
    for match in filter(None, map(_UNFINISHED.fullmatch, os.listdir(folder))):
        is_whole = match[3] and not match[4] and match[1] in finished
        if not is_whole:
            _remove(os.path.join(folder, match[0]))


def _remove_discarded(folder):
    if os.path.isdir(folder):
        for name in os.listdir(folder):
            if _DISCARD.fullmatch(name):
                _remove(os.path.join(folder, name))


def _remove(path):
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            os.unlink(path)


def _first_line(error) -> str:
    """What an error says, without TensorFlow's names of its operations."""
    text = re.sub(r"\{\{.*?\}\}|\[Op:\w+\]", "", str(error)).strip()
    return (text.splitlines() or [type(error).__name__])[0].strip()


def diverged(checkpointer: Checkpointer, what: str) -> ValueError:
    """The error of a run whose numbers are no longer finite."""
    step = int(checkpointer._model.optimizer.iterations.numpy())
    return ValueError(
        f"Training diverged at step {step}: {what}; the last good checkpoint "
        f"is {checkpointer.latest or 'none'}: start again from there with a "
        "lower --learning_rate in another --output."
    )
