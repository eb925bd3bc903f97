"""The folder of a run: who works on it, and which run it holds.

settings.json has what the run was told, the absolute paths of what it reads
("paths") and hashes of what lies there ("hashes"). A command that goes on with
a run is held to all of it.
"""

from collections.abc import Iterator
import contextlib
import os
import re
import shutil
from typing import Any

from tf_pof import files, untrusted
from tf_pof.models import saving
from tf_pof.training import checkpoint, report
from tf_pof.training.settings import TrainingSettings

SETTINGS = "settings.json"
CURVE = "curve.jsonl"
MODEL = "model"
BEST = "best"
CHECKPOINTS = "checkpoints"
PREDICTIONS = "predictions"
TENSORBOARD = "tensorboard"
_FILES = (SETTINGS, CURVE, report.NAME, f"{BEST}.json")
_MODELS = (MODEL, BEST)
# Settings of which a run may be given more.
_GROWING = ("train_steps", "epochs")


class Noted(untrusted.Schema):
    """What settings.json has beside the settings; older ones have neither."""

    paths: dict[str, str] = {}
    hashes: dict[str, str] = {}


@contextlib.contextmanager
def held(settings: TrainingSettings, chief: bool) -> Iterator[None]:
    """Keeps the folder for one run, having made sure that it can be filled.

    Args:
        settings: of the run.
        chief: whether this process writes the outputs; the others of a
            multi-worker run leave that to it.

    Raises:
        ValueError: if something else is in a place that the run needs.
        OSError: if the folder cannot be written to, or another process works
            on it.
    """
    if not chief:
        yield
        return
    output = settings.output
    files.require_folder_path(output, "The output")
    with files.only_writer(output):
        for name in _FILES:
            path = os.path.join(output, name)
            files.require_file_path(path, "The run's file")
        for name in (CHECKPOINTS, PREDICTIONS, TENSORBOARD):
            path = os.path.join(output, name)
            files.require_folder_path(path, "The run's folder")
        for name in _MODELS:
            saving.check_path(os.path.join(output, name))
        _sweep(output)
        yield


def _sweep(output) -> None:
    """Removes what a kill has left of files that were being written."""
    if not os.path.isdir(output):
        return
    unfinished = re.compile(
        rf"\.({'|'.join(map(re.escape, _FILES + _MODELS))})\.tmp-\w{{8}}"
    )
    for name in filter(unfinished.fullmatch, os.listdir(output)):
        path = os.path.join(output, name)
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                os.unlink(path)


def check(settings: TrainingSettings) -> str:
    """Makes sure that the folder holds no run with other settings.

    Returns:
        A sentence for the user if the run is given more steps than it was
        planned for, else "".

    Raises:
        ValueError: naming what differs, or if settings.json cannot be read.
    """
    noted, known = _read(settings)
    if noted is None:
        return ""
    places = settings.paths()
    before, now = _flat(noted), _flat(settings.identity())
    changed, grown = [], []
    for name in sorted(before.keys() | now.keys()):
        old, new = before.get(name), now.get(name)
        if old == new:
            continue
        if name in places and _same_place(old, new, known.paths.get(name)):
            continue
        if name in _GROWING and report.is_more(old, new):
            grown.append(f"{name} {old} there, {new} now")
        else:
            changed.append(f"{name} {_short(old)} there, {_short(new)} now")
    if changed or (grown and not settings.may_grow()):
        raise ValueError(
            f"{settings.output} holds a run with other settings "
            f"({'; '.join(changed + grown)}): choose another --output, or "
            "delete it."
        )
    if not grown:
        return ""
    folder = os.path.join(settings.output, CHECKPOINTS)
    if os.path.exists(os.path.join(settings.output, report.NAME)) and not (
        checkpoint.prefixes(folder)
    ):
        raise ValueError(
            f"The run in {settings.output} is finished and has no checkpoint "
            f"to go on from ({'; '.join(grown)}): begin another one with "
            f"--model={settings.output}; --keep_checkpoints would have kept "
            "them."
        )
    return (
        f"The run was planned shorter ({'; '.join(grown)}): its learning rate "
        "is that of the longer run from here on, so that it does not end as "
        "one that was planned that long."
    )


def check_hashes(settings: TrainingSettings, hashes: dict[str, str]) -> None:
    """Makes sure that what a run reads is what it began with.

    Args:
        settings: of the run.
        hashes: by the names of `settings.paths()` or others that an error
            can say; what the run did not note is passed over.

    Raises:
        ValueError: naming the first that has changed.
    """
    _, known = _read(settings)
    # What no step was taken on may change.
    if not checkpoint.prefixes(os.path.join(settings.output, CHECKPOINTS)):
        return
    for name, value in hashes.items():
        if known.hashes.get(name, value) == value:
            continue
        where = settings.paths().get(name, "")
        raise ValueError(
            f"{' '.join(['The', *name.split('_'), where]).rstrip()} is not "
            f"what the run in {settings.output} began with, its contents have "
            "changed since: put the old ones back, or choose another --output."
        )


def claim(settings: TrainingSettings, hashes: dict[str, str]) -> None:
    """Notes in the folder which run it holds from now on."""
    path = os.path.join(settings.output, report.NAME)
    with contextlib.suppress(FileNotFoundError):
        # Of the shorter run that this one goes on with.
        os.unlink(path)
    paths = {k: _absolute(v) for k, v in settings.paths().items()}
    files.write_json(
        settings.path,
        {**settings.identity(), "paths": paths, "hashes": hashes},
    )


def _read(settings) -> tuple[dict[str, Any] | None, Noted]:
    """The identity of the run that the folder holds, and what it read."""
    noted = settings.noted()
    if noted is None:
        return None, Noted()
    known = untrusted.fit(
        {k: noted.pop(k) for k in ("paths", "hashes") if k in noted},
        Noted,
        settings.path,
    )
    return noted, known


def _short(value) -> str:
    shown = repr(value)
    return shown if len(shown) <= 200 else f"{shown[:197]}..."


def _flat(values: dict[str, Any]) -> dict[str, Any]:
    """Settings with those of the task as "task.<name>"."""
    task = values.get("task")
    if not isinstance(task, dict):
        return values
    flat = {k: v for k, v in values.items() if k != "task"}
    return flat | {f"task.{k}": v for k, v in task.items()}


def _absolute(path: str) -> str:
    return os.path.realpath(os.path.expanduser(path))


def _same_place(old, new, noted: str | None) -> bool:
    """Whether two settings are one path, however it is written."""
    if not isinstance(old, str) or not isinstance(new, str):
        return False
    return _absolute(new) == (noted or _absolute(old))
