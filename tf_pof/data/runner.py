"""Runs the stages of a preparation: here, in processes, or on Apache Beam.

The two stages are executed one after the other; what stands between them is
decided by the main program, from the marks that the first has left.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
import contextlib
import functools
import threading

import tensorflow as tf

from tf_pof.data import documents
from tf_pof.data import plan
from tf_pof.data import pool
from tf_pof.data import records
from tf_pof.data import stages
from tf_pof.data import work
from tf_pof.data.work import Job

Progress = Callable[[str, int, int], None]


@contextlib.contextmanager
def _watching(
    progress: Progress | None, stage: str, marks: Mapping[str, int]
) -> Iterator[None]:
    """Reports which marks exist, twice a second, from a thread.

    Args:
        progress: called with the stage, what is done and the total.
        stage: its name.
        marks: what the work of each is worth, by path.
    """
    if progress is None:
        yield
        return
    waiting, total = dict(marks), sum(marks.values())
    finished = threading.Event()

    def look():
        for path in [path for path in waiting if tf.io.gfile.exists(path)]:
            del waiting[path]
        progress(stage, total - sum(waiting.values()), total)

    def watch():
        while not finished.wait(0.5):
            look()

    look()
    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        finished.set()
        thread.join()
    look()


def _make_parts(job, pieces, execute, progress) -> list[work.PieceReport]:
    marks = {
        job.piece_mark(number): piece.size
        for number, piece in enumerate(pieces)
    }
    stage = "Reading text" if job.held_out is None else "Splitting again"
    with _watching(progress, stage, marks):
        execute(
            functools.partial(stages.make_parts, job), list(enumerate(pieces))
        )
    return [require_mark(path, work.PieceReport) for path in marks]


def require_mark(path: str, schema: type[work.S]) -> work.S:
    """Reads the mark of what has been done just now.

    Raises:
        OSError: if it is not there, or not as it was written.
    """
    report = work.read_mark(path, schema)
    if report is None:
        raise OSError(
            f"{path} is missing or damaged, though its work was done: see "
            "that every worker reads and writes the same folder, and that "
            "nothing else writes there."
        )
    return report


def run(
    job: Job,
    pieces: Sequence[documents.Piece],
    execute: pool.Execute,
    progress: Progress | None = None,
) -> Job:
    """Runs both stages to their end.

    Args:
        job: the preparation.
        pieces: of the input.
        execute: runs a function for each of some elements.
        progress: called with the stage, what is done and the total.

    Returns:
        The job as it was done: `plan.settle_split` may have changed it.

    Raises:
        ValueError: with the sentence of a worker that met bad input.
        OSError: with that of a worker that could not read or write.
    """
    reports = _make_parts(job, pieces, execute, progress)
    job = plan.settle_split(job, reports)
    if job.held_out is not None:
        reports = _make_parts(job, pieces, execute, progress)
    shards = plan.plan_shards(job, reports)
    marks = {
        job.shard_mark(name): 1
        for split in records.SPLITS
        for name in job.shard_names(split)
    }
    with _watching(progress, "Writing shards", marks):
        execute(functools.partial(stages.make_shard, job), shards)
    return job
