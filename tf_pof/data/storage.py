"""Files that may be remote ("gs://..."): read with a cap, written whole.

Local files go through `tf_pof.files` and `tf_pof.untrusted`. Remote ones,
among which there are neither links nor pipes, go through tf.io.gfile.
"""

from collections.abc import Iterator
import contextlib
import errno
import os
import stat
from typing import TypeVar
import uuid

import tensorflow as tf

from tf_pof import files
from tf_pof import untrusted

T = TypeVar("T")

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


@contextlib.contextmanager
def plain_errors() -> Iterator[None]:
    """Turns TensorFlow's file errors into OSError; a decorator too."""
    try:
        yield
    except tf.errors.OpError as error:
        raise OSError(
            f"A file operation failed: {error.message.rstrip('.')}."
        ) from error


def is_remote(path: str) -> bool:
    """Whether a path is one of a file system that TensorFlow reaches."""
    return "://" in path


def normalize(path: str) -> str:
    """The path without "~", links and a slash at its end; remote ones too."""
    if is_remote(path):
        return path.rstrip("/")
    return os.path.realpath(os.path.expanduser(path))


def stamp(path: str) -> list[int]:
    """The time of a file in nanoseconds and its size in bytes."""
    if is_remote(path):
        status = tf.io.gfile.stat(path)
        return [status.mtime_nsec, status.length]
    # TensorFlow has whole seconds of local files.
    status = os.stat(path)
    return [status.st_mtime_ns, status.st_size]


def temporary_name(path: str) -> str:
    """A name beside `path` that nobody can foresee or put a link at."""
    return f"{path}.{uuid.uuid4().hex}.tmp"


def read_bytes(path: str, limit: int = untrusted.MAX_BYTES) -> bytes:
    """The contents of a file of at most `limit` bytes.

    Raises:
        ValueError: if it is larger, or no regular file.
        FileNotFoundError: if it is not there.
        OSError: if it cannot be read.
    """
    if not is_remote(path):
        return untrusted.read_bytes(path, limit)
    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            contents = file.read(limit + 1)
    except tf.errors.NotFoundError:
        raise FileNotFoundError(
            errno.ENOENT, os.strerror(errno.ENOENT), path
        ) from None
    except tf.errors.OpError as error:
        raise OSError(f"{path} cannot be read ({error.message}).") from None
    if len(contents) > limit:
        raise ValueError(
            f"{path} is larger than the {limit / 2**20:.0f} MB that such a "
            "file may have."
        )
    return contents


def read_json(path: str, schema: type[T]) -> T:
    """Reads JSON that must fit a schema; see `untrusted.parse_json`.

    Raises:
        ValueError: in one sentence, if it does not fit.
        OSError: as `read_bytes` raises it.
    """
    return untrusted.parse_json(read_bytes(path), schema, path)


def write_bytes(path: str, contents: bytes) -> None:
    """Writes a file whole or not at all.

    Raises:
        OSError: naming the file, if it cannot be written.
    """
    try:
        if not is_remote(path):
            files.write_bytes(path, contents)
            return
        temporary = temporary_name(path)
        with tf.io.gfile.GFile(temporary, "wb") as file:
            file.write(contents)
        tf.io.gfile.rename(temporary, path, overwrite=True)
    except tf.errors.OpError as error:
        raise OSError(f"{path} cannot be written ({error.message}).") from None
    except OSError as error:
        raise OSError(
            f"{path} cannot be written ({error.strerror or error})."
        ) from None


def require_readable(path: str, what: str) -> None:
    """Makes sure that a path is a regular file that can be read.

    Args:
        path: of the file; a remote one need only be no folder.
        what: begins the sentence, such as "The input".

    Raises:
        ValueError: in one sentence that says what it is instead.
    """
    if is_remote(path):
        if not tf.io.gfile.exists(path):
            raise ValueError(f"{what} {path} does not exist: check the path.")
        if tf.io.gfile.isdir(path):
            raise ValueError(f"{what} {path} is a folder: name a file.")
        return
    try:
        mode = os.stat(path).st_mode
        for is_kind, name in _KINDS:
            if is_kind(mode):
                raise ValueError(f"{what} {path} is {name}: name a file.")
        os.close(os.open(path, os.O_RDONLY))
    except OSError as error:
        raise ValueError(f"{what} {path} {_reason(path, error)}") from None


def _reason(path: str, error: OSError) -> str:
    if error.errno == errno.ELOOP:
        return "is a symbolic link that leads back to itself: name a file."
    if error.errno == errno.ENOENT and os.path.islink(path):
        return (
            f"is a symbolic link to {os.readlink(path)}, which does not "
            "exist: name a file."
        )
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return "does not exist: check the path."
    return f"cannot be read ({error.strerror}): name another file."
