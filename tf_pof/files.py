"""Files that are there whole or not at all, and folders that two share.

Every writer of the package goes through here. A file is written under a name
that nobody can foresee and renamed at its end. A set of files that belong
together is renamed as a set: a note of what is under way is left first, and
whoever opens the folder after a crash finishes it. Nothing that is not named
is ever removed.
"""

from collections.abc import Iterator, Mapping, Sequence
import contextlib
import datetime
import errno
import fcntl
import json
import os
import shutil
import socket
import tempfile

from tf_pof import untrusted

# Folders in which sets of files wait for their names.
_STAGING = ".tf_pof-"
_NOTE = "rename.json"


class _Note(untrusted.Schema):
    """What a crash has left to be done."""

    rename: list[str]
    remove: list[str]


def write_bytes(path: str | os.PathLike, contents: bytes) -> None:
    """Writes a file whole or not at all, and makes its folder.

    Raises:
        OSError: if writing fails; what was there before is then left.
    """
    path = os.path.abspath(path)
    folder, name = os.path.split(path)
    os.makedirs(folder, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=folder, prefix=f".{name}.tmp-")
    try:
        with open(descriptor, "wb") as file:
            _write_and_sync(file, contents)
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    _sync_folder(folder)


def write_text(path: str | os.PathLike, text: str) -> None:
    """Writes a UTF-8 file; see `write_bytes`."""
    write_bytes(path, text.encode())


def write_json(path: str | os.PathLike, value, sort_keys: bool = False) -> None:
    """Writes a JSON file; see `write_bytes`."""
    write_bytes(path, json_bytes(value, sort_keys))


def json_bytes(value, sort_keys: bool = False) -> bytes:
    """A value as the JSON that all our files are written in."""
    return (json.dumps(value, indent=2, sort_keys=sort_keys) + "\n").encode()


def write_set(
    folder: str | os.PathLike,
    files: Mapping[str, bytes],
    remove: Sequence[str] = (),
) -> None:
    """Writes files of a folder as a set: all of them or none.

    A folder that does not exist appears with all its files. In one that does,
    only the named files change. A crash while they are renamed is made good by
    `recover`, which this function and every reader call first.

    Args:
        folder: its parents are made if need be.
        files: contents by name.
        remove: names of files that the new set no longer has.

    Raises:
        OSError: if writing fails; the older files are then left as they were.
    """
    folder = os.path.abspath(folder)
    parent = os.path.dirname(folder)
    os.makedirs(parent, exist_ok=True)
    if not os.path.exists(folder):
        name = os.path.basename(folder)
        temporary = tempfile.mkdtemp(dir=parent, prefix=f".{name}.tmp-")
        try:
            _write_all(temporary, files)
            os.chmod(temporary, 0o777 & ~_umask())
            try:
                os.rename(temporary, folder)
                _sync_folder(parent)
                return
            except OSError as error:
                # Another process has made the folder in the meantime.
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    with _locked(folder):
        _recover_locked(folder)
        for name in (*files, *remove):
            if os.path.isdir(os.path.join(folder, name)):
                raise OSError(f"{os.path.join(folder, name)} is a folder.")
        staging = tempfile.mkdtemp(dir=folder, prefix=_STAGING)
        try:
            _write_all(staging, files)
            note = _Note(rename=sorted(files), remove=sorted(remove))
            # From here on the new set is what the folder holds.
            write_json(os.path.join(staging, _NOTE), note.model_dump())
        except BaseException:
            shutil.rmtree(staging, ignore_errors=True)
            raise
        _finish(folder, staging, note)


def recover(folder: str | os.PathLike) -> None:
    """Finishes what a crash has cut short in `write_set`.

    Raises:
        OSError: if there is something to finish, and the folder cannot be
            written to.
    """
    folder = os.path.abspath(folder)
    if any(True for _ in _stagings(folder)):
        with _locked(folder):
            _recover_locked(folder)


def _recover_locked(folder):
    for staging in list(_stagings(folder)):
        path = os.path.join(staging, _NOTE)
        if not os.path.exists(path):
            # The crash came before the set was complete.
            shutil.rmtree(staging, ignore_errors=True)
            continue
        note = untrusted.read_json(path, _Note)
        for name in (*note.rename, *note.remove):
            if os.path.basename(name) != name or name in ("", ".", ".."):
                raise OSError(
                    f"{path} names files of other folders: remove it."
                )
        _finish(folder, staging, note)


