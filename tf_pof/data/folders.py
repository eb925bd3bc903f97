"""The output of a preparation and the work folder beside it.

Nothing is deleted but what a preparation has written: a work folder bears a
mark, and of what is in it, and in a data set that is replaced, only files go
that have our names. The work folder is `<output>.partial`, or has a number
behind that if somebody else's folder is there.

    <output>.partial/
        fingerprint.json      the mark: which preparation it belongs to
        piece-000000.json ... marks and parts, see `work`
        result/               the data set, renamed to the output at the end
        old/                  the data set that was there, for that moment
"""

from collections.abc import Iterable
import contextlib
import os
import re
from typing import Annotated

import pydantic
import tensorflow as tf

from tf_pof import files
from tf_pof import untrusted
from tf_pof.data import records
from tf_pof.data import storage

_MARK = "fingerprint.json"
_NOTE = "publishing.json"
_SHARD = r"(train|validation)-\d{5,}-of-\d{5,}\.tfrecord\.gz"
_WORK_NAMES = (
    r"(error|fingerprint|publishing)\.json|workers\.log"
    r"|(part|again)-\d{6,}-\d{6,}(-validation\.npz)?"
    r"|piece-\d{6,}(-again)?\.json"
    rf"|{_SHARD}\.json"
)
_RESULT_NAMES = rf"{_SHARD}|meta\.json|vocab\.txt"


def _ours(names: str) -> re.Pattern:
    """Matches files of these names, and what a kill leaves of writing them."""
    return re.compile(
        rf"({names})(\.[0-9a-f]{{32}}\.tmp)?|\.({names})\.tmp-\w{{8}}"
    )


class _Mark(untrusted.Schema):
    sha256: Annotated[str, pydantic.Field(pattern="^[0-9a-f]{64}$")]


class _Note(untrusted.Schema):
    """Files of an older data set that the new one does not replace."""

    remove: list[
        Annotated[str, pydantic.Field(pattern=f"^({_RESULT_NAMES})$")]
    ]


def check_path(output: str) -> None:
    """Makes sure that a path is one where a folder can be made.

    Raises:
        ValueError: if its name is empty, or something else is there.
        OSError: if it cannot be written to.
    """
    if storage.is_remote(output):
        if tf.io.gfile.exists(output) and not tf.io.gfile.isdir(output):
            raise ValueError(
                f"The output {output} is no folder: name another."
            )
        return
    files.require_folder_path(output, "The output")
    if os.path.ismount(output):
        raise ValueError(
            f"The output {output} is where a file system is mounted: name a "
            "folder in it."
        )


def check_output(output: str, overwrite: bool) -> None:
    """Makes sure that nothing is at `output` that shall not be replaced.

    Raises:
        ValueError: naming what is there.
    """
    names = _list(output)
    if not names or tf.io.gfile.exists(os.path.join(find(output), _NOTE)):
        return
    if not overwrite:
        raise ValueError(
            f"The output {output} exists: add --overwrite to replace it or "
            "name another folder."
        )
    if not _data_set(output):
        raise ValueError(
            f"The output {output} holds other files than a prepared data "
            f"set ({', '.join(sorted(names)[:3])}), which --overwrite does "
            "not delete: name another folder."
        )


def find(output: str) -> str:
    """The work folder of an output; if there is none, a name for it."""
    number = 0
    while True:
        folder = f"{output}.partial" + (f".{number}" if number else "")
        if _mark(folder) or not _exists(folder) or _is_unused(folder):
            return folder
        number += 1


def open_work_folder(output: str, fingerprint: str) -> str:
    """Makes the work folder, or goes on with the one that a kill has left.

    What another preparation has left is removed.

    Args:
        output: of the preparation.
        fingerprint: of its arguments and input.

    Returns:
        The folder.
    """
    folder = find(output)
    mark = _mark(folder)
    if mark and mark.sha256 != fingerprint:
        clear(folder)
        mark, folder = None, find(output)
    if not mark:
        contents = files.json_bytes({"sha256": fingerprint})
        if storage.is_remote(folder):
            tf.io.gfile.makedirs(folder)
            storage.write_bytes(os.path.join(folder, _MARK), contents)
        else:
            _remove_if_empty(folder)
            files.write_set(folder, {_MARK: contents})
    tf.io.gfile.makedirs(os.path.join(folder, "result"))
    _remove(folder, ["error.json"])
    return folder


