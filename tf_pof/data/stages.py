"""The two stages of a preparation, each run for one element on one worker.

Stage 1, `make_parts`, turns a piece of the input into part files: its train
examples grouped by the shard they go to, and its validation documents. Stage
2, `make_shard`, collects what belongs to one shard, sorts it by a random key
and writes the TFRecord file. So a worker holds a block of text or one shard,
never the corpus, and no runner has to shuffle data.

All draws depend on the seed, the text and its place in the input, never on
the worker. What a stage has finished is marked by a JSON file, so that a
restart skips it.
"""

from collections.abc import Iterable, Iterator
import dataclasses
import functools
import hashlib
import io
import json
import os
import uuid

import numpy as np
import tensorflow as tf

from tf_pof.data import documents
from tf_pof.data import examples
from tf_pof.data import records
from tf_pof.data import sentences
from tf_pof.data.tokenizer import WordPiece

BLOCK_CHARACTERS = 4 << 20


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


@dataclasses.dataclass(frozen=True)
class Shard:
    """A shard to write.

    Attributes:
        split: "train" or "validation".
        name: of the file.
        parts: (part file, byte offset) to take examples from, or (file, 0)
            of validation documents.
    """

    split: str
    name: str
    parts: tuple[tuple[str, int], ...]


@functools.lru_cache(maxsize=2)
def _tokenizer(vocab_file: str, lowercase: bool) -> WordPiece:
    return WordPiece(vocab_file, lowercase)


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


def _write_mark(path: str, values: dict) -> None:
    write_atomically(path, json.dumps(values).encode())


def _reports_errors(stage):
    """Leaves the sentence of a user's error where the main program looks.

    Beam passes exceptions on as the text of a traceback.
    """

    @functools.wraps(stage)
    def wrapped(job: Job, element):
        try:
            return stage(job, element)
        except (ValueError, OSError, tf.errors.OpError) as error:
            kind = "input" if isinstance(error, ValueError) else "system"
            _write_mark(
                job.path("error.json"),
                {"kind": kind, "message": " ".join(str(error).split())},
            )
            raise

    return wrapped


def _blocks(texts: Iterable[str]) -> Iterator[list[str]]:
    """Groups documents into blocks; a small rest joins the block before."""
    waiting: list[str] = []
    block: list[str] = []
    size = 0
    for text in texts:
        block.append(text)
        size += len(text)
        if size >= BLOCK_CHARACTERS:
            if waiting:
                yield waiting
            waiting, block, size = block, [], 0
    if waiting and block and size >= BLOCK_CHARACTERS // 2:
        yield waiting
        waiting = []
    if waiting or block:
        yield waiting + block


def _keys(seed: int, piece: int, block: int, count: int) -> np.ndarray:
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


def tokenize_documents(
    texts: list[str], tokenizer: WordPiece, seed: int
) -> tuple[examples.Documents, np.ndarray]:
    """Splits and tokenizes documents.

    Args:
        texts: the documents.
        tokenizer: for the sentences.
        seed: goes into the documents' seeds.

    Returns:
        The documents, and a uniform draw in [0, 1) for each that its text
        decides, float64.
    """
    split = [sentences.split(text) for text in texts]
    ragged = tokenizer.tokenize_strings(
        [sentence for document in split for sentence in document]
    )
    key = seed.to_bytes(16, "little", signed=True)
    digests = b"".join(
        hashlib.blake2b(
            text.encode(), digest_size=16, key=key
        ).digest()
        for text in texts
    )
    draws = np.frombuffer(digests, "<u8").reshape(-1, 2)
    tokenized = examples.Documents(
        token_ids=ragged.flat_values.numpy(),
        sentence_lengths=ragged.row_lengths().numpy(),
        sentence_counts=np.array([len(document) for document in split]),
        seeds=draws[:, 0],
    )
    return tokenized, draws[:, 1] / 2.0**64


@_reports_errors
def make_parts(job: Job, element: tuple[int, documents.Piece]) -> dict:
    """Stage 1: makes the part files of a piece of the input.

    Args:
        job: the preparation.
        element: number of the piece, and the piece.

    Returns:
        "number" of the piece; "parts", for each its "name", the "offsets" of
        the shards in it (-1: none) and its "validation_tokens"; "totals".

    Raises:
        ValueError: if the input cannot be read.
    """
    number, piece = element
    mark = job.piece_mark(number)
    if (report := read_mark(mark)) is not None:
        return report
    tokenizer = _tokenizer(job.vocab_file, job.lowercase)
    parts = []
    totals = dict.fromkeys(
        (
            "documents",
            "train_documents",
            "text_bytes",
            "sentences",
            "tokens",
        ),
        0,
    )
    texts = documents.read_piece(piece, job.separator)
    for block, block_texts in enumerate(_blocks(texts)):
        name = f"part-{number:06d}-{block:06d}"
        tokenized, draws = tokenize_documents(
            block_texts, tokenizer, job.seed
        )
        held_out = draws < job.validation_fraction
        made = examples.build(
            tokenized.select(~held_out),
            job.pairs,
            tokenizer.cls_id,
            tokenizer.sep_id,
        )
        keys = _keys(job.seed, number, block, len(made.lengths))
        offsets = _write_part(job, name, made, keys, tokenizer)
        validation = tokenized.select(held_out)
        if held_out.any():
            content = io.BytesIO()
            np.savez(content, **dataclasses.asdict(validation))
            write_atomically(
                job.path(f"{name}-validation.npz"), content.getvalue()
            )
        parts.append(
            {
                "name": name,
                "offsets": offsets,
                "validation_tokens": len(validation.token_ids),
            }
        )
        totals["documents"] += len(block_texts)
        totals["train_documents"] += int((~held_out).sum())
        totals["text_bytes"] += sum(len(t.encode()) for t in block_texts)
        totals["sentences"] += len(tokenized.sentence_lengths)
        totals["tokens"] += len(tokenized.token_ids)
    report = {"number": number, "parts": parts, "totals": totals}
    _write_mark(mark, report)
    return report