def _stagings(folder) -> Iterator[str]:
    if not os.path.isdir(folder):
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(_STAGING) and entry.is_dir(
                follow_symlinks=False
            ):
                yield entry.path


def _finish(folder, staging, note):
    for name in note.rename:
        # Absent: it was renamed before the crash.
        with contextlib.suppress(FileNotFoundError):
            os.replace(os.path.join(staging, name), os.path.join(folder, name))
    for name in note.remove:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(folder, name))
    _sync_folder(folder)
    shutil.rmtree(staging, ignore_errors=True)


@contextlib.contextmanager
def _locked(folder):
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _write_all(folder, files):
    for name, contents in files.items():
        with open(os.path.join(folder, name), "wb") as file:
            _write_and_sync(file, contents)
    _sync_folder(folder)


def _write_and_sync(file, contents):
    file.write(contents)
    file.flush()
    os.fsync(file.fileno())


def _sync_folder(path):
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def require_file_path(path: str, what: str) -> None:
    """Makes sure, before any work, that a file can be written at `path`.

    Args:
        path: of the file.
        what: to begin the sentence with, such as "The report".

    Raises:
        ValueError: if the path is empty or that of a folder.
        OSError: if its folder cannot be made or written to.
    """
    if not path.strip():
        raise ValueError(f"{what} has an empty name: name a file.")
    if os.path.isdir(path) or path.endswith(os.sep):
        raise ValueError(f"{what} {path} is a folder: name a file.")
    _require_writable(os.path.dirname(os.path.abspath(path)), what, path)


def require_folder_path(path: str, what: str) -> None:
    """Makes sure, before any work, that a folder can be filled at `path`.

    Args:
        path: of the folder, which need not exist.
        what: to begin the sentence with, such as "The output".

    Raises:
        ValueError: if the path is empty, "/" or that of a file.
        OSError: if the folder cannot be made or written to.
    """
    if not path.strip():
        raise ValueError(f"{what} has an empty name: name a folder.")
    if os.path.abspath(path) == os.path.abspath(os.sep):
        raise ValueError(f"{what} {path} is the root folder: name another.")
    if os.path.lexists(path) and not os.path.isdir(path):
        raise ValueError(f"{what} {path} is no folder: name another.")
    _require_writable(os.path.abspath(path), what, path)


def _require_writable(folder, what, path):
    while not os.path.lexists(folder):
        folder = os.path.dirname(folder)
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OSError(
            f"{what} {path} cannot be written ({error.strerror}: {folder}): "
            "name another place."
        ) from None


@contextlib.contextmanager
def only_writer(path: str | os.PathLike) -> Iterator[None]:
    """Keeps other processes from working on the same output.

    The lock is a file beside the output that says who holds it. The system
    gives it up when its process ends, however it ends, so that no lock is
    ever left behind.

    Args:
        path: of the output, a file or a folder, which need not exist. Remote
            ones ("gs://...") have no lock.

    Raises:
        OSError: in one sentence, if another process works on it.
    """
    path = os.fspath(path)
    if "://" in path:
        yield
        return
    folder, name = os.path.split(os.path.realpath(path))
    os.makedirs(folder, exist_ok=True)
    lock = os.path.join(folder, f".{name}.tf_pof.lock")
    descriptor = _take(lock, path)
    try:
        owner = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "since": datetime.datetime.now().isoformat(" ", "seconds"),
        }
        os.truncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(owner).encode(), 0)
        yield
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(lock)
        os.close(descriptor)


def _take(lock, path):
    """The descriptor of a lock file that this process holds now."""
    while True:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(lock, flags, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Its last holder may have removed the name before we locked it.
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), os.stat(lock)):
                    return descriptor
        except BlockingIOError:
            owner = _owner(descriptor)
            os.close(descriptor)
            raise OSError(
                f"Another process ({owner}) works on {path}: wait for it, or "
                "name another output."
            ) from None
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _owner(descriptor) -> str:
    try:
        owner = json.loads(os.pread(descriptor, 4096, 0))
        return "pid {pid} on {host}, since {since}".format_map(owner)
    except (ValueError, KeyError, TypeError):
        return "it has only just begun"
