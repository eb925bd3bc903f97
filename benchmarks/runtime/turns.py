"""Times the same function of two libraries, turn by turn.

Calls are made from C, by a loop of its own, so that those of a microsecond
are not lost in what Python takes.
"""

import ctypes
import pathlib
import statistics
import subprocess
from collections.abc import Callable, Sequence

_ROUNDS = 60
_SECONDS = 3e-4
_LOOP = """
#include <time.h>
typedef void (*Function)(long, long, long, long, long, long, long, long, long,
                         long);
static double Now(void) {
  struct timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return t.tv_sec + t.tv_nsec * 1e-9;
}
/* Registers and places of the stack that a function has no use for do no
   harm. */
double Seconds(Function run, const long* x, long repeats) {
  const double start = Now();
  for (long i = 0; i < repeats; ++i) {
    run(x[0], x[1], x[2], x[3], x[4], x[5], x[6], x[7], x[8], x[9]);
  }
  return (Now() - start) / repeats;
}
"""
# As many as the loop gives.
_ARGUMENTS = 10


def loop(folder: str) -> Callable[..., Callable[[int], float]]:
    """Returns loop(function, arguments), which returns seconds(repeats).

    Arguments are integers and pointers of ctypes, ten at most. Needs a C
    compiler, called cc; the loop is built under `folder`.
    """
    source, built = (pathlib.Path(folder) / f"loop.{n}" for n in ("c", "so"))
    source.write_text(_LOOP)
    command = ["cc", "-O2", "-shared", "-fPIC", "-o", built, source]
    subprocess.run(command, check=True)
    seconds = ctypes.CDLL(str(built)).Seconds
    seconds.restype = ctypes.c_double

    def timed(function, arguments: Sequence) -> Callable[[int], float]:
        values = [getattr(x, "value", x) or 0 for x in arguments]
        numbers = (ctypes.c_long * _ARGUMENTS)(*values)
        return lambda repeats: seconds(
            function, numbers, ctypes.c_long(repeats)
        )

    return timed


def compare(one, other, rounds: int = _ROUNDS) -> tuple[float, float]:
    """Seconds of one call, and the other's by them, as `loop` times them.

    A turn is about 0.3 ms. Which of the two is first changes every time, and
    the ratio is the median of those of turns next to each other, so that it
    does not matter whether the processor is slow for a while.
    """
    runs = (one, other)
    once = max(min(one(3), one(3)), 1e-7)
    repeats = max(1, int(_SECONDS / once))
    other(repeats)
    seconds, ratios = [], []
    for turn in range(rounds):
        times = [0.0, 0.0]
        for i in (0, 1) if turn % 2 else (1, 0):
            times[i] = runs[i](repeats)
        seconds.append(times[0])
        ratios.append(times[1] / times[0])
    return statistics.median(seconds), statistics.median(ratios)


def cell(times: Sequence[tuple[float, float]]) -> str:
    """Of a table: the medians of what `compare` gave."""
    seconds, ratios = (statistics.median(x) for x in zip(*times, strict=True))
    return f"{seconds * 1e6:.2f} us, {ratios:.2f}"
