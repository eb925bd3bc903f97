"""Packs int8 weights (see `packed_format`)."""

import struct
import zlib

import numpy as np

from tf_pof.export.encodings import huffman, packed_format

_MAX_BLOCK = 16
_GROUP_ROWS = 32


def encode(weights: np.ndarray) -> bytes:
    """Packs weights; never larger than they are but for 24 bytes.

    Args:
        weights: int8 [rows, columns], neither of them 0.

    Raises:
        ValueError: if the weights are of another type, rank or size.
    """
    weights = np.ascontiguousarray(weights)
    if (
        weights.dtype != np.int8
        or weights.ndim != 2
        or not 0 < weights.size < 1 << 31
    ):
        raise ValueError(
            "Packed weights are int8 [rows, columns], not "
            f"{weights.dtype} {list(weights.shape)}."
        )
    method, block = packed_format.CODED, choose_block(weights)
    body = _coded(weights, block)
    if len(body) > weights.size:
        method, block = packed_format.STORED, (1, 1)
        body = weights.tobytes()
    packed = bytearray(
        packed_format.HEADER.pack(
            packed_format.MAGIC,
            0,
            method,
            *block,
            _GROUP_ROWS,
            *weights.shape,
            np.count_nonzero(weights),
        )
        + body
    )
    crc = zlib.crc32(memoryview(packed)[packed_format.CHECKED_FROM:])
    struct.pack_into("<I", packed, 4, crc)
    return bytes(packed)


def choose_block(weights: np.ndarray) -> tuple[int, int]:
    """The block shape that makes the codes short.

    Grows blocks while more than 7 in 10 of the weights in them are nonzero,
    and takes the last ones if they need fewer bits than single weights.

    Args:
        weights: int8 [rows, columns].

    Returns:
        Rows and columns of a block, powers of two up to 16.
    """
    full = weights != 0
    nonzeros = np.count_nonzero(full)
    block = (1, 1)
    while nonzeros:
        for grown in ((2 * block[0], block[1]), (block[0], 2 * block[1])):
            fits = not (full.shape[0] % 2 and grown[0] > block[0]) and not (
                full.shape[1] % 2 and grown[1] > block[1]
            )
            if not fits or max(grown) > _MAX_BLOCK:
                continue
            pairs = _any_in_blocks(
                full, grown[0] // block[0], grown[1] // block[1]
            )
            area = grown[0] * grown[1]
            if nonzeros > 0.7 * area * np.count_nonzero(pairs):
                full, block = pairs, grown
                break
        else:
            break
    if block != (1, 1) and _bits(weights, block) > _bits(weights, (1, 1)):
        return 1, 1
    return block


def _any_in_blocks(full: np.ndarray, rows: int, columns: int) -> np.ndarray:
    shape = (
        full.shape[0] // rows,
        rows,
        full.shape[1] // columns,
        columns,
    )
    return full.reshape(shape).any((1, 3))


def _bits(weights: np.ndarray, block: tuple[int, int]) -> int:
    """Bits of gaps and values."""
    gaps, values, _ = _blocks(weights, block)
    skips, rest = np.divmod(gaps, packed_format.SKIP)
    counts = _gap_histogram(skips, rest), _histogram(values)
    return sum(int((c * huffman.code_lengths(c)).sum()) for c in counts)


def _gap_histogram(skips: np.ndarray, rest: np.ndarray) -> np.ndarray:
    counts = np.bincount(rest, minlength=packed_format.SKIP + 1)
    counts[packed_format.SKIP] = skips.sum()
    return counts


def _histogram(values: np.ndarray) -> np.ndarray:
    symbols = values.reshape(-1).view(np.uint8) ^ 128
    return np.bincount(symbols, minlength=256)


