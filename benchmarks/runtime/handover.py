"""How long a cache line takes from one processor to another, and back.

Threads wait for each other by such lines, and what one has computed comes to
another in them. Where processors share a cache it is some 50 ns; where they do
not, several times that. Which of a machine's cores the processors of a virtual
machine are is its host's choice, and may change from one second to the next.
"""

import ctypes
import functools
import os
import pathlib
import subprocess
import tempfile

_SOURCE = """
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <time.h>

static struct { volatile int value; char rest[252]; } there, back;
static int turns;

static void pin(int processor) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(processor, &set);
  pthread_setaffinity_np(pthread_self(), sizeof(set), &set);
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1e9 + t.tv_nsec;
}

static void* answer(void* processor) {
  pin(*(int*)processor);
  for (int i = 1; i <= turns; ++i) {
    while (there.value != i) {
    }
    back.value = i;
  }
  return 0;
}

double handover(int first, int second, int count) {
  cpu_set_t before;
  pthread_getaffinity_np(pthread_self(), sizeof(before), &before);
  pin(first);
  there.value = back.value = 0;
  turns = count;
  pthread_t other;
  pthread_create(&other, 0, answer, &second);
  double start = 0;
  for (int i = 1; i <= count; ++i) {
    if (i == count / 10) start = now();
    there.value = i;
    while (back.value != i) {
    }
  }
  const double taken = now() - start;
  pthread_join(other, 0);
  pthread_setaffinity_np(pthread_self(), sizeof(before), &before);
  return taken / 2 / (count - count / 10 + 1);
}
"""


@functools.cache
def _function():
    with tempfile.TemporaryDirectory() as folder:
        source, path = (pathlib.Path(folder) / n for n in ("a.c", "a.so"))
        source.write_text(_SOURCE)
        subprocess.run(
            ["cc", "-O2", "-shared", "-fPIC", "-o", path, source, "-lpthread"],
            check=True,
        )
        function = ctypes.CDLL(str(path)).handover
    function.restype = ctypes.c_double
    return function


def nanoseconds(count: int = 200_000) -> float:
    """One way between the first two processors that this process may use.

    Args:
        count: times that the line goes there and back.

    Raises:
        ValueError: if there is one processor only.
    """
    processors = sorted(os.sched_getaffinity(0))
    if len(processors) < 2:
        raise ValueError("This process may use one processor only: allow two.")
    return _function()(processors[0], processors[1], count)
