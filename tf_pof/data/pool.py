"""Worker processes of this machine that end when the work does.

They end with the first error, with Ctrl-C, and with the process that started
them, however that ends. One that dies is noticed. (Apache Beam's own worker
processes are not used: where one of them dies, as on a full disk, its runner
waits for ever.)
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from concurrent.futures import process
import contextlib
import functools
import multiprocessing
from multiprocessing import connection
from multiprocessing import context
import os
import signal
import threading
from typing import Any

# Calls a function with each of some elements and returns when all are done.
Execute = Callable[[Callable[[Any], None], Sequence], None]


class _Worker(context.SpawnProcess):
    """A process that a Ctrl-C on the terminal leaves to its starter."""

    def start(self):
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            super().start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


class _Context(context.SpawnContext):
    """Starts processes and knows which."""

    def __init__(self):
        super().__init__()
        self.workers: list[_Worker] = []

    def Process(self, *args, **kwargs):  # pylint: disable=invalid-name
        worker = _Worker(*args, **kwargs)
        self.workers.append(worker)
        return worker


@contextlib.contextmanager
def workers(number: int) -> Iterator[Execute]:
    """Yields what executes work in `number` processes, or here if it is 1.

    As with all of Python's multiprocessing, a script that uses it needs its
    `if __name__ == "__main__":`.

    Raises:
        OSError: if a process is ended from outside. What a function raises
            is raised as it is; the work of the others is then cut short.
    """
    if number == 1:
        yield _execute_here
        return
    own = _Context()
    executor = futures.ProcessPoolExecutor(number, own, initializer=_begin)
    try:
        yield functools.partial(_execute, executor)
    except BaseException:
        for worker in own.workers:
            if worker.is_alive():
                worker.kill()
        raise
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


def _execute_here(function, elements) -> None:
    for element in elements:
        function(element)


def _execute(executor, function, elements) -> None:
    waiting = [executor.submit(function, element) for element in elements]
    try:
        for future in futures.as_completed(waiting):
            future.result()
    except process.BrokenProcessPool:
        raise OSError(
            "A worker process was ended from outside, as a system does that "
            "runs out of memory: the same command goes on from here; "
            "--num_workers says how many there are."
        ) from None


def _begin() -> None:
    """Makes a worker one that ends with its starter and prints nothing."""
    threading.Thread(target=_end_with_starter, daemon=True).start()
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"  # the work is all on the CPU
    if os.environ.get("TF_CPP_MIN_LOG_LEVEL") == "3":
        # TensorFlow prints before it heeds log levels.
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 2)
        os.close(null)


def _end_with_starter() -> None:
    starter = multiprocessing.parent_process()
    if starter is not None:
        connection.wait([starter.sentinel])
        os._exit(1)
