"""The preparation as a whole: an Apache Beam pipeline from text to shards.

    pieces of the input -> make_parts -> plan_shards -> make_shard

The elements that Beam handles are descriptions of coarse work (about 4 MB of
text, or one shard), because its overhead for each element is large; the data
itself goes through files in a work folder beside the output. So memory is
bounded by a block and a shard for each worker on any runner, and a GroupByKey
that holds the corpus in memory, as in-process runners do it, is not needed.
Every worker of another runner must see the work folder: give an output on a
shared file system.

The work folder is `<output>.partial`. A restart with the same arguments and
input uses what is finished there. The output appears at the end by a rename,
whole or not at all; on a remote file system, which has no rename of folders,
its meta.json is written last.
"""

from collections.abc import Callable, Sequence
import contextlib
import dataclasses
import functools
import hashlib
import json
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
from tf_pof.data.examples import PairOptions
from tf_pof.data.tokenizer import WordPiece

Progress = Callable[[str, int, int], None]
_SHARD_BYTES = 32 << 20
_WORKER_BYTES = 32 << 20
_PACKED = (".gz", ".xz", ".bz2")


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


def _run_locally(job: stages.Job, pieces, num_workers: int) -> None:
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


def build(pipeline: beam.Pipeline, job: stages.Job, pieces: Sequence) -> None:
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
def _watching(progress: Progress | None, job: stages.Job, pieces):
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


def _run(job, pieces, num_workers, beam_args, progress) -> None:
    """Runs the pipeline; a worker's error comes as one sentence."""
    try:
        with _watching(progress, job, pieces):
            if not beam_args:
                _run_locally(job, pieces, num_workers)
                return
            options = PipelineOptions(list(beam_args))
            with beam.Pipeline(options=options) as pipeline:
                build(pipeline, job, pieces)
    except Exception as error:
        report = stages.read_mark(job.path("error.json"))
        if report is None:
            raise
        kind = ValueError if report["kind"] == "input" else OSError
        raise kind(report["message"]) from error


def _fingerprint(values: dict, pieces: Sequence[documents.Piece]) -> str:
    """Identifies the arguments and the input, files' times included."""
    times = {}
    for piece in pieces:
        for source in piece.sources:
            path = getattr(source, "path", None)
            if path is not None and path not in times:
                times[path] = tf.io.gfile.stat(path).mtime_nsec
    content = json.dumps([records.VERSION, values, times]) + repr(pieces)
    return hashlib.sha256(content.encode()).hexdigest()


def _check_output(output: str, overwrite: bool) -> None:
    if not tf.io.gfile.exists(output):
        return
    if not tf.io.gfile.isdir(output):
        raise ValueError(f"The output {output} is a file: name a folder.")
    names = tf.io.gfile.listdir(output)
    if not names:
        return
    if not overwrite:
        raise ValueError(
            f"The output {output} exists: add --overwrite to replace it or "
            "name another folder."
        )
    if "meta.json" not in [name.rstrip("/") for name in names]:
        raise ValueError(
            f"The output {output} holds other files than a prepared data "
            "set, which --overwrite does not delete: name another folder."
        )


def _open_work_folder(work: str, fingerprint: str) -> None:
    """Makes the work folder; what another preparation has left is deleted."""
    path = os.path.join(work, "fingerprint.json")
    mark = stages.read_mark(path) if tf.io.gfile.exists(work) else None
    if mark != {"sha256": fingerprint}:
        if tf.io.gfile.exists(work):
            tf.io.gfile.rmtree(work)
        tf.io.gfile.makedirs(work)
        content = json.dumps({"sha256": fingerprint}).encode()
        stages.write_atomically(path, content)
    error = os.path.join(work, "error.json")
    if tf.io.gfile.exists(error):
        tf.io.gfile.remove(error)


