"""The preparation as a whole: from text to shards.

    pieces of the input -> make_parts -> settle_split -> plan_shards
        -> make_shard

The stages hand on descriptions of coarse work (about 4 MB of text, or one
shard); the data itself goes through files in a work folder beside the output.
So memory is bounded by a block and a shard for each worker, wherever it runs:
in this process, in several of this machine, or on a runner of Apache Beam.
Every worker of such a runner must see the work folder: give an output on a
shared file system.

A restart with the same arguments and input uses what is finished in the work
folder. The output appears at the end by a rename, whole or not at all; on a
remote file system, which has no rename of folders, its meta.json is written
last. See `folders` for what is kept and what is replaced.
"""

from collections.abc import Iterator, Sequence
import contextlib
import dataclasses
import functools
import hashlib
import json
import os

import tensorflow as tf

from tf_pof import files
from tf_pof.data import documents
from tf_pof.data import folders
from tf_pof.data import pool
from tf_pof.data import records
from tf_pof.data import runner
from tf_pof.data import storage
from tf_pof.data import tokenizer_files
from tf_pof.data import work
from tf_pof.data.examples import PairOptions
from tf_pof.data.tokenizer import WordPiece

# It counts the forms of work files: those of an older form are not used.
_WORK_VERSION = 2
_SHARD_BYTES = 32 << 20
_WORKER_BYTES = 32 << 20
_PACKED = (".gz", ".xz", ".bz2")


def _stamps(pieces: Sequence[documents.Piece]) -> dict[str, list[int]]:
    """Time and size of each input file, by its path."""
    stamps: dict[str, list[int]] = {}
    for piece in pieces:
        for source in piece.sources:
            path = getattr(source, "path", None)
            if path is not None and path not in stamps:
                stamps[path] = storage.stamp(path)
    return stamps


def _fingerprint(
    values: dict, pieces: Sequence[documents.Piece], stamps: dict
) -> str:
    """Identifies the arguments and the input, files' times included."""
    versions = [records.VERSION, _WORK_VERSION]
    content = json.dumps([versions, values, stamps]) + repr(pieces)
    return hashlib.sha256(content.encode()).hexdigest()


