"""The two stages of a preparation, each run for one element on one worker.

Stage 1, `make_parts`, turns a piece of the input into part files: its train
examples grouped by the shard they go to, and its validation documents. Stage
2, `make_shard`, collects what belongs to one shard, sorts it by a random key
and writes the TFRecord file. So a worker holds a block of text or one shard,
never the corpus, and no runner has to shuffle data.

All draws depend on the seed, the text and its place in the input, never on
the worker. What a stage has finished is marked by a JSON file, so that a
restart skips it.

A document goes to validation if the hash of its text says so. Where that
splits the text badly, since its documents are few, `plan.settle_split` chooses
instead and stage 1 is done once more.
"""

import collections
from collections.abc import Iterable, Iterator
import functools
import hashlib
import os

import numpy as np
import tensorflow as tf

from tf_pof.data import documents
from tf_pof.data import examples
from tf_pof.data import plan
from tf_pof.data import records
from tf_pof.data import sentences
from tf_pof.data import storage
from tf_pof.data import tokenized
from tf_pof.data import work
from tf_pof.data.tokenizer import WordPiece
from tf_pof.data.tokenizer_settings import TokenizerSettings
from tf_pof.data.work import Job

BLOCK_CHARACTERS = 4 << 20


@functools.lru_cache(maxsize=2)
def _tokenizer(vocab_file: str, settings: TokenizerSettings) -> WordPiece:
    return WordPiece(vocab_file, settings=settings)


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
) -> tuple[tokenized.Documents, np.ndarray]:
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
    found = tokenized.Documents(
        token_ids=ragged.flat_values.numpy(),
        sentence_lengths=ragged.row_lengths().numpy(),
        sentence_counts=np.array([len(document) for document in split]),
        seeds=draws[:, 0],
    )
    return found, draws[:, 1] / 2.0**64


@storage.plain_errors()
def make_parts(job: Job, element: tuple[int, documents.Piece]) -> None:
    """Stage 1: makes the part files of a piece of the input and its mark.

    Args:
        job: the preparation.
        element: number of the piece, and the piece.

    Raises:
        ValueError: if the input cannot be read.
        OSError: if a part cannot be written.
    """
    number, piece = element
    mark = job.piece_mark(number)
    report = work.read_mark(mark, work.PieceReport)
    if report and work.is_whole(job, report):
        return
    tokenizer = _tokenizer(job.vocab_file, job.tokenizer)
    parts = []
    totals: dict[str, int] = collections.Counter()
    candidates: list[work.Candidate] = []
    texts = documents.read_piece(piece, job.separator)
    seen = 0
    for block, block_texts in enumerate(_blocks(texts)):
        found, draws = tokenize_documents(block_texts, tokenizer, job.seed)
        totals["documents"] += len(block_texts)
        totals["text_bytes"] += sum(len(t.encode()) for t in block_texts)
        totals["sentences"] += len(found.sentence_lengths)
        totals["tokens"] += len(found.token_ids)
        candidates += _candidates(found, draws, seen)
        found, held_out = _split(job, found, draws, number, seen)
        seen += len(block_texts)
        training, validation = found.select(~held_out), found.select(held_out)
        has_tokens = found.token_counts() > 0
        totals["train_documents"] += int((~held_out & has_tokens).sum())
        totals["validation_documents"] += int((held_out & has_tokens).sum())
        totals["validation_tokens"] += len(validation.token_ids)
        bounds, _ = training.boundaries(job.pairs.max_sequence_length - 3)
        totals["train_sentences"] += sum(len(b) - 1 for b in bounds)
        parts.append(_write_part(job, number, block, training, validation))
    lowest = sorted(candidates, key=lambda c: (c.draw, c.document))
    work.write_mark(
        mark,
        work.PieceReport(
            number=number,
            parts=parts,
            totals=dict(totals),
            lowest=lowest[:work.MOST_CANDIDATES],
        ),
    )


def _candidates(found, draws, seen) -> list[work.Candidate]:
    """Those documents of a block that come first in the order of the draws."""
    counts = found.token_counts()
    order = [i for i in np.argsort(draws, kind="stable") if counts[i]]
    return [
        work.Candidate(
            draw=float(draws[i]), document=seen + int(i), tokens=int(counts[i])
        )
        for i in order[:work.MOST_CANDIDATES]
    ]


def _split(job, found, draws, number, seen):
    """The documents of a block, and which of them go to validation.

    Args:
        job: the preparation.
        found: the documents.
        draws: float64, one for each.
        number: of the piece.
        seen: how many documents of the piece stand before the block.
    """
    if job.held_out is None:
        return found, draws < job.validation_fraction
    held_out = np.zeros(len(draws), bool)
    for choice in job.held_out:
        index = choice.document - seen
        if choice.piece != number or not 0 <= index < len(draws):
            continue
        # An end is chosen once, and after all whole documents.
        if choice.tokens is None:
            held_out[index] = True
        else:
            found = found.cut(index, choice.tokens)
            held_out = np.insert(held_out, index + 1, True)
    return found, held_out


def _write_part(job, number, block, training, validation) -> work.Part:
    tokenizer = _tokenizer(job.vocab_file, job.tokenizer)
    made = examples.build(
        training, job.pairs, tokenizer.cls_id, tokenizer.sep_id
    )
    keys = work.sort_keys(job.seed, number, block, len(made.lengths))
    name = job.part_name(number, block)
    offsets, size = work.write_part(
        job, name, made, keys, len(tokenizer.vocabulary)
    )
    part = work.Part(
        name=name,
        size=size,
        offsets=offsets,
        validation_tokens=len(validation.token_ids),
        validation_size=0,
    )
    if not len(validation.sentence_counts):
        return part
    size = work.write_documents(job, part.validation_name, validation)
    return part.model_copy(update={"validation_size": size})


def _build_validation(job: Job, shard: plan.Shard):
    """Makes the examples of a validation shard and their keys."""
    tokenizer = _tokenizer(job.vocab_file, job.tokenizer)
    held_out = work.read_documents(job, [name for name, _ in shard.parts])
    made = examples.build(
        held_out, job.pairs, tokenizer.cls_id, tokenizer.sep_id
    )
    index = int(shard.name.split("-")[1])
    return made, work.sort_keys(job.seed, -1, index, len(made.lengths))


@storage.plain_errors()
def make_shard(job: Job, shard: plan.Shard) -> None:
    """Stage 2: writes one shard of the data set and its mark.

    Args:
        job: the preparation.
        shard: what to write.

    Raises:
        OSError: if a part cannot be read or the shard not be written.
    """
    mark = job.shard_mark(shard.name)
    path = os.path.join(job.result_folder, shard.name)
    report = work.read_mark(mark, work.ShardReport)
    if report and work.has_size(path, report.bytes):
        return
    if shard.split == "train":
        made, keys = work.read_parts(job, shard.parts)
    else:
        made, keys = _build_validation(job, shard)
    made = made.take(np.argsort(keys, kind="stable"))
    temporary = storage.temporary_name(path)
    records.write_shard(
        temporary,
        made.token_ids,
        made.lengths,
        made.segment_b_start,
        made.next_sentence_label,
    )
    tf.io.gfile.rename(temporary, path, overwrite=True)
    work.write_mark(
        mark,
        work.ShardReport(
            count=len(made.lengths),
            bytes=tf.io.gfile.stat(path).length,
            random_next=int(made.next_sentence_label.sum()),
            tokens=int(made.lengths.sum()),
        ),
    )
