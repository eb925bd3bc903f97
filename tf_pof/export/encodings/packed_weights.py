"""The packed form of one int8 weight matrix: gaps and values, Huffman coded.

Weights [rows, columns] are cut into blocks of R x C (1 x 1 for unstructured
sparsity). Blocks that are not all zero are walked row by row of blocks; each
is written as the gap to the block before it and then its R * C values in row
order. Gaps and values have a canonical Huffman code each. Every group of
`group_rows` rows starts anew on a byte, so groups decode independently.

All numbers are little-endian; bits fill bytes from the lowest on.

    offset  type    field
    0       char[4] magic, "TPW1"
    4       uint32  CRC-32 (zlib's) of everything from offset 8 to the end
    8       uint8   method: 0 stored, 1 coded
    9       uint8   block rows R, 1 to 64
    10      uint8   block columns C, 1 to 64; R * C at most 256
    11      uint8   group_rows, 1 to 64, a multiple of R
    12      uint32  rows, at least 1, a multiple of R
    16      uint32  columns, at least 1, a multiple of C; rows * columns is
                    below 2^31
    20      uint32  nonzero weights
    24      stored: rows * columns int8 weights, row by row, end of data
    24      uint8   lowest and highest gap symbol (coded, from here on)
    26      uint8   lowest and highest value symbol
    28      uint4[] code lengths of the gap symbols from lowest to highest, 0
                    to 12 bits, 0 for a symbol without a code, the even ones
                    in the low half of a byte; nothing if lowest = highest,
                    the only symbol: its code has no bits
            uint4[] code lengths of the value symbols, likewise
            (uint32, uint32)[groups]
                    of each group: end of its bits, in bytes from the start
                    of the first group's, and number of blocks
            bits of the groups
            uint8[16] zeros: a decoder may read 8 bytes at once

Gap symbol g < 255 skips g empty blocks to the next full one; symbol 255 skips
255 empty blocks and another gap symbol follows. In a group the first gap
counts from its first block. A value symbol is the value + 128.

`tf_pof/runtime/cc/packed_weights.h` reads the same bytes.
"""

import dataclasses
import struct
import zlib

import numpy as np

from tf_pof.export.encodings import huffman

_MAGIC = b"TPW1"
_HEADER = struct.Struct("<4sI4B3I")
_CHECKED_FROM = 8
_STORED, _CODED = 0, 1
_SKIP = 255
_MAX_BLOCK = 16
_GROUP_ROWS = 32
_PADDING = 16


@dataclasses.dataclass(frozen=True)
class Header:
    """The fields that describe packed weights."""

    rows: int
    columns: int
    nonzeros: int
    method: int
    block_rows: int
    block_columns: int
    group_rows: int


def header(packed: bytes) -> Header:
    """The header of packed weights, with the checksum verified.

    Raises:
        ValueError: if these are not whole packed weights.
    """
    if len(packed) < _HEADER.size or packed[:4] != _MAGIC:
        raise ValueError("These are no packed weights: the magic is missing.")
    _, crc, method, block_rows, block_columns, group_rows, *shape = (
        _HEADER.unpack_from(packed)
    )
    if zlib.crc32(memoryview(packed)[_CHECKED_FROM:]) != crc:
        raise ValueError("The packed weights are corrupt: checksum differs.")
    rows, columns, nonzeros = shape
    if (
        method > _CODED
        or not 1 <= block_rows <= 64
        or not 1 <= block_columns <= 64
        or block_rows * block_columns > 256
        or not 1 <= group_rows <= 64
        or group_rows % block_rows
        or not rows
        or not columns
        or rows * columns >= 1 << 31
        or rows % block_rows
        or columns % block_columns
        or nonzeros > rows * columns
    ):
        raise ValueError("The packed weights are corrupt: impossible header.")
    return Header(
        rows,
        columns,
        nonzeros,
        method,
        block_rows,
        block_columns,
        group_rows,
    )


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
    method, block = _CODED, choose_block(weights)
    body = _coded(weights, block)
    if len(body) > weights.size:
        method, block, body = _STORED, (1, 1), weights.tobytes()
    packed = bytearray(
        _HEADER.pack(
            _MAGIC,
            0,
            method,
            *block,
            _GROUP_ROWS,
            *weights.shape,
            np.count_nonzero(weights),
        )
        + body
    )
    crc = zlib.crc32(memoryview(packed)[_CHECKED_FROM:])
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
    counts = _gap_histogram(*np.divmod(gaps, _SKIP)), _histogram(values)
    return sum(int((c * huffman.code_lengths(c)).sum()) for c in counts)


def _gap_histogram(skips: np.ndarray, rest: np.ndarray) -> np.ndarray:
    counts = np.bincount(rest, minlength=_SKIP + 1)
    counts[_SKIP] = skips.sum()
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
    skips, rest = np.divmod(gaps, _SKIP)
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
        stream = np.full(symbols.size + skips.sum(), _SKIP)
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
            bytes(_PADDING),
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


