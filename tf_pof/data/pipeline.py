"""The preparation as a whole: an Apache Beam pipeline from text to shards.

    pieces of the input -> make_parts -> (parts on disk) -> make_shard

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
import threading

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability import fn_api_runner
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
def _worker_environment():
    """Settings that local worker processes inherit."""
    root = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))
    paths = [root, os.environ.get("PYTHONPATH", "")]
    settings = {
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "CUDA_VISIBLE_DEVICES": "-1",  # the work is all on the CPU
        "TF_CPP_MIN_LOG_LEVEL": os.environ.get("TF_CPP_MIN_LOG_LEVEL", "2"),
    }
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    # Beam reports a worker's traceback; the sentence is in error.json.
    logger = logging.getLogger("apache_beam")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _run(
    function, elements: Sequence, num_workers: int, beam_args: Sequence[str]
) -> None:
    """Applies `function` to every element on the runner asked for."""
    if beam_args:
        options = PipelineOptions(list(beam_args))
        with beam.Pipeline(options=options) as pipeline:
            _apply(pipeline, function, elements)
        return
    mode = "multi_processing" if num_workers > 1 else "in_memory"
    options = PipelineOptions(
        [
            f"--direct_num_workers={num_workers}",
            f"--direct_running_mode={mode}",
            "--default_sdk_harness_log_level=CRITICAL",
        ]
    )
    runner = fn_api_runner.FnApiRunner()
    with _worker_environment():
        with beam.Pipeline(runner=runner, options=options) as pipeline:
            _apply(pipeline, function, elements)


def _apply(pipeline, function, elements):
    return (
        pipeline
        | "Elements" >> beam.Create(list(elements))
        | "Spread" >> beam.Reshuffle()
        | function.func.__name__ >> beam.Map(function)
    )


@contextlib.contextmanager
def _watching(progress: Progress | None, stage: str, marks: dict[str, int]):
    """Reports the sum of the sizes of the marks that exist, twice a second."""
    if progress is None:
        yield
        return
    total = sum(marks.values())
    waiting = dict(marks)
    finished = threading.Event()

    def watch():
        while not finished.wait(0.5):
            for path in [path for path in waiting if os.path.exists(path)]:
                del waiting[path]
            progress(stage, total - sum(waiting.values()), total)

    progress(stage, 0, total)
    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        finished.set()
        thread.join()
    progress(stage, total, total)


def _run_stage(job, stage, elements, marks, num_workers, beam_args, progress):
    name = "Reading text" if stage is stages.make_parts else "Writing shards"
    try:
        with _watching(progress, name, marks):
            _run(
                functools.partial(stage, job), elements, num_workers, beam_args
            )
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


def _plan_shards(
    parts: list[dict], num_shards: int, num_validation_shards: int
) -> list[stages.Shard]:
    shards = [
        stages.Shard(
            "train",
            records.shard_name("train", index, num_shards),
            tuple(
                (part["name"], part["offsets"][index])
                for part in parts
                if part["offsets"][index] >= 0
            ),
        )
        for index in range(num_shards)
    ]
    # Whole parts, in order, shared out evenly by their tokens.
    total = sum(part["validation_tokens"] for part in parts)
    groups: list[list] = [[] for _ in range(num_validation_shards)]
    before = 0
    for part in parts:
        if part["validation_tokens"]:
            index = before * num_validation_shards // total
            groups[index].append((f"{part['name']}-validation.npz", 0))
            before += part["validation_tokens"]
    shards += [
        stages.Shard(
            "validation",
            records.shard_name("validation", index, num_validation_shards),
            tuple(group),
        )
        for index, group in enumerate(groups)
    ]
    return shards


def _check_documents(statistics: dict, options: PairOptions) -> None:
    if not statistics["tokens"]:
        raise ValueError(
            "The input holds no text (only white space): give files with text."
        )
    if (
        options.next_sentence_probability < 1
        and statistics["train_documents"] < 2
    ):
        raise ValueError(
            "The input holds a single training document, but random next "
            "sentences come from another: separate documents by a blank line "
            "(or use --documents=line), or set --next_sentence_probability=1."
        )


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
        num_workers = len(os.sched_getaffinity(0))
        num_workers = max(1, min(num_workers, size // _WORKER_BYTES))
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
        statistics, shards = _run_stages(
            job, pieces, num_workers, beam_args, progress
        )
        meta = _collect(
            job, shards, statistics, tokenizer, whole_word_masking,
            arguments or {},
        )  # fmt: skip
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


def _expansion(piece: documents.Piece) -> int:
    """About how many bytes of text a byte of input stands for."""
    path = getattr(piece.sources[0], "path", "")
    return 3 if path.endswith(_PACKED) else 1


def _run_stages(job, pieces, num_workers, beam_args, progress):
    """Runs both stages; returns statistics and the shards."""
    marks = {
        job.path(f"piece-{number:06d}.json"): piece.size
        for number, piece in enumerate(pieces)
    }
    _run_stage(
        job, stages.make_parts, list(enumerate(pieces)), marks,
        num_workers, beam_args, progress,
    )  # fmt: skip
    parts = []
    statistics: dict[str, int] = {}
    for path in marks:
        report = stages.read_mark(path)
        parts += report["parts"]
        for name, value in report["totals"].items():
            statistics[name] = statistics.get(name, 0) + value
    _check_documents(statistics, job.pairs)
    share = job.validation_fraction
    shards = _plan_shards(
        parts,
        job.num_shards,
        max(1, round(job.num_shards * share)) if share else 0,
    )
    marks = {
        job.path(f"{shard.name}.json"): max(1, len(shard.parts))
        for shard in shards
    }
    _run_stage(
        job, stages.make_shard, shards, marks,
        num_workers, beam_args, progress,
    )  # fmt: skip
    return statistics, shards


def _collect(job, shards, statistics, tokenizer, whole_word, arguments):
    """Makes the meta data from what the shards' marks say."""
    columns: dict[str, list] = {}
    totals = {"tokens_used": 0, "random_next": 0}
    for split in records.SPLITS:
        chosen = [shard for shard in shards if shard.split == split]
        reports = [
            stages.read_mark(job.path(f"{shard.name}.json"))
            for shard in chosen
        ]
        columns[f"{split}_shards"] = [shard.name for shard in chosen]
        columns[f"{split}_counts"] = [report["count"] for report in reports]
        columns[f"{split}_bytes"] = [report["bytes"] for report in reports]
        totals["tokens_used"] += sum(report["tokens"] for report in reports)
        totals["random_next"] += sum(
            report["random_next"] for report in reports
        )
    del statistics["examples"]
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
        statistics=statistics | totals,
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