def _write_part(
    job: Job,
    name: str,
    made: examples.Examples,
    keys: np.ndarray,
    tokenizer: WordPiece,
) -> list[int]:
    """Writes the examples grouped by shard; returns each group's offset.

    A shard without examples in this part has offset -1.
    """
    shards = (keys % np.uint64(job.num_shards)).astype(np.int64)
    order = np.argsort(shards, kind="stable")
    made = take(made, order)
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
    small = len(tokenizer.vocabulary) <= 1 << 16
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


@_reports_errors
def plan_shards(job: Job, reports: Iterable[dict]) -> list[Shard]:
    """Between the stages: says what belongs to which shard.

    Args:
        job: the preparation.
        reports: what `make_parts` returned, in any order.

    Returns:
        The shards.

    Raises:
        ValueError: if the input has not got enough text.
    """
    reports = sorted(reports, key=lambda report: report["number"])
    _check_totals(job, [report["totals"] for report in reports])
    parts = [part for report in reports for part in report["parts"]]
    shards = [
        Shard(
            "train",
            name,
            tuple(
                (part["name"], part["offsets"][index])
                for part in parts
                if part["offsets"][index] >= 0
            ),
        )
        for index, name in enumerate(job.shard_names("train"))
    ]
    # Whole parts, in order, shared out evenly by their tokens.
    names = job.shard_names("validation")
    total = sum(part["validation_tokens"] for part in parts)
    groups: dict[str, list] = {name: [] for name in names}
    before = 0
    for part in parts:
        if part["validation_tokens"]:
            name = names[before * len(names) // total]
            groups[name].append((f"{part['name']}-validation.npz", 0))
            before += part["validation_tokens"]
    shards += [
        Shard("validation", name, tuple(group))
        for name, group in groups.items()
    ]
    return shards


def _check_totals(job: Job, totals: list[dict]) -> None:
    if not any(total["tokens"] for total in totals):
        raise ValueError(
            "The input holds no text (only white space): give files with text."
        )
    documents_left = sum(total["train_documents"] for total in totals)
    if job.pairs.next_sentence_probability < 1 and documents_left < 2:
        raise ValueError(
            "The input holds too few documents (fewer than two to train on), "
            "but random next sentences come from another document: separate "
            "documents by a blank line or use --documents=line, or set "
            "--next_sentence_probability=1."
        )


def take(made: examples.Examples, order: np.ndarray) -> examples.Examples:
    """Returns examples in another order, see `examples.Examples`."""
    starts = np.cumsum(made.lengths, dtype=np.int64) - made.lengths
    lengths = made.lengths[order]
    begins = np.cumsum(lengths, dtype=np.int64) - lengths
    index = np.arange(lengths.sum()) + np.repeat(
        starts[order] - begins, lengths
    )
    return examples.Examples(
        made.token_ids[index],
        lengths,
        made.segment_b_start[order],
        made.next_sentence_label[order],
    )


def _read_parts(job: Job, shard: Shard):
    """Returns the examples of a train shard and their keys."""
    columns = [np.empty((0, 4), np.uint64)]
    token_ids = [np.empty(0, np.int32)]
    for name, offset in shard.parts:
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


def _build_validation(job: Job, shard: Shard):
    """Makes the examples of a validation shard and their keys."""
    tokenizer = _tokenizer(job.vocab_file, job.lowercase)
    blocks = []
    for name, _ in shard.parts:
        with tf.io.gfile.GFile(job.path(name), "rb") as file:
            with np.load(file) as arrays:
                blocks.append(examples.Documents(**arrays))
    made = examples.build(
        examples.Documents.concatenate(blocks),
        job.pairs,
        tokenizer.cls_id,
        tokenizer.sep_id,
    )
    index = int(shard.name.split("-")[1])
    return made, _keys(job.seed, -1, index, len(made.lengths))


@_reports_errors
def make_shard(job: Job, shard: Shard) -> None:
    """Stage 2: writes one shard of the data set.

    Args:
        job: the preparation.
        shard: what to write.
    """
    mark = job.shard_mark(shard.name)
    if tf.io.gfile.exists(mark):
        return
    if shard.split == "train":
        made, keys = _read_parts(job, shard)
    else:
        made, keys = _build_validation(job, shard)
    made = take(made, np.argsort(keys, kind="stable"))
    path = os.path.join(job.result_folder, shard.name)
    records.write_shard(
        path + ".tmp",
        made.token_ids,
        made.lengths,
        made.segment_b_start,
        made.next_sentence_label,
    )
    tf.io.gfile.rename(path + ".tmp", path, overwrite=True)
    _write_mark(
        mark,
        {
            "count": len(made.lengths),
            "bytes": tf.io.gfile.stat(path).length,
            "random_next": int(made.next_sentence_label.sum()),
            "tokens": int(made.lengths.sum()),
        },
    )