def decode(packed: bytes) -> np.ndarray:
    """The weights again: int8 [rows, columns].

    Raises:
        ValueError: if the packed weights are corrupt.
    """
    fields = header(packed)
    shape = fields.rows, fields.columns
    if fields.method == _STORED:
        if len(packed) != _HEADER.size + fields.rows * fields.columns:
            raise ValueError("The packed weights are corrupt: wrong size.")
        weights = np.frombuffer(packed, np.int8, offset=_HEADER.size)
        return weights.reshape(shape).copy()
    return _Decoder(packed, fields).decode()


class _Decoder:
    """Decodes all groups in step, one symbol of each at a time."""

    def __init__(self, packed: bytes, fields: Header):
        self._fields = fields
        self._bytes = np.frombuffer(packed, np.uint8)
        self._at = _HEADER.size
        ranges = self._take(4)
        self._gaps = self._table(ranges[0], ranges[1])
        self._values = self._table(ranges[2], ranges[3])
        num_groups = -(-fields.rows // fields.group_rows)
        groups = self._take(8 * num_groups).view("<u4").reshape(-1, 2)
        ends, self._blocks = groups.T.astype(np.int64)
        bits = self._bytes[self._at :]
        starts = np.concatenate([[0], ends[:-1]])
        if (starts > ends).any() or len(bits) != ends[-1] + _PADDING:
            raise ValueError("The packed weights are corrupt: wrong size.")
        self._starts, self._ends = 8 * starts, 8 * ends
        words = bits[:-2].astype(np.uint32)
        self._words = words | bits[1:-1].astype(np.uint32) << 8
        self._words |= bits[2:].astype(np.uint32) << 16

    def _take(self, size: int) -> np.ndarray:
        part = self._bytes[self._at : self._at + size]
        if len(part) != size:
            raise ValueError("The packed weights are corrupt: wrong size.")
        self._at += size
        return part

    def _table(self, lowest: int, highest: int):
        lengths = np.zeros(256, np.uint8)
        if lowest == highest:
            entries = 1 << huffman.MAX_LENGTH
            return np.full(entries, lowest, np.int64), np.zeros(entries, int)
        if lowest > highest:
            raise ValueError("The packed weights are corrupt: wrong code.")
        count = int(highest) - int(lowest) + 1
        pairs = self._take(-(-count // 2))
        both = np.stack([pairs & 15, pairs >> 4], 1).reshape(-1)
        lengths[lowest : int(highest) + 1] = both[:count]
        return huffman.decoding_table(lengths)

    def _next(self, table, bits: np.ndarray, ends: np.ndarray) -> np.ndarray:
        """A symbol of each group; moves the positions `bits` on."""
        windows = self._words[bits >> 3] >> (bits & 7).astype(np.uint32)
        windows &= (1 << huffman.MAX_LENGTH) - 1
        symbols, lengths = table
        bits += lengths[windows]
        if (bits > ends).any():
            raise ValueError("The packed weights are corrupt: no more bits.")
        return symbols[windows]

    def decode(self) -> np.ndarray:
        fields = self._fields
        high, wide = fields.block_rows, fields.block_columns
        across = fields.columns // wide
        per_group = fields.group_rows // high * across
        count = fields.rows // high * across
        grid = np.zeros((count, high * wide), np.int8)
        # Of each unfinished group: its next block, end, bits, blocks to come.
        first = np.arange(len(self._blocks)) * per_group
        limit = np.minimum(first + per_group, count)
        state = np.stack(
            [first, limit, self._starts, self._ends, self._blocks]
        )
        done = state[:, state[4] == 0]
        state = state[:, state[4] > 0]
        while state.size:
            block, limit, bits, ends, left = state
            gaps = self._next(self._gaps, bits, ends)
            block += gaps
            full = gaps != _SKIP
            if (block >= limit).any():
                raise ValueError(
                    "The packed weights are corrupt: a block out of range."
                )
            some = slice(None) if full.all() else np.flatnonzero(full)
            these = bits[some]
            for i in range(high * wide):
                symbols = self._next(self._values, these, ends[some])
                grid[block[some], i] = (symbols - 128).astype(np.int8)
            bits[some] = these
            block += full
            left -= full
            if not left.all():
                done = np.concatenate([done, state[:, left == 0]], 1)
                state = state[:, left > 0]
        if (-(-done[2] // 8) * 8 != done[3]).any():
            raise ValueError("The packed weights are corrupt: bits left over.")
        grid = grid.reshape(fields.rows // high, across, high, wide)
        return np.ascontiguousarray(
            grid.transpose(0, 2, 1, 3).reshape(fields.rows, fields.columns)
        )
