"""Segment pairs for next-sentence prediction, from sentences of token ids.

Follows `create_instances_from_document` and `truncate_seq_pair` of
google-research/bert (create_pretraining_data.py) without the masking, which
`inputs` draws at training time. Two things differ on purpose: the short
target length is drawn for each example, not for each document (without the
reference's ten copies of the data a document cut to two-token examples would
weigh far too much), and a sentence that is longer than an example is cut into
several, so that its rest is used as well.

All tokens of a block of documents lie in one array; a segment is a range of
it, so that only integers are handled in Python.
"""

from bisect import bisect_left
from collections.abc import Sequence
import dataclasses
import random

import numpy as np

from tf_pof.data import tokenized

# Far above any BERT's positions.
MAX_SEQUENCE_LENGTH = 65536
IS_NEXT = 0
IS_RANDOM = 1


@dataclasses.dataclass(frozen=True)
class PairOptions:
    """How segment pairs are drawn.

    Attributes:
        max_sequence_length: most tokens of an example, [CLS] and [SEP]
            included.
        short_sequence_probability: share of examples that aim at a random
            shorter length.
        next_sentence_probability: probability that B follows A. At 1 no
            random segments are drawn and an example of one sentence has no
            B.

    Raises:
        ValueError: if a value is out of range.
    """

    max_sequence_length: int = 128
    short_sequence_probability: float = 0.1
    next_sentence_probability: float = 0.5

    def __post_init__(self):
        if not 8 <= self.max_sequence_length <= MAX_SEQUENCE_LENGTH:
            raise ValueError(
                "The maximum sequence length must be from 8 to "
                f"{MAX_SEQUENCE_LENGTH} tokens, not {self.max_sequence_length}."
            )
        for name in (
            "short_sequence_probability",
            "next_sentence_probability",
        ):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(
                    f"The {name.replace('_', ' ')} must be between 0 and 1, "
                    f"not {getattr(self, name)}."
                )


@dataclasses.dataclass(frozen=True)
class Examples:
    """A number n of examples.

    Attributes:
        token_ids: int32 [sum(lengths)], one example after another.
        lengths: int32 [n] tokens of each, special tokens included.
        segment_b_start: int32 [n] index of B's first token, == length
            without B.
        next_sentence_label: int32 [n], IS_NEXT or IS_RANDOM.
    """

    token_ids: np.ndarray
    lengths: np.ndarray
    segment_b_start: np.ndarray
    next_sentence_label: np.ndarray

    def take(self, order: np.ndarray) -> "Examples":
        """Returns the examples with the numbers `order`, in this order."""
        starts = np.cumsum(self.lengths, dtype=np.int64) - self.lengths
        lengths = self.lengths[order]
        begins = np.cumsum(lengths, dtype=np.int64) - lengths
        index = np.repeat(starts[order] - begins, lengths)
        index += np.arange(len(index))
        return Examples(
            self.token_ids[index],
            lengths,
            self.segment_b_start[order],
            self.next_sentence_label[order],
        )


def trim_counts(
    a_length: int, b_length: int, max_length: int
) -> tuple[int, int]:
    """Returns how many tokens A and B lose, one by one from the longer."""
    excess = max(0, a_length + b_length - max_length)
    first = min(excess, abs(a_length - b_length))
    rest = excess - first
    # Of equal segments B loses the first token.
    a_loss, b_loss = rest // 2, rest - rest // 2
    if a_length > b_length:
        return a_loss + first, b_loss
    return a_loss, b_loss + first


def _trim(start: int, end: int, loss: int, rng: random.Random):
    """Takes `loss` tokens away, each from the front or the back."""
    if loss:
        front = rng.getrandbits(loss).bit_count()
        return start + front, end - (loss - front)
    return start, end


def _random_segment(
    documents: Sequence[list[int]],
    index: int,
    after: int,
    target: int,
    rng: random.Random,
) -> tuple[int, int]:
    """Draws a segment of about `target` tokens from another document."""
    if len(documents) > 1:
        other = rng.randrange(len(documents) - 1)
        bounds = documents[other + (other >= index)]
        first = rng.randrange(len(bounds) - 1)
    else:
        # As the reference does when it finds no other document; what
        # directly follows A is spared where possible.
        bounds = documents[index]
        count = len(bounds) - 1
        first = rng.randrange(count - 1) if count > 1 else 0
        first += count > 1 and first >= after
    last = bisect_left(
        bounds, bounds[first] + max(1, target), first + 1, len(bounds) - 1
    )
    return bounds[first], bounds[last]


