"""The Apache Beam pipeline of a preparation, and where it runs."""

from collections.abc import Callable, Sequence
import contextlib
import functools
import logging
import os
import shlex
import sys
import threading

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability import fn_api_runner
from apache_beam.transforms import environments
import tensorflow as tf

from tf_pof.data import documents
from tf_pof.data import records
from tf_pof.data import stages
from tf_pof.data import work
from tf_pof.data.work import Job

Progress = Callable[[str, int, int], None]


@contextlib.contextmanager
def _local_settings():
    """Settings of the in-process runner, which its processes inherit."""
    root = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))
    paths = [root, os.environ.get("PYTHONPATH", "")]
    settings = {
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "CUDA_VISIBLE_DEVICES": "-1",  # the work is all on the CPU
    }
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    # Beam logs a worker's traceback; the sentence is in error.json.
    logger = logging.getLogger("apache_beam")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(level)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _run_locally(job: Job, pieces, num_workers: int) -> None:
    """Runs the pipeline in this process or in `num_workers` of its own."""
    environment = None
    if num_workers > 1:
        log = shlex.quote(job.path("workers.log"))
        environment = environments.SubprocessSDKEnvironment(
            f"exec {shlex.quote(sys.executable)} -m "
            f"apache_beam.runners.worker.sdk_worker_main >>{log} 2>&1"
        )
    runner = fn_api_runner.FnApiRunner(default_environment=environment)
    options = PipelineOptions([f"--direct_num_workers={num_workers}"])
    with _local_settings():
        with beam.Pipeline(runner=runner, options=options) as pipeline:
            build(pipeline, job, pieces)


def build(pipeline: beam.Pipeline, job: Job, pieces: Sequence) -> None:
    """Adds the preparation to a Beam pipeline.

    Args:
        pipeline: to add to.
        job: the preparation.
        pieces: of the input.
    """
    reports = (
        pipeline
        | "Pieces" >> beam.Create(list(enumerate(pieces)))
        | "SpreadPieces" >> beam.Reshuffle()
        | "MakeParts" >> beam.Map(functools.partial(stages.make_parts, job))
    )
    _ = (
        pipeline
        | "Job" >> beam.Create([job])
        | "PlanShards"
        >> beam.FlatMap(stages.plan_shards, beam.pvalue.AsList(reports))
        | "SpreadShards" >> beam.Reshuffle()
        | "MakeShard" >> beam.Map(functools.partial(stages.make_shard, job))
    )


@contextlib.contextmanager
def _watching(progress: Progress | None, job: Job, pieces):
    """Reports which marks exist, twice a second, from a thread."""
    if progress is None:
        yield
        return
    waiting = {
        "Reading text": {
            job.piece_mark(number): piece.size
            for number, piece in enumerate(pieces)
        },
        "Writing shards": {
            job.shard_mark(name): 1
            for split in records.SPLITS
            for name in job.shard_names(split)
        },
    }
    totals = {stage: sum(marks.values()) for stage, marks in waiting.items()}
    finished = threading.Event()

    def look():
        for stage, marks in waiting.items():
            for path in [path for path in marks if tf.io.gfile.exists(path)]:
                del marks[path]
            left = sum(marks.values())
            progress(stage, totals[stage] - left, totals[stage])
            if left:
                break

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


def run(
    job: Job,
    pieces: Sequence[documents.Piece],
    num_workers: int,
    beam_args: Sequence[str] = (),
    progress: Progress | None = None,
) -> None:
    """Runs the pipeline to its end.

    Args:
        job: the preparation.
        pieces: of the input.
        num_workers: processes of the in-process runner.
        beam_args: options of Beam for any other runner.
        progress: called with the stage, what is done and the total.

    Raises:
        ValueError: with the sentence of a worker that met bad input.
        OSError: with that of a worker that could not read or write.
    """
    try:
        with _watching(progress, job, pieces):
            if not beam_args:
                _run_locally(job, pieces, num_workers)
                return
            options = PipelineOptions(list(beam_args))
            with beam.Pipeline(options=options) as pipeline:
                build(pipeline, job, pieces)
    except Exception as error:
        report = work.read_mark(job.path("error.json"))
        if report is None:
            raise
        kind = ValueError if report["kind"] == "input" else OSError
        raise kind(report["message"]) from error
