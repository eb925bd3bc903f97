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
import os

import numpy as np
import tensorflow as tf

from tf_pof.data import documents
from tf_pof.data import examples
from tf_pof.data import records
from tf_pof.data import sentences
from tf_pof.data import work
from tf_pof.data.tokenizer import WordPiece
from tf_pof.data.work import Job

BLOCK_CHARACTERS = 4 << 20


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
            work.write_mark(
                job.path("error.json"),
                {"kind": kind, "message": " ".join(str(error).split())},
            )
            raise

    return wrapped


def _blocks(texts: Iterable[str]) -> Iterator[list[str]]:
    """Groups documents into blocks; a small rest joins the block before.

    So does a rest of one document, which would find no other to draw from.
    """
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
    if waiting and len(block) > 1 and size >= BLOCK_CHARACTERS // 2:
        yield waiting
        waiting = []
    if waiting or block:
        yield waiting + block


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
    if (report := work.read_mark(mark)) is not None:
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
        keys = work.sort_keys(job.seed, number, block, len(made.lengths))
        offsets = work.write_part(
            job, name, made, keys, len(tokenizer.vocabulary)
        )
        validation = tokenized.select(held_out)
        if held_out.any():
            work.write_documents(job, f"{name}-validation.npz", validation)
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
    work.write_mark(mark, report)
    return report


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


def _build_validation(job: Job, shard: Shard):
    """Makes the examples of a validation shard and their keys."""
    tokenizer = _tokenizer(job.vocab_file, job.lowercase)
    held_out = work.read_documents(job, [name for name, _ in shard.parts])
    made = examples.build(
        held_out, job.pairs, tokenizer.cls_id, tokenizer.sep_id
    )
    index = int(shard.name.split("-")[1])
    return made, work.sort_keys(job.seed, -1, index, len(made.lengths))


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
        made, keys = work.read_parts(job, shard.parts)
    else:
        made, keys = _build_validation(job, shard)
    made = made.take(np.argsort(keys, kind="stable"))
    path = os.path.join(job.result_folder, shard.name)
    records.write_shard(
        path + ".tmp",
        made.token_ids,
        made.lengths,
        made.segment_b_start,
        made.next_sentence_label,
    )
    tf.io.gfile.rename(path + ".tmp", path, overwrite=True)
    work.write_mark(
        mark,
        {
            "count": len(made.lengths),
            "bytes": tf.io.gfile.stat(path).length,
            "random_next": int(made.next_sentence_label.sum()),
            "tokens": int(made.lengths.sum()),
        },
    )