def draw_pairs(
    documents: Sequence[list[int]],
    index: int,
    rng: random.Random,
    options: PairOptions,
) -> list[tuple[int, int, int, int, int]]:
    """Draws the segment pairs of one document.

    Args:
        documents: boundaries of each document's sentences, see
            `tokenized.Documents.boundaries`.
        index: of the document.
        rng: source of all draws.
        options: how to draw.

    Returns:
        (a_start, a_end, b_start, b_end, label) of each example; ranges of
        the token array. Without B b_start == b_end.
    """
    max_tokens = options.max_sequence_length - 3
    next_probability = options.next_sentence_probability
    bounds = documents[index]
    count = len(bounds) - 1
    if len(documents) == 1 and count < 3:
        # Any random segment would be A itself or what follows it.
        next_probability = 1
    pairs = []
    first = 0
    while first < count:
        target = max_tokens
        if rng.random() < options.short_sequence_probability:
            target = rng.randint(2, max_tokens)
        # The sentence that reaches the target is still taken.
        last = bisect_left(bounds, bounds[first] + target, first + 1, count)
        middle = first + 1
        if last - first >= 2:
            middle = first + rng.randint(1, last - first - 1)
        a_start, a_end = bounds[first], bounds[middle]
        if next_probability < 1 and (
            last - first == 1 or rng.random() >= next_probability
        ):
            label = IS_RANDOM
            b_start, b_end = _random_segment(
                documents, index, middle, target - (a_end - a_start), rng
            )
            first = middle  # the rest goes into the next example
        else:
            label = IS_NEXT
            b_start, b_end = a_end, bounds[last]
            first = last
        a_loss, b_loss = trim_counts(
            a_end - a_start, b_end - b_start, max_tokens
        )
        a_start, a_end = _trim(a_start, a_end, a_loss, rng)
        b_start, b_end = _trim(b_start, b_end, b_loss, rng)
        pairs.append((a_start, a_end, b_start, b_end, label))
    return pairs


def gather(
    token_ids: np.ndarray, pairs: np.ndarray, cls_id: int, sep_id: int
) -> Examples:
    """Copies the tokens of segment pairs and adds the special tokens.

    Args:
        token_ids: int32, all tokens.
        pairs: int64 [n, 5], see `draw_pairs`.
        cls_id: id of [CLS].
        sep_id: id of [SEP].

    Returns:
        The n examples.
    """
    a_start, a_end, b_start, b_end, labels = pairs.reshape(-1, 5).T
    a_length, b_length = a_end - a_start, b_end - b_start
    lengths = a_length + b_length + np.where(b_length > 0, 3, 2)
    starts = np.cumsum(lengths) - lengths
    result = np.full(lengths.sum(), sep_id, np.int32)
    result[starts] = cls_id
    for source, target, count in (
        (a_start, starts + 1, a_length),
        (b_start, starts + a_length + 2, b_length),
    ):
        before = np.cumsum(count) - count
        within = np.arange(count.sum()) - np.repeat(before, count)
        result[np.repeat(target, count) + within] = token_ids[
            np.repeat(source, count) + within
        ]
    return Examples(
        result,
        lengths.astype(np.int32),
        (a_length + 2).astype(np.int32),
        labels.astype(np.int32),
    )


def _mostly_alone(documents: Sequence[list[int]], max_tokens: int) -> bool:
    """Whether fewer than half of the sentences have room for the next one."""
    followed = sum(
        end - start < max_tokens
        for bounds in documents
        for start, end in zip(bounds, bounds[1:-1])
    )
    return 2 * followed < sum(len(bounds) - 1 for bounds in documents)


def _halve(bounds: list[int]) -> list[int]:
    """Cuts each sentence of more than one token in the middle."""
    middles = ((start + end) // 2 for start, end in zip(bounds, bounds[1:]))
    return sorted({*bounds, *middles})


def build(
    documents: tokenized.Documents,
    options: PairOptions,
    cls_id: int,
    sep_id: int,
) -> Examples:
    """Makes the examples of a block of documents.

    The draws of a document depend on its seed and on the block alone. Where
    most sentences fill an example, or are the only one of their document, no
    sentence would follow another and nearly all pairs were random ones: each
    sentence is cut in two then.

    Args:
        documents: of the block; random segments come from these.
        options: how to draw.
        cls_id: id of [CLS].
        sep_id: id of [SEP].

    Returns:
        The examples in the order of the documents.
    """
    bounds, seeds = documents.boundaries(options.max_sequence_length - 3)
    if options.next_sentence_probability < 1 and _mostly_alone(
        bounds, options.max_sequence_length - 3
    ):
        bounds = [_halve(document) for document in bounds]
    pairs = []
    for index, seed in enumerate(seeds):
        pairs += draw_pairs(bounds, index, random.Random(seed), options)
    return gather(
        documents.token_ids, np.array(pairs, np.int64), cls_id, sep_id
    )
