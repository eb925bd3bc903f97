"""The work folder of a preparation: marks of what is done, and part files.

A part file holds the train examples of a block of text, grouped by the shard
they go to: for each shard a table [n, 4] uint64 (length, start of B, label,
sort key) and the token ids of its examples, both as .npy. So a shard is
collected by one short read from every part. The validation documents of a
block go to an .npz file beside it.
"""

import dataclasses
import hashlib
import io
import json
import os
import uuid

import numpy as np
import tensorflow as tf

from tf_pof.data import examples
from tf_pof.data import records


@dataclasses.dataclass(frozen=True)
class Job:
    """What every worker must know.

    Attributes:
        work_folder: where parts and marks go; all workers must see it.
        result_folder: where shards go.
        vocab_file: of the tokenizer.
        lowercase: of the tokenizer.
        separator: of documents in text files.
        pairs: how to draw segment pairs.
        validation_fraction: share of the documents kept for validation.
        num_shards: of the train split.
        seed: of everything drawn.
    """

    work_folder: str
    result_folder: str
    vocab_file: str
    lowercase: bool
    separator: str
    pairs: examples.PairOptions
    validation_fraction: float
    num_shards: int
    seed: int

    def path(self, name: str) -> str:
        return os.path.join(self.work_folder, name)

    def piece_mark(self, number: int) -> str:
        return self.path(f"piece-{number:06d}.json")

    def shard_mark(self, name: str) -> str:
        return self.path(f"{name}.json")

    def shard_names(self, split: str) -> list[str]:
        count = self.num_shards
        if split == "validation":
            share = self.validation_fraction
            count = max(1, round(count * share)) if share else 0
        return [records.shard_name(split, i, count) for i in range(count)]


def write_atomically(path: str, content: bytes) -> None:
    """Writes a file under a temporary name and renames it to `path`."""
    temporary = f"{path}.{uuid.uuid4().hex}.tmp"
    with tf.io.gfile.GFile(temporary, "wb") as file:
        file.write(content)
    tf.io.gfile.rename(temporary, path, overwrite=True)


def read_mark(path: str) -> dict | None:
    """Reads what a finished stage has left, None if it has not finished."""
    try:
        with tf.io.gfile.GFile(path, "r") as file:
            return json.loads(file.read())
    except tf.errors.NotFoundError:
        return None


def write_mark(path: str, values: dict) -> None:
    """Marks something as finished, with what it has to say."""
    write_atomically(path, json.dumps(values).encode())


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
) -> list[int]:
    """Writes a part file.

    Args:
        job: the preparation.
        name: of the file.
        made: the examples.
        keys: uint64, that decide shard and place in it.
        vocab_size: ids below 65,536 take two bytes.

    Returns:
        For each shard the byte offset of its examples, -1 if it has none.
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
    write_atomically(job.path(name), content.getvalue())
    return offsets


def read_parts(
    job: Job, parts: tuple[tuple[str, int], ...]
) -> tuple[examples.Examples, np.ndarray]:
    """Returns the examples of a shard and their keys.

    Args:
        job: the preparation.
        parts: (part file, offset of the shard in it).
    """
    columns = [np.empty((0, 4), np.uint64)]
    token_ids = [np.empty(0, np.int32)]
    for name, offset in parts:
        with tf.io.gfile.GFile(job.path(name), "rb") as file:
            file.seek(offset)
            columns.append(np.load(file))
            token_ids.append(np.load(file))
    table = np.concatenate(columns)
    lengths, b_start, label = table[:, :3].astype(np.int32).T
    return (
        examples.Examples(np.concatenate(token_ids), lengths, b_start, label),
        table[:, 3],
    )


def write_documents(
    job: Job, name: str, documents: examples.Documents
) -> None:
    """Writes the validation documents of a block."""
    content = io.BytesIO()
    np.savez(content, **dataclasses.asdict(documents))
    write_atomically(job.path(name), content.getvalue())


def read_documents(job: Job, names: list[str]) -> examples.Documents:
    """Reads what `write_documents` has written, joined."""
    blocks = []
    for name in names:
        with tf.io.gfile.GFile(job.path(name), "rb") as file:
            with np.load(file) as arrays:
                blocks.append(examples.Documents(**arrays))
    return examples.Documents.concatenate(blocks)
