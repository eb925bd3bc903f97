"""The work folder of a preparation: marks of what is done, and part files.

A part file holds the train examples of a block of text, grouped by the shard
they go to: for each shard a table [n, 4] uint64 (length, start of B, label,
sort key) and the token ids of its examples, both as .npy. So a shard is
collected by one short read from every part. The validation documents of a
block go to an .npz file beside it.

A mark says how large the files are that it stands for. One that cannot be
read, or whose files are gone, is as good as none: the work is done again.
"""

import dataclasses
import hashlib
import io
import os
from typing import Annotated, TypeVar
import zipfile

import numpy as np
import pydantic
import tensorflow as tf

from tf_pof import files
from tf_pof import untrusted
from tf_pof.data import examples
from tf_pof.data import records
from tf_pof.data import storage
from tf_pof.data import tokenized
from tf_pof.data.tokenizer_settings import TokenizerSettings

# As many documents are few: their sizes decide which ones validation gets.
MOST_CANDIDATES = 16

S = TypeVar("S", bound=untrusted.Schema)
_Count = Annotated[int, pydantic.Field(ge=0, lt=2**53)]
_PartName = Annotated[
    str, pydantic.Field(pattern="^(part|again)-[0-9]{6,}-[0-9]{6,}$")
]


@dataclasses.dataclass(frozen=True)
class HeldOut:
    """A document for validation that was chosen by name, not by its hash.

    Attributes:
        piece: its number.
        document: its number in the piece.
        tokens: how many of its last tokens are kept, about; None: all.
    """

    piece: int
    document: int
    tokens: int | None


@dataclasses.dataclass(frozen=True)
class Job:
    """What every worker must know.

    Attributes:
        work_folder: where parts and marks go; all workers must see it.
        vocab_file: of the tokenizer.
        tokenizer: its settings.
        separator: of documents in text files.
        pairs: how to draw segment pairs.
        validation_fraction: share of the documents kept for validation.
        num_shards: of the train split.
        seed: of everything drawn.
        held_out: the documents kept for validation, where the hash would
            split the text badly.
    """

    work_folder: str
    vocab_file: str
    tokenizer: TokenizerSettings
    separator: str
    pairs: examples.PairOptions
    validation_fraction: float
    num_shards: int
    seed: int
    held_out: tuple[HeldOut, ...] | None = None

    def path(self, name: str) -> str:
        return os.path.join(self.work_folder, name)

    @property
    def result_folder(self) -> str:
        """Where the shards go."""
        return self.path("result")

    def part_name(self, number: int, block: int) -> str:
        kind = "part" if self.held_out is None else "again"
        return f"{kind}-{number:06d}-{block:06d}"

    def piece_mark(self, number: int) -> str:
        kind = "" if self.held_out is None else "-again"
        return self.path(f"piece-{number:06d}{kind}.json")

    def shard_mark(self, name: str) -> str:
        return self.path(f"{name}.json")

    def shard_names(self, split: str) -> list[str]:
        count = self.num_shards
        if split == "validation":
            share = self.validation_fraction
            count = max(1, round(count * share)) if share else 0
        return [records.shard_name(split, i, count) for i in range(count)]


class Part(untrusted.Schema):
    """The files that a block of text has become.

    Attributes:
        name: of its part file.
        size: bytes of it.
        offsets: of each shard's examples in it, -1 if it has none.
        validation_tokens: of its validation documents.
        validation_size: bytes of the file that holds them, 0 without one.
    """

    name: _PartName
    size: _Count
    offsets: list[Annotated[int, pydantic.Field(ge=-1, lt=2**53)]]
    validation_tokens: _Count
    validation_size: _Count

    @property
    def validation_name(self) -> str:
        return f"{self.name}-validation.npz"


class Candidate(untrusted.Schema):
    """A document that may be kept for validation.

    Attributes:
        draw: number in [0, 1) that its text decides.
        document: its number in the piece.
        tokens: of it.
    """

    draw: Annotated[float, pydantic.Field(ge=0, le=1)]
    document: _Count
    tokens: _Count


class PieceReport(untrusted.Schema):
    """The outcome of stage 1 for a piece of the input.

    Attributes:
        number: of the piece.
        parts: of its blocks.
        totals: counts of documents, sentences, tokens and text bytes.
        lowest: its MOST_CANDIDATES documents with the lowest draws.
    """

    number: _Count
    parts: list[Part]
    totals: dict[str, _Count]
    lowest: list[Candidate]


class ShardReport(untrusted.Schema):
    """A shard that is written: its examples, bytes, tokens and labels."""

    count: _Count
    bytes: _Count
    random_next: _Count
    tokens: _Count


def read_mark(path: str, schema: type[S]) -> S | None:
    """Reads what a finished stage has left, None if it has not finished."""
    try:
        return storage.read_json(path, schema)
    except (OSError, ValueError):
        return None


