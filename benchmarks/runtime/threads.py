"""Whole models on one thread and on more, by turns.

    python -m benchmarks.runtime.threads --models=a.tflite,b.tflite

Sessions of one thread and of --threads take turns in one process, and medians
of a call are compared, so that both see the same machine. A turn begins with a
call that is not timed, which wakes the threads. Every repeat is printed, none
is left out, and two things that bound it. "Side by side" is how many times one
the processors are that each compute a model of their own on one thread, at
once: less than their number if they share something, or are not equally fast.
A cache line is what one took from one processor to the other at the beginning
and at the end: see `handover`.
"""

from concurrent import futures
import dataclasses
import os
import pathlib
import statistics

from absl import app, flags

from benchmarks.runtime import handover
from tf_pof.runtime.session import Engine, Session, Shape, medians

MODELS = flags.DEFINE_list("models", None, "Paths of .tflite files.")
TOKENS = flags.DEFINE_integer("tokens", 128, "Of the one sequence.")
THREADS = flags.DEFINE_integer("threads", 2, "Compared to one.")
REPEATS = flags.DEFINE_integer("repeats", 4, "Rows of each model.")
ROUNDS = flags.DEFINE_integer("rounds", 15, "Times that sessions take turns.")
_VOCABULARY = 30522


def side_by_side(sessions: list[Session], one: float) -> float:
    """Calls of all sessions at once, in the time of a call alone.

    Args:
        sessions: of one thread each.
        one: seconds of a call alone.
    """
    calls = max(1, round(0.01 / one))
    with futures.ThreadPoolExecutor(len(sessions)) as threads:
        rounds = [
            list(threads.map(lambda session: session.seconds(calls), sessions))
            for _ in range(ROUNDS.value + 1)
        ]
    return statistics.median(
        sum(one / seconds for seconds in found) for found in rounds[1:]
    )


def main(argv):
    del argv
    processors = os.sched_getaffinity(0)
    if len(processors) < THREADS.value:
        raise app.UsageError(
            f"{THREADS.value} threads need as many processors, this process "
            f"may use {len(processors)}: set --threads."
        )
    print(
        f"| model | tokens | 1 thread, ms | {THREADS.value} threads, ms | "
        "ratio | side by side | a cache line, ns |"
    )
    print("|---" * 7 + "|")
    for path in MODELS.value:
        engine = Engine("tf_pof", path, {}, _VOCABULARY)
        shape = Shape(TOKENS.value, num_threads=THREADS.value)
        together = Session(engine, shape)
        alone = [
            Session(engine, dataclasses.replace(shape, num_threads=1))
            for _ in range(THREADS.value)
        ]
        for _ in range(REPEATS.value):
            lines = [handover.nanoseconds()]
            one, more = medians([alone[0], together], ROUNDS.value)
            bound = side_by_side(alone, one)
            lines.append(handover.nanoseconds())
            print(
                f"| {pathlib.Path(path).stem} | {TOKENS.value} "
                f"| {one * 1e3:.3f} | {more * 1e3:.3f} | {one / more:.2f}x "
                f"| {bound:.2f}x | {lines[0]:.0f}, {lines[1]:.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    flags.mark_flag_as_required("models")
    app.run(main)
