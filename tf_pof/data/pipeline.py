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

from collections.abc import Sequence
import contextlib
import dataclasses
import hashlib
import json
import os

import tensorflow as tf

from tf_pof.data import documents
from tf_pof.data import records
from tf_pof.data import runner
from tf_pof.data import work
from tf_pof.data.examples import PairOptions
from tf_pof.data.tokenizer import WordPiece

_SHARD_BYTES = 32 << 20
_WORKER_BYTES = 32 << 20
_PACKED = (".gz", ".xz", ".bz2")


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


@contextlib.contextmanager
def _plain_errors():
    """Turns TensorFlow's file errors into OSError."""
    try:
        yield
    except tf.errors.OpError as error:
        raise OSError(f"A file operation failed: {error.message}.") from error


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


def _open_work_folder(folder: str, fingerprint: str) -> None:
    """Makes the work folder; what another preparation has left is deleted."""
    path = os.path.join(folder, "fingerprint.json")
    mark = work.read_mark(path) if tf.io.gfile.exists(folder) else None
    if mark != {"sha256": fingerprint}:
        if tf.io.gfile.exists(folder):
            tf.io.gfile.rmtree(folder)
        tf.io.gfile.makedirs(folder)
        content = json.dumps({"sha256": fingerprint}).encode()
        work.write_atomically(path, content)
    error = os.path.join(folder, "error.json")
    if tf.io.gfile.exists(error):
        tf.io.gfile.remove(error)


@_plain_errors()
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
    progress: runner.Progress | None = None,
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
    work_folder = output + ".partial"
    result = output if "://" in output else os.path.join(work_folder, "result")
    job = work.Job(
        work_folder, result, vocab_file, lowercase, separator, options,
        validation_fraction, num_shards, seed,
    )  # fmt: skip
    values = dataclasses.asdict(job) | {
        "vocab_sha256": tokenizer.sha256,
        "whole_word_masking": whole_word_masking,
    }
    _open_work_folder(work_folder, _fingerprint(values, pieces))
    tf.io.gfile.makedirs(result)
    try:
        runner.run(job, pieces, num_workers, beam_args, progress)
        meta = _collect(
            job, pieces, tokenizer, whole_word_masking, arguments or {}
        )
        tf.io.gfile.copy(
            vocab_file, os.path.join(result, "vocab.txt"), overwrite=True
        )
        records.write_meta(result, meta)
    except ValueError:
        tf.io.gfile.rmtree(work_folder)
        raise
    _publish(result, output)
    tf.io.gfile.rmtree(work_folder)
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
    """Makes the meta data from the marks of both work."""
    statistics = {"tokens_used": 0, "random_next": 0}
    for number in range(len(pieces)):
        totals = work.read_mark(job.piece_mark(number))["totals"]
        for name, value in totals.items():
            statistics[name] = statistics.get(name, 0) + value
    columns: dict[str, list] = {}
    for split in records.SPLITS:
        names = job.shard_names(split)
        reports = [work.read_mark(job.shard_mark(name)) for name in names]
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