def has_progress(folder: str) -> bool:
    """Whether some piece of the input is finished in a work folder."""
    return any(name.startswith("piece-") for name in _list(folder))


def clear(folder: str) -> None:
    """Removes a work folder, but for what is not ours in it."""
    result = os.path.join(folder, "result")
    for place, names in ((result, _RESULT_NAMES), (folder, _WORK_NAMES)):
        found = [n for n in _list(place) if _ours(names).fullmatch(n)]
        # The mark goes last, so that what a kill leaves is known as ours.
        _remove(place, sorted(found, key=lambda name: name == _MARK))
        _remove_if_empty(place)


def settle(output: str) -> None:
    """Makes good what a kill has cut short while folders were renamed.

    The older data set comes back if the new one has not taken its place.
    """
    if storage.is_remote(output):
        return
    folder = find(output)
    old = os.path.join(folder, "old")
    if not _mark(folder) or not os.path.isdir(old):
        return
    if not os.path.lexists(output):
        os.rename(old, output)
        return
    own = _data_set(old)
    for name in set(_list(old)) - set(own):
        if not os.path.lexists(os.path.join(output, name)):
            os.rename(os.path.join(old, name), os.path.join(output, name))
    _remove(old, own)
    _remove_if_empty(old)


def publish(folder: str, output: str) -> None:
    """Makes the finished data set of a work folder the output.

    Other files than a data set's stay in the output. A remote output, where
    folders have no rename, gets its meta.json last.
    """
    result = os.path.join(folder, "result")
    # A kill may have left files that were being written.
    found = set(_list(result)) - set(_data_set(result))
    _remove(result, filter(_ours(_RESULT_NAMES).fullmatch, found))
    if storage.is_remote(output):
        _publish_remote(folder, result, output)
    else:
        if os.path.isdir(output):
            os.rename(output, os.path.join(folder, "old"))
        os.rename(result, output)
        settle(output)
    clear(folder)


def _publish_remote(folder, result, output):
    new = _list(result)
    note = os.path.join(folder, _NOTE)
    older = set(_data_set(output)) - set(new)
    with contextlib.suppress(FileNotFoundError, ValueError):
        # A kill came in between: the data set's list is gone by now.
        older.update(storage.read_json(note, _Note).remove)
    storage.write_bytes(note, files.json_bytes({"remove": sorted(older)}))
    tf.io.gfile.makedirs(output)
    _remove(output, ["meta.json"])
    for name in sorted(new, key=lambda name: name == "meta.json"):
        tf.io.gfile.rename(
            os.path.join(result, name),
            os.path.join(output, name),
            overwrite=True,
        )
    _remove(output, sorted(older))


def _data_set(folder) -> list[str]:
    """The files of a data set, meta.json last; none if it is not one."""
    try:
        meta = records.read_meta(folder)
    except ValueError:
        return []
    return [
        *meta.train_shards, *meta.validation_shards, "vocab.txt", "meta.json"
    ]  # fmt: skip


def _mark(folder) -> _Mark | None:
    if not storage.is_remote(folder) and os.path.islink(folder):
        return None
    try:
        return storage.read_json(os.path.join(folder, _MARK), _Mark)
    except (OSError, ValueError):
        return None


def _exists(path) -> bool:
    if storage.is_remote(path):
        return tf.io.gfile.exists(path)
    return os.path.lexists(path)


def _is_unused(folder) -> bool:
    """Whether there is nothing in it but a mark that a kill cut short."""
    if not storage.is_remote(folder) and os.path.islink(folder):
        return False
    names = _ours(re.escape(_MARK))
    return tf.io.gfile.isdir(folder) and all(
        name != _MARK and names.fullmatch(name) for name in _list(folder)
    )


def _list(folder) -> list[str]:
    if not tf.io.gfile.isdir(folder):
        return []
    return [name.rstrip("/") for name in tf.io.gfile.listdir(folder)]


def _remove(folder, names: Iterable[str]) -> None:
    for name in names:
        path = os.path.join(folder, name)
        if not tf.io.gfile.isdir(path):
            with contextlib.suppress(tf.errors.NotFoundError):
                tf.io.gfile.remove(path)


def _remove_if_empty(folder) -> None:
    if not storage.is_remote(folder):
        with contextlib.suppress(OSError):
            os.rmdir(folder)
    elif tf.io.gfile.isdir(folder) and not _list(folder):
        tf.io.gfile.rmtree(folder)
