"""Packs tokens as a BERT takes them: [CLS] A [SEP] B [SEP] and padding."""

from collections.abc import Sequence
import operator

import numpy as np

# Of token_ids, segment_ids and padding_mask.
NAMES = ("token_ids", "segment_ids", "padding_mask")


def room(sequence_length: int, num_segments: int) -> int:
    """How many tokens of the texts a sequence takes.

    Args:
        sequence_length: special tokens included.
        num_segments: 1, or 2 for pairs.

    Raises:
        TypeError: if the length is no integer.
        ValueError: if there is no room for a token of each text.
    """
    try:
        if isinstance(sequence_length, bool):
            raise TypeError
        length = operator.index(sequence_length)
    except TypeError:
        raise TypeError(
            "sequence_length must be an integer, not "
            f"{type(sequence_length).__name__}."
        ) from None
    specials = 1 + num_segments
    if length < specials + num_segments:
        raise ValueError(
            f"sequence_length {length} leaves no room beside the {specials} "
            f"special tokens: give at least {specials + num_segments}."
        )
    return length - specials


def kept(counts: np.ndarray, available: int) -> np.ndarray:
    """How many tokens of each text stay, if the longer text is cut first.

    Args:
        counts: [segments, n] tokens that there are; 1 or 2 segments.
        available: tokens that there is room for.

    Returns:
        [segments, n]; of pairs that are both too long the second text keeps
        the odd token, as tensorflow-text's ShrinkLongestTrimmer leaves it.
    """
    if len(counts) == 1:
        return np.minimum(counts, available)
    first, second = counts
    half = available // 2
    other = np.minimum(second, np.maximum(available - half, available - first))
    return np.stack([np.minimum(first, available - other), other])


def pack(
    segments: Sequence[tuple[np.ndarray, np.ndarray]],
    sequence_length: int,
    cls_id: int,
    sep_id: int,
    pad_id: int,
) -> list[np.ndarray]:
    """Packs n texts, or n pairs of texts.

    No step takes longer for what is cut off.

    Args:
        segments: of the first and perhaps the second texts: tokens [total]
            of all, and where each one's begin [n + 1].
        sequence_length: S, special tokens included.
        cls_id, sep_id, pad_id: the special tokens.

    Returns:
        token_ids, segment_ids and padding_mask, int32 [n, S].
    """
    available = room(sequence_length, len(segments))
    counts = np.stack([np.diff(splits) for _, splits in segments])
    counts = kept(counts, available)
    shape = (counts.shape[1], sequence_length)
    token_ids = np.full(shape, pad_id, np.int32)
    segment_ids = np.zeros(shape, np.int32)
    token_ids[:, 0] = cls_id
    every = np.arange(shape[0])
    start = np.ones(shape[0], np.int64)
    for number, (tokens, splits) in enumerate(segments):
        count = counts[number]
        rows = np.repeat(every, count)
        within = np.arange(len(rows)) - np.repeat(
            np.cumsum(count) - count, count
        )
        places = start[rows] + within
        token_ids[rows, places] = tokens[splits[:-1][rows] + within]
        token_ids[every, start + count] = sep_id
        segment_ids[rows, places] = number
        segment_ids[every, start + count] = number
        start += count + 1
    mask = np.arange(sequence_length) < start[:, None]
    return [token_ids, segment_ids, mask.astype(np.int32)]
