"""Between the two stages: which documents and parts go where."""

import collections
from collections.abc import Iterable, Sequence
import dataclasses
import math

from tf_pof.data import work
from tf_pof.data.work import Job


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


def settle_split(job: Job, reports: Sequence[work.PieceReport]) -> Job:
    """After stage 1: makes sure that both splits get their share of the text.

    Where the hash has left validation without a document, or training with
    fewer than two, documents are taken in the order of their hash until the
    fraction of the tokens is met. One that is far too large, or that training
    cannot spare, gives its end only. The same is done with few documents of
    which the hash has chosen the long ones, or the very short ones.

    Args:
        job: the preparation.
        reports: of all pieces.

    Returns:
        The job, with `held_out` if stage 1 must be done again.

    Raises:
        ValueError: if there is no text, or too little for two splits.
    """
    totals = sum_totals(reports)
    if not totals["tokens"]:
        raise ValueError(
            "The input holds no text (only white space): give files with text."
        )
    count = totals["train_documents"] + totals["validation_documents"]
    least = min(2, count)
    if not job.validation_fraction or _is_fair(job, totals):
        return job
    wanted = job.validation_fraction * totals["tokens"]
    chosen = []
    for draw, piece, document, tokens in sorted(
        (c.draw, report.number, c.document, c.tokens)
        for report in reports
        for c in report.lowest
    ):
        if wanted <= 0:
            break
        if tokens <= 2 * wanted and count > least:
            chosen.append(work.HeldOut(piece, document, None))
            wanted -= tokens
            count -= 1
        elif tokens > 1:
            end = min(tokens - 1, math.ceil(wanted))
            chosen.append(work.HeldOut(piece, document, end))
            break
    if not chosen:
        raise ValueError(
            "The input holds too little text to keep some for validation: "
            "give more text or --validation_fraction=0."
        )
    return dataclasses.replace(job, held_out=tuple(chosen))


def _is_fair(job: Job, totals: dict[str, int]) -> bool:
    """Whether the hash has given enough to both splits."""
    training, validation = (
        totals["train_documents"], totals["validation_documents"]
    )  # fmt: skip
    if not validation or training < min(2, training + validation):
        return False
    if training + validation > work.MOST_CANDIDATES:
        return True
    share = totals["validation_tokens"] / totals["tokens"]
    fraction = job.validation_fraction
    return share >= fraction / 4 and 1 - share >= (1 - fraction) / 2


def sum_totals(reports: Iterable[work.PieceReport]) -> dict[str, int]:
    """The counts of all pieces together, 0 where none counts something."""
    totals: dict[str, int] = collections.Counter()
    for report in reports:
        totals.update(report.totals)
    return totals


def plan_shards(job: Job, reports: Sequence[work.PieceReport]) -> list[Shard]:
    """Before stage 2: says what belongs to which shard.

    Args:
        job: the preparation, see `settle_split`.
        reports: of all pieces, in their order.

    Returns:
        The shards.

    Raises:
        ValueError: if the input has not got enough text.
    """
    _check_totals(job, sum_totals(reports))
    parts = [part for report in reports for part in report.parts]
    shards = [
        Shard(
            "train",
            name,
            tuple(
                (part.name, part.offsets[index])
                for part in parts
                if part.offsets[index] >= 0
            ),
        )
        for index, name in enumerate(job.shard_names("train"))
    ]
    # Whole parts, in order, shared out evenly by their tokens.
    names = job.shard_names("validation")
    total = sum(part.validation_tokens for part in parts)
    groups: dict[str, list] = {name: [] for name in names}
    before = 0
    for part in parts:
        if part.validation_tokens:
            name = names[before * len(names) // total]
            groups[name].append((part.validation_name, 0))
            before += part.validation_tokens
    shards += [
        Shard("validation", name, tuple(group))
        for name, group in groups.items()
    ]
    return shards


def _check_totals(job: Job, totals: dict[str, int]) -> None:
    if (
        job.pairs.next_sentence_probability < 1
        and totals["train_documents"] < 2
        and totals["train_sentences"] < 3
    ):
        raise ValueError(
            "The input holds too few documents (one of fewer than three "
            "sentences to train on), but random next sentences come from "
            "another document or from afar: give more text, separate "
            "documents by a blank line or use --documents=line, or set "
            "--next_sentence_probability=1."
        )
