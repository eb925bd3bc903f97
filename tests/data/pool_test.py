"""Worker processes: they end with errors, with Ctrl-C and their starter."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from tf_pof.data import pool


def _children():
    return [child for child in multiprocessing.active_children()]


def test_one_worker_is_this_process(tmp_path):
    seen = []
    with pool.workers(1) as execute:
        execute(seen.append, [3, 1, 2])
    assert seen == [3, 1, 2] and not _children()


def test_workers_do_each_element_once(tmp_path):
    with pool.workers(2) as execute:
        execute(os.mkdir, [str(tmp_path / str(i)) for i in range(20)])
        execute(os.rmdir, [str(tmp_path / str(i)) for i in range(19)])
    assert os.listdir(tmp_path) == ["19"]
    assert not _children()


def test_the_first_error_ends_the_work_of_all():
    began = time.monotonic()
    with pytest.raises(TypeError):
        with pool.workers(2) as execute:
            execute(time.sleep, [100, "no number"])
    assert time.monotonic() - began < 50
    assert not _children()


def test_a_worker_that_dies_is_a_sentence_and_no_hang():
    with pytest.raises(OSError, match="was ended from outside"):
        with pool.workers(2) as execute:
            execute(os._exit, [9, 9])
    assert not _children()


def test_ctrl_c_ends_the_workers():
    began = time.monotonic()

    def interrupt():
        while len(_children()) < 2:
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        with pool.workers(2) as execute:
            execute(time.sleep, [100, 100])
    thread.join()
    assert time.monotonic() - began < 50
    assert not _children()


_STARTER = """
import time
from tf_pof.data import pool
if __name__ == "__main__":
    with pool.workers(2) as execute:
        execute(time.sleep, [100, 100])
"""


def _processes_of(group):
    """Those of a process group that still run."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat", encoding="utf-8") as file:
                state, _, its_group = file.read().rpartition(")")[2].split()[:3]
            with open(f"/proc/{name}/cmdline", encoding="utf-8") as file:
                command = file.read()
        except OSError:
            continue
        if its_group == str(group) and state != "Z":
            found.append(command)
    return found


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_workers_end_with_their_starter_without_a_word(tmp_path, number):
    """SIGINT goes to all of them, as a terminal sends it."""
    script = tmp_path / "starter.py"
    script.write_text(_STARTER)
    starter = subprocess.Popen(
        [sys.executable, str(script)],
        start_new_session=True,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.getcwd()},
    )
    while sum("spawn_main" in c for c in _processes_of(starter.pid)) < 2:
        assert starter.poll() is None
        time.sleep(0.05)
    if number == signal.SIGINT:
        os.killpg(starter.pid, number)
    else:
        os.kill(starter.pid, number)
    errors = starter.stderr.read().decode()
    starter.wait()
    deadline = time.monotonic() + 30
    while _processes_of(starter.pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _processes_of(starter.pid)
    # The one traceback is that of the script.
    assert errors.count("Traceback") == (number == signal.SIGINT)