def prepare(
    pieces: Sequence[documents.Piece],
    output: str,
    vocab_file: str,
    options: PairOptions = PairOptions(),
    separator: str = "blank_line",
    lowercase: bool = True,
    validation_fraction: float = 0.05,
    whole_word_masking: bool = False,
    num_shards: int | None = None,
    num_workers: int | None = None,
    seed: int = 0,
    beam_args: Sequence[str] = (),
    overwrite: bool = False,
    arguments: dict | None = None,
    progress: Progress | None = None,
) -> records.PretrainingMeta:
    """Prepares a pre-training data set.

    The result depends on the input, the arguments and the seed alone.

    Args:
        pieces: the input, from `documents.plan_files` or `tfds_text.plan`.
        output: folder to make.
        vocab_file: WordPiece vocabulary.
        options: how to draw segment pairs.
        separator: of documents in text files, "blank_line" or "line".
        lowercase: whether to lower-case and strip accents.
        validation_fraction: share of the documents that goes to validation,
            chosen by a hash of their text.
        whole_word_masking: whether masking shall take whole words.
        num_shards: of the train split; by default about 32 MB of text each,
            at least 4.
        num_workers: processes of the in-process runner; by default one a
            core, fewer for less than 32 MB of text each.
        seed: of everything drawn.
        beam_args: options of Beam, "--runner=..." first, to run elsewhere.
        overwrite: whether an existing data set is replaced.
        arguments: kept in meta.json for the record.
        progress: called with the stage, what is done and the total.

    Returns:
        The meta data of the data set.

    Raises:
        ValueError: if an argument or the input is not usable. Nothing is
            left then.
        OSError: if a file cannot be read or written.
    """
    output = os.path.expanduser(output.rstrip("/"))
    if not 0 <= validation_fraction < 1:
        raise ValueError(
            "The validation fraction must be at least 0 and below 1, not "
            f"{validation_fraction}."
        )
    size = sum(piece.size * _expansion(piece) for piece in pieces)
    if num_shards is None:
        num_shards = min(1024, max(4, -(-size // _SHARD_BYTES)))
    if num_shards < 1:
        raise ValueError(f"The data needs at least 1 shard, not {num_shards}.")
    _check_output(output, overwrite)
    tokenizer = WordPiece(vocab_file, lowercase)
    if not num_workers:
        # A worker process needs seconds to start: it must be worth it.
        num_workers = max(1, min(_num_cores(), size // _WORKER_BYTES))
    work = output + ".partial"
    result = output if "://" in output else os.path.join(work, "result")
    job = stages.Job(
        work, result, vocab_file, lowercase, separator, options,
        validation_fraction, num_shards, seed,
    )  # fmt: skip
    values = dataclasses.asdict(job) | {
        "vocab_sha256": tokenizer.sha256,
        "whole_word_masking": whole_word_masking,
    }
    _open_work_folder(work, _fingerprint(values, pieces))
    tf.io.gfile.makedirs(result)
    try:
        _run(job, pieces, num_workers, beam_args, progress)
        meta = _collect(
            job, pieces, tokenizer, whole_word_masking, arguments or {}
        )
        tf.io.gfile.copy(
            vocab_file, os.path.join(result, "vocab.txt"), overwrite=True
        )
        records.write_meta(result, meta)
    except ValueError:
        tf.io.gfile.rmtree(work)
        raise
    _publish(result, output)
    tf.io.gfile.rmtree(work)
    return meta


def _num_cores() -> int:
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _expansion(piece: documents.Piece) -> int:
    """About how many bytes of text a byte of input stands for."""
    path = getattr(piece.sources[0], "path", "")
    return 3 if path.endswith(_PACKED) else 1


def _collect(job, pieces, tokenizer, whole_word, arguments):
    """Makes the meta data from the marks of both stages."""
    statistics = {"tokens_used": 0, "random_next": 0}
    for number in range(len(pieces)):
        totals = stages.read_mark(job.piece_mark(number))["totals"]
        for name, value in totals.items():
            statistics[name] = statistics.get(name, 0) + value
    columns: dict[str, list] = {}
    for split in records.SPLITS:
        names = job.shard_names(split)
        reports = [stages.read_mark(job.shard_mark(name)) for name in names]
        columns[f"{split}_shards"] = names
        columns[f"{split}_counts"] = [report["count"] for report in reports]
        columns[f"{split}_bytes"] = [report["bytes"] for report in reports]
        for report in reports:
            statistics["tokens_used"] += report["tokens"]
            statistics["random_next"] += report["random_next"]
    return records.PretrainingMeta(
        version=records.VERSION,
        sequence_length=job.pairs.max_sequence_length,
        vocab_size=len(tokenizer.vocabulary),
        vocab_sha256=tokenizer.sha256,
        lowercase=job.lowercase,
        whole_word_masking=whole_word,
        seed=job.seed,
        num_train=sum(columns["train_counts"]),
        num_validation=sum(columns["validation_counts"]),
        statistics=statistics,
        arguments=arguments,
        **columns,
    )


def _publish(result: str, output: str) -> None:
    """Renames the finished folder to the output."""
    if result == output:
        return
    old = output + ".old"
    if os.path.isdir(output):
        if os.path.isdir(old):
            tf.io.gfile.rmtree(old)
        os.rename(output, old)
    os.rename(result, output)
    if os.path.isdir(old):
        tf.io.gfile.rmtree(old)
