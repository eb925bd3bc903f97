"""Writers leave all or nothing, and only what is named changes."""

import errno
import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys

import pytest

from tf_pof import files

OLD = {"a": b"old a", "b": b"old b", "gone": b"old"}
NEW = {"a": b"new a", "b": b"new b", "c": b"new c"}


def contents(folder):
    return {
        path.name: path.read_bytes() for path in folder.iterdir()
    }


def test_a_file_is_written_into_a_folder_that_is_not_there(tmp_path):
    files.write_json(tmp_path / "x" / "y.json", {"b": 1, "a": [2]})
    assert json.loads((tmp_path / "x" / "y.json").read_text())["a"] == [2]
    assert os.listdir(tmp_path / "x") == ["y.json"]


def test_a_bare_name_is_written_into_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files.write_bytes("x.json", b"{}")
    assert contents(tmp_path) == {"x.json": b"{}"}


def test_a_failed_write_leaves_the_old_file_and_nothing_else(
    tmp_path, monkeypatch
):
    path = tmp_path / "x"
    path.write_bytes(b"old")

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        files.write_bytes(path, b"new")
    assert contents(tmp_path) == {"x": b"old"}


def test_a_link_under_a_foreseeable_name_is_not_followed(tmp_path):
    victim = tmp_path / "victim"
    victim.write_bytes(b"mine")
    for name in ("x.tmp", ".x.tmp", ".x.tmp-"):
        (tmp_path / name).symlink_to(victim)
    files.write_bytes(tmp_path / "x", b"new")
    assert victim.read_bytes() == b"mine"
    assert (tmp_path / "x").read_bytes() == b"new"


def test_modes_are_those_that_the_umask_leaves(tmp_path):
    before = os.umask(0o027)
    try:
        files.write_bytes(tmp_path / "x", b"")
        files.write_set(tmp_path / "folder", {"y": b""})
    finally:
        os.umask(before)
    assert (tmp_path / "x").stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "folder").stat().st_mode & 0o777 == 0o750
    assert (tmp_path / "folder" / "y").stat().st_mode & 0o777 == 0o640


def test_a_set_replaces_its_files_and_leaves_those_of_others(tmp_path):
    (tmp_path / "notes.txt").write_bytes(b"mine")
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "a").write_bytes(b"mine too")
    files.write_set(tmp_path, OLD)
    files.write_set(tmp_path, NEW, remove=["gone"])
    assert (tmp_path / "src" / "a").read_bytes() == b"mine too"
    (tmp_path / "src" / "a").unlink()
    (tmp_path / "src").rmdir()
    assert contents(tmp_path) == NEW | {"notes.txt": b"mine"}


def test_a_folder_in_a_files_place_stops_a_set_before_it_begins(tmp_path):
    files.write_set(tmp_path, OLD)
    (tmp_path / "c").mkdir()
    with pytest.raises(OSError, match="is a folder"):
        files.write_set(tmp_path, NEW)
    (tmp_path / "c").rmdir()
    assert contents(tmp_path) == OLD


def kill_at(folder, call, number):
    """In a process of its own: dies at the n-th call of an os function."""
    real = getattr(os, call)
    calls = []

    def counted(*args, **kwargs):
        calls.append(args)
        if len(calls) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **kwargs)

    setattr(os, call, counted)
    files.write_set(folder, NEW, remove=["gone"])
    os._exit(17)


@pytest.mark.parametrize("call", ["fsync", "replace", "unlink", "open"])
def test_killed_anywhere_a_set_is_the_old_or_the_new_one(tmp_path, call):
    context = multiprocessing.get_context("fork")
    seen = set()
    for number in range(1, 40):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "notes.txt").write_bytes(b"mine")
        files.write_set(folder, OLD)
        process = context.Process(target=kill_at, args=(folder, call, number))
        process.start()
        process.join()
        files.recover(folder)
        found = contents(folder)
        assert found.pop("notes.txt") == b"mine"
        assert found in (OLD, NEW)
        seen.add("new" if found == NEW else "old")
        if process.exitcode == 17:
            break
        assert process.exitcode == -signal.SIGKILL
    assert process.exitcode == 17, "the calls did not end"
    # Renames begin when the set is complete; so the old one is not seen there.
    assert seen == ({"new"} if call == "unlink" else {"old", "new"})


@pytest.mark.parametrize(
    "note, sentence",
    [
        ({"rename": [], "remove": ["../victim"]}, "files of other folders"),
        ({"rename": [".."], "remove": []}, "files of other folders"),
        ({"rename": 5, "remove": []}, "wrong 'rename'"),
        ({}, "lacks 'rename'"),
        ([], "rename.json does not hold what it should"),
    ],
)
def test_a_note_that_we_did_not_write_is_refused(note, sentence, tmp_path):
    staging = tmp_path / ".tf_pof-evil"
    staging.mkdir()
    (staging / "rename.json").write_text(json.dumps(note))
    with pytest.raises((OSError, ValueError), match=sentence):
        files.recover(tmp_path)


@pytest.mark.parametrize("path", ["", " ", "/", "file", "file/x", "/proc/x"])
def test_outputs_that_cannot_be_folders_are_refused(
    path, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises((ValueError, OSError), match="name a"):
        files.require_folder_path(path, "The output")
    files.require_folder_path("new/folder", "The output")
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("path", ["", "/", "folder", "new/", "file/x"])
def test_outputs_that_cannot_be_files_are_refused(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    with pytest.raises((ValueError, OSError), match="name a"):
        files.require_file_path(path, "The report")
    files.require_file_path("x.json", "The report")


HOLD = """
import sys
from tf_pof import files
with files.only_writer(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


def holder(path):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_writer_is_told_who_the_first_one_is(tmp_path):
    path = tmp_path / "run"
    with holder(path) as process:
        told = (
            rf"Another process \(pid {process.pid} on \S+, since \d{{4}}-.*\) "
            f"works on {re.escape(str(path))}"
        )
        with pytest.raises(OSError, match=told):
            with files.only_writer(path):
                pass
        # By another way to the same place, too.
        (tmp_path / "link").symlink_to(path)
        with pytest.raises(OSError, match=f"pid {process.pid} "):
            with files.only_writer(tmp_path / "link"):
                pass
        with files.only_writer(tmp_path / "other"):
            pass
        process.stdin.close()
    with files.only_writer(path):
        pass
    assert sorted(os.listdir(tmp_path)) == ["link"]


def test_a_killed_writer_leaves_no_lock(tmp_path):
    path = tmp_path / "run"
    with holder(path) as process:
        process.kill()
    with files.only_writer(path):
        pass
    assert os.listdir(tmp_path) == []
