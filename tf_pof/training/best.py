"""The model of the best evaluation, kept beside the last one."""

from collections.abc import Callable
import contextlib
import math
import os

from tf_pof import files, untrusted
from tf_pof.models import saving


class Noted(untrusted.Schema):
    """What best.json says."""

    step: int
    metric: str
    value: float


class Best:
    """Keeps the model of the best evaluation in a folder of its own.

    The last step's model is what a run is for; where the training went past
    its best, this is the other one. What is noted survives a kill.

    Args:
        folder: for the model; a note stands beside it, as <folder>.json.
        metric: that is compared, the larger the better.
        begin_step: first step whose model counts: one that is not pruned or
            rounded yet is no rival of the last.
        save: writes the present model to a path.
    """

    def __init__(
        self,
        folder: str,
        metric: str,
        begin_step: int,
        save: Callable[[str], None],
    ):
        self.folder, self.metric = folder, metric
        self.begin_step, self._save = begin_step, save
        self._note = f"{folder}.json"

    @property
    def noted(self) -> Noted | None:
        """What is kept, or None.

        Raises:
            ValueError: if the note is none.
        """
        if not (os.path.exists(self._note) and os.path.isdir(self.folder)):
            return None
        noted = untrusted.read_json(self._note, Noted)
        return noted if noted.metric == self.metric else None

    def begin(self, step: int) -> None:
        """Forgets what is of steps that a resumed run takes again."""
        noted = self.noted
        if noted is not None and noted.step > step:
            self.drop()

    def offer(self, step: int, metrics: dict[str, float]) -> None:
        """Keeps the present model if it is better than the one kept."""
        value = metrics.get(self.metric, math.nan)
        if step < self.begin_step or not math.isfinite(value):
            return
        noted = self.noted
        if noted is not None and noted.value >= value:
            return
        self._save(self.folder)
        note = {"step": step, "metric": self.metric, "value": value}
        files.write_json(self._note, note)

    def compare(self, metrics: dict[str, float]) -> Noted | None:
        """What is kept, if it is better than the last step's metrics.

        If it is not, it is removed.
        """
        noted = self.noted
        if noted is None or noted.value > metrics.get(self.metric, -math.inf):
            return noted
        self.drop()
        return None

    def drop(self) -> None:
        """Removes the model that is kept, and its note."""
        saving.remove(self.folder)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._note)