def write_mark(path: str, report: untrusted.Schema) -> None:
    """Marks something as finished, with what it has to say."""
    storage.write_bytes(path, files.json_bytes(report.model_dump()))


def has_size(path: str, size: int) -> bool:
    """Whether a file is there with `size` bytes."""
    try:
        return tf.io.gfile.stat(path).length == size
    except tf.errors.NotFoundError:
        return False


def is_whole(job: Job, report: PieceReport) -> bool:
    """Whether all files of a piece are there as its report says."""
    return all(
        len(part.offsets) == job.num_shards
        and has_size(job.path(part.name), part.size)
        and (
            not part.validation_size
            or has_size(job.path(part.validation_name), part.validation_size)
        )
        for part in report.parts
    )


def sort_keys(seed: int, piece: int, block: int, count: int) -> np.ndarray:
    """Random 64-bit keys of a block's examples, by SplitMix64."""
    start = hashlib.blake2b(
        f"{seed}/{piece}/{block}".encode(), digest_size=8
    ).digest()
    with np.errstate(over="ignore"):
        key = np.arange(1, count + 1, dtype=np.uint64)
        key *= np.uint64(0x9E3779B97F4A7C15)
        key += np.frombuffer(start, np.uint64)
        key = (key ^ (key >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        key = (key ^ (key >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return key ^ (key >> np.uint64(31))


def write_part(
    job: Job,
    name: str,
    made: examples.Examples,
    keys: np.ndarray,
    vocab_size: int,
) -> tuple[list[int], int]:
    """Writes a part file.

    Args:
        job: the preparation.
        name: of the file.
        made: the examples.
        keys: uint64, that decide shard and place in it.
        vocab_size: ids below 65,536 take two bytes.

    Returns:
        For each shard the byte offset of its examples, -1 if it has none;
        and the size of the file.
    """
    shards = (keys % np.uint64(job.num_shards)).astype(np.int64)
    order = np.argsort(shards, kind="stable")
    made = made.take(order)
    counts = np.bincount(shards, minlength=job.num_shards)
    columns = np.stack(
        [
            made.lengths.astype(np.uint64),
            made.segment_b_start.astype(np.uint64),
            made.next_sentence_label.astype(np.uint64),
            keys[order],
        ],
        axis=1,
    )
    small = vocab_size <= 1 << 16
    token_ids = made.token_ids.astype(np.uint16 if small else np.int32)
    last = np.cumsum(counts)
    token_ends = np.concatenate([[0], np.cumsum(made.lengths)])
    offsets = []
    content = io.BytesIO()
    for end, count in zip(last.tolist(), counts.tolist()):
        offsets.append(content.tell() if count else -1)
        if count:
            first, stop = token_ends[end - count], token_ends[end]
            np.save(content, columns[end - count : end])
            np.save(content, token_ids[first:stop])
    storage.write_bytes(job.path(name), content.getvalue())
    return offsets, content.tell()


def read_parts(
    job: Job, parts: tuple[tuple[str, int], ...]
) -> tuple[examples.Examples, np.ndarray]:
    """Returns the examples of a shard and their keys.

    Args:
        job: the preparation.
        parts: (part file, offset of the shard in it).

    Raises:
        OSError: if a file is damaged.
    """
    columns = [np.empty((0, 4), np.uint64)]
    token_ids = [np.empty(0, np.int32)]
    for name, offset in parts:
        try:
            with tf.io.gfile.GFile(job.path(name), "rb") as file:
                file.seek(offset)
                columns.append(np.load(file))
                token_ids.append(np.load(file))
        except (ValueError, EOFError, MemoryError) as error:
            raise _damaged(job, name) from error
    table = np.concatenate(columns)
    lengths, b_start, label = table[:, :3].astype(np.int32).T
    return (
        examples.Examples(np.concatenate(token_ids), lengths, b_start, label),
        table[:, 3],
    )


def write_documents(
    job: Job, name: str, documents: tokenized.Documents
) -> int:
    """Writes the validation documents of a block; returns the bytes."""
    content = io.BytesIO()
    np.savez(content, **dataclasses.asdict(documents))
    storage.write_bytes(job.path(name), content.getvalue())
    return content.tell()


def read_documents(job: Job, names: list[str]) -> tokenized.Documents:
    """Reads what `write_documents` has written, joined.

    Raises:
        OSError: if a file is damaged.
    """
    blocks = []
    for name in names:
        try:
            with tf.io.gfile.GFile(job.path(name), "rb") as file:
                with np.load(file) as arrays:
                    blocks.append(tokenized.Documents(**arrays))
        except (
            ValueError, EOFError, MemoryError, TypeError, zipfile.BadZipFile
        ) as error:  # fmt: skip
            raise _damaged(job, name) from error
    return tokenized.Documents.concatenate(blocks)


def _damaged(job: Job, name: str) -> OSError:
    return OSError(
        f"The work file {job.path(name)} is damaged: remove the folder and "
        "give the same command again."
    )