def _blocks(
    weights: np.ndarray, block: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gaps [blocks], values [blocks, R * C] and blocks of each group."""
    rows, columns = weights.shape
    high, wide = block
    grid = weights.reshape(rows // high, high, columns // wide, wide)
    full = (weights != 0).reshape(grid.shape).any((1, 3))
    places = np.flatnonzero(full)
    values = grid.transpose(0, 2, 1, 3)[full].reshape(-1, high * wide)
    per_group = _GROUP_ROWS // high * full.shape[1]
    num_groups = -(-rows // _GROUP_ROWS)
    groups, inside = np.divmod(places, per_group)
    gaps = np.diff(inside, prepend=-1) - 1
    first = np.flatnonzero(np.diff(groups, prepend=-1))
    gaps[first] = inside[first]
    return gaps, values, np.bincount(groups, minlength=num_groups)


def _coded(weights: np.ndarray, block: tuple[int, int]) -> bytes:
    """What follows the header under the method `coded`."""
    gaps, values, group_blocks = _blocks(weights, block)
    skips, rest = np.divmod(gaps, packed_format.SKIP)
    gap_counts = _gap_histogram(skips, rest)
    gap_lengths = huffman.code_lengths(gap_counts)
    value_counts = _histogram(values)
    value_lengths = huffman.code_lengths(value_counts)
    symbols = np.concatenate(
        [rest[:, None], (values.view(np.uint8) ^ 128).astype(np.int64) + 256],
        axis=1,
    )
    # The symbols of a block in a row: skips, gap, values (from 256 on).
    if skips.any():
        stream = np.full(symbols.size + skips.sum(), packed_format.SKIP)
        starts = np.arange(len(skips)) * symbols.shape[1] + np.cumsum(skips)
        stream[starts[:, None] + np.arange(symbols.shape[1])] = symbols
        sizes = symbols.shape[1] + skips
    else:
        stream = symbols.reshape(-1)
        sizes = np.full(len(skips), symbols.shape[1])
    ends = np.concatenate([[0], np.cumsum(sizes)])[np.cumsum(group_blocks)]
    lengths = np.concatenate([gap_lengths, value_lengths])
    codes = np.concatenate(
        [huffman.codes(gap_lengths), huffman.codes(value_lengths)]
    )
    bits, group_ends = _place_bits(codes[stream], lengths[stream], ends)
    gap_range = _symbol_range(gap_counts)
    value_range = _symbol_range(value_counts)
    return b"".join(
        [
            bytes([*gap_range, *value_range]),
            _nibbles(gap_lengths, gap_range),
            _nibbles(value_lengths, value_range),
            np.stack([group_ends, group_blocks], 1).astype("<u4").tobytes(),
            bits,
            bytes(packed_format.PADDING),
        ]
    )


def _place_bits(
    codes: np.ndarray, lengths: np.ndarray, ends: np.ndarray
) -> tuple[bytes, np.ndarray]:
    """Lays codes one after the other, groups from a byte on.

    Args:
        codes, lengths: of every symbol.
        ends: int64 [groups], number of symbols up to the end of each.

    Returns:
        The bytes, and int64 [groups] where each group's end.
    """
    at = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    sizes = np.diff(at[ends], prepend=0)
    group_ends = np.cumsum(-(-sizes // 8))
    shifts = 8 * (group_ends - -(-sizes // 8)) - (at[ends] - sizes)
    counts = np.diff(ends, prepend=0)
    starts = at[:-1] + np.repeat(shifts, counts)
    total = int(group_ends[-1])
    result = np.zeros(total + 2, np.uint8)
    spread = codes << (starts & 7).astype(np.uint32)
    # Codes share bytes but no bits, so a sum is as good as a disjunction.
    for i in range(3):
        part = (spread >> 8 * i & 255).astype(np.float64)
        result[i:] += np.bincount(
            starts >> 3, part, minlength=total + 2
        ).astype(np.uint8)[: total + 2 - i]
    return result[:total].tobytes(), group_ends


def _symbol_range(counts: np.ndarray) -> tuple[int, int]:
    used = np.flatnonzero(counts)
    return (int(used[0]), int(used[-1])) if len(used) else (0, 0)


def _nibbles(lengths: np.ndarray, symbol_range: tuple[int, int]) -> bytes:
    lowest, highest = symbol_range
    if lowest == highest:
        return b""
    low = lengths[lowest : highest + 1]
    low = np.concatenate([low, np.zeros(len(low) % 2, np.uint8)])
    return (low[0::2] | low[1::2] << 4).tobytes()