@storage.plain_errors()
def prepare(
    pieces: Sequence[documents.Piece],
    output: str,
    vocab_file: str,
    options: PairOptions = PairOptions(),
    separator: str = "blank_line",
    lowercase: bool | None = None,
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
        output: folder to make. Other files than a data set's stay in it.
        vocab_file: WordPiece vocabulary, or Hugging Face's tokenizer.json.
        options: how to draw segment pairs.
        separator: of documents in text files, "blank_line" or "line".
        lowercase: whether to lower-case and strip accents; by default as
            the files beside the vocabulary say, or as it tells itself.
        validation_fraction: share of the documents that goes to validation,
            chosen by a hash of their text; see `plan.settle_split` for few
            documents.
        whole_word_masking: whether masking shall take whole words.
        num_shards: of the train split; by default about 32 MB of text each,
            at least 4.
        num_workers: processes of this machine, no more than pieces; by
            default one a core, fewer for less than 32 MB of text each.
        seed: of everything drawn, 0 or more and below 2^63.
        beam_args: options of Beam, "--runner=..." first, to run elsewhere.
        overwrite: whether an existing data set is replaced.
        arguments: kept in meta.json for the record.
        progress: called with the stage, what is done and the total.

    Returns:
        The meta data of the data set.

    Raises:
        ValueError: if an argument or the input is not usable. Nothing is
            left then.
        OSError: if a file cannot be read or written, or if another process
            works on the output.
    """
    if not 0 <= validation_fraction < 1:
        raise ValueError(
            "The validation fraction must be at least 0 and below 1, not "
            f"{validation_fraction}."
        )
    if not 0 <= seed < 2**63:
        raise ValueError(
            f"The seed must be at least 0 and below 2^63, not {seed}."
        )
    num_shards = _check_num_shards(num_shards, pieces)
    options_of_beam = None
    if beam_args:
        from tf_pof.data import beam_runner

        options_of_beam = beam_runner.parse_options(beam_args)
    vocab_file = os.path.expanduser(vocab_file)
    storage.require_readable(vocab_file, "The vocabulary")
    tokenizer = WordPiece(vocab_file, lowercase)
    output = storage.normalize(output) if output.strip() else output
    folders.check_path(output)
    with files.only_writer(output):
        folders.settle(output)
        folders.check_output(output, overwrite)
        job = work.Job(
            folders.find(output), vocab_file, tokenizer.settings, separator,
            options, validation_fraction, num_shards, seed,
        )  # fmt: skip
        stamps = _stamps(pieces)
        values = dataclasses.asdict(job) | {
            "vocab_sha256": tokenizer.sha256,
            "whole_word_masking": whole_word_masking,
        }
        with _kept_for_a_restart(output):
            folder = folders.open_work_folder(
                output, _fingerprint(values, pieces, stamps)
            )
            job = dataclasses.replace(job, work_folder=folder)
            if options_of_beam:
                execute = functools.partial(
                    beam_runner.execute, options_of_beam, job.path("error.json")
                )
                job = runner.run(job, pieces, execute, progress)
            else:
                number = _num_workers(num_workers, pieces)
                with pool.workers(number) as execute:
                    job = runner.run(job, pieces, execute, progress)
            _check_unchanged(pieces, stamps)
            meta = _collect(
                job, pieces, tokenizer, whole_word_masking, arguments or {}
            )
            storage.write_bytes(
                os.path.join(job.result_folder, "vocab.txt"),
                _vocabulary(vocab_file, tokenizer),
            )
            records.write_meta(job.result_folder, meta)
        folders.publish(folder, output)
    return meta


@contextlib.contextmanager
def _kept_for_a_restart(output: str) -> Iterator[None]:
    """Removes the work folder where a restart has no use for it."""
    try:
        yield
    except ValueError:
        folders.clear(folders.find(output))
        raise
    except BaseException:
        # A disk may fail so that not even this can be told.
        with contextlib.suppress(OSError, tf.errors.OpError):
            folder = folders.find(output)
            if not folders.has_progress(folder):
                folders.clear(folder)
        raise


def _check_num_shards(num_shards, pieces) -> int:
    size = sum(piece.size * _expansion(piece) for piece in pieces)
    if num_shards is None:
        return min(1024, max(4, -(-size // _SHARD_BYTES)))
    # Also keeps the table of offsets smaller than the data.
    most = max(4, size >> 10)
    if not 1 <= num_shards <= most:
        raise ValueError(
            f"{num_shards} shards cannot be made of {size:,} bytes of text: "
            f"choose from 1 to {most:,}, one for each KB at most."
        )
    return num_shards


def _num_workers(number: int | None, pieces) -> int:
    if not number:
        # A worker process needs seconds to start: it must be worth it.
        size = sum(piece.size * _expansion(piece) for piece in pieces)
        number = max(1, min(_num_cores(), size // _WORKER_BYTES))
    return min(number, len(pieces))


def _vocabulary(path, tokenizer) -> bytes:
    contents = tokenizer_files.vocab_txt(path)
    if hashlib.sha256(contents).hexdigest() != tokenizer.sha256:
        raise ValueError(
            f"The vocabulary {path} changed while it was used: give the same "
            "command again."
        )
    return contents


def _check_unchanged(pieces, stamps) -> None:
    for path, stamp in _stamps(pieces).items():
        if stamp != stamps[path]:
            raise ValueError(
                f"The input {path} changed while it was read: give the same "
                "command again when it is complete."
            )


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
    statistics["cut_documents"] = sum(
        choice.tokens is not None for choice in job.held_out or ()
    )
    for number in range(len(pieces)):
        mark = job.piece_mark(number)
        totals = runner.require_mark(mark, work.PieceReport).totals
        for name, value in totals.items():
            statistics[name] = statistics.get(name, 0) + value
    columns: dict[str, list] = {}
    for split in records.SPLITS:
        names = job.shard_names(split)
        reports = [
            runner.require_mark(job.shard_mark(name), work.ShardReport)
            for name in names
        ]
        columns[f"{split}_shards"] = names
        columns[f"{split}_counts"] = [report.count for report in reports]
        columns[f"{split}_bytes"] = [report.bytes for report in reports]
        for report in reports:
            statistics["tokens_used"] += report.tokens
            statistics["random_next"] += report.random_next
    return records.PretrainingMeta(
        version=records.VERSION,
        sequence_length=job.pairs.max_sequence_length,
        vocab_size=len(tokenizer.vocabulary),
        vocab_sha256=tokenizer.sha256,
        **job.tokenizer.to_dict(),
        whole_word_masking=whole_word,
        seed=job.seed,
        num_train=sum(columns["train_counts"]),
        num_validation=sum(columns["validation_counts"]),
        statistics=statistics,
        arguments=arguments,
        **columns,
    )
