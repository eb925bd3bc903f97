"""Unpacks weights in numpy (see `packed_format`).

A group is decoded symbol by symbol, but all groups of all matrices in step, so
that a BERT-Base takes seconds. The runtime decodes in C++.
"""

from collections.abc import Sequence

import numpy as np

from tf_pof.export.encodings import huffman, packed_format

_LENGTH_BITS = 4


def decode(packed: bytes) -> np.ndarray:
    """The weights again: int8 [rows, columns].

    Raises:
        ValueError: if the packed weights are corrupt.
    """
    return decode_all([packed])[0]


def decode_all(packed: Sequence[bytes]) -> list[np.ndarray]:
    """The weights of several matrices, int8 [rows, columns] each.

    Raises:
        ValueError: if any of the packed weights are corrupt.
    """
    results, coded = {}, {}
    for i, data in enumerate(packed):
        fields = packed_format.header(data)
        if fields.method == packed_format.STORED:
            results[i] = _stored(data, fields)
        else:
            coded[i] = _Coded(data, fields)
    if coded:
        results |= zip(coded, _decode(list(coded.values())))
    return [results[i] for i in range(len(packed))]


def _stored(packed, fields) -> np.ndarray:
    start = packed_format.HEADER.size
    if len(packed) != start + fields.rows * fields.columns:
        raise ValueError("The packed weights are corrupt: wrong size.")
    weights = np.frombuffer(packed, np.int8, offset=start).copy()
    return weights.reshape(fields.rows, fields.columns)


class _Coded:
    """The parts of one packed matrix.

    Attributes:
        fields: of the header.
        gaps, values: int32 [4096], symbol and length behind the next bits.
        starts, ends: int64 [groups], of their bits, in bytes.
        blocks: int64 [groups].
        bits: uint8, of all groups, and the padding.
    """

    def __init__(self, packed: bytes, fields: packed_format.Header):
        self.fields = fields
        self._bytes = np.frombuffer(packed, np.uint8)
        self._at = packed_format.HEADER.size
        ranges = self._take(4).tolist()
        self.gaps = self._table(*ranges[:2])
        self.values = self._table(*ranges[2:])
        num_groups = -(-fields.rows // fields.group_rows)
        groups = self._take(8 * num_groups).view("<u4").reshape(-1, 2)
        self.ends, self.blocks = groups.T.astype(np.int64)
        self.starts = np.concatenate([[0], self.ends[:-1]])
        self.bits = self._bytes[self._at :]
        size = self.ends[-1] + packed_format.PADDING
        if (self.starts > self.ends).any() or len(self.bits) != size:
            raise ValueError("The packed weights are corrupt: wrong size.")

    def _take(self, size: int) -> np.ndarray:
        part = self._bytes[self._at : self._at + size]
        if len(part) != size:
            raise ValueError("The packed weights are corrupt: wrong size.")
        self._at += size
        return part

    def _table(self, lowest: int, highest: int) -> np.ndarray:
        if lowest == highest:
            entry = lowest << _LENGTH_BITS
            return np.full(1 << huffman.MAX_LENGTH, entry, np.int32)
        if lowest > highest:
            raise ValueError("The packed weights are corrupt: wrong code.")
        count = highest - lowest + 1
        pairs = self._take(-(-count // 2))
        both = np.stack([pairs & 15, pairs >> 4], 1).reshape(-1)
        lengths = np.zeros(256, np.uint8)
        lengths[lowest : highest + 1] = both[:count]
        symbols, lengths = huffman.decoding_table(lengths)
        return (symbols << _LENGTH_BITS | lengths).astype(np.int32)

    def state(self, table: int, bit: int, result: int) -> np.ndarray:
        """A column for each group, int64 [8, groups].

        Rows: next block, end of blocks, blocks to come, weights of a block;
        next bit, end of bits; where the matrix's tables and results begin.

        Args:
            table, bit, result: where the matrix's begin among all.
        """
        fields = self.fields
        across = fields.columns // fields.block_columns
        per_group = fields.group_rows // fields.block_rows * across
        first = np.arange(len(self.blocks)) * per_group
        limit = fields.rows // fields.block_rows * across
        area = fields.block_rows * fields.block_columns
        return np.stack(
            np.broadcast_arrays(
                first,
                np.minimum(first + per_group, limit),
                self.blocks,
                area,
                8 * (bit + self.starts),
                8 * (bit + self.ends),
                table,
                result,
            )
        )

    def rows(self, blocks: np.ndarray) -> np.ndarray:
        """int8 [rows, columns] of values block by block."""
        fields = self.fields
        high, wide = fields.block_rows, fields.block_columns
        grid = blocks.reshape(fields.rows // high, -1, high, wide)
        rows = grid.transpose(0, 2, 1, 3)
        return np.ascontiguousarray(rows).reshape(fields.rows, fields.columns)


def _decode(matrices: Sequence[_Coded]) -> list[np.ndarray]:
    """Decodes all groups of all matrices in step."""
    sizes = [x.fields.rows * x.fields.columns for x in matrices]
    starts = zip(
        range(0, len(matrices) << huffman.MAX_LENGTH, 1 << huffman.MAX_LENGTH),
        np.cumsum([0, *(len(x.bits) for x in matrices)]),
        np.cumsum([0, *sizes]),
    )
    windows = _Windows(np.concatenate([x.bits for x in matrices]))
    gap_entries = np.concatenate([x.gaps for x in matrices])
    value_entries = np.concatenate([x.values for x in matrices])
    result = np.zeros(sum(sizes), np.int8)
    state = np.concatenate(
        [x.state(*start) for x, start in zip(matrices, starts)], axis=1
    )
    state = _unfinished(state)
    while state.size:
        block, limit, left, area, bits, ends, table, start = state
        gaps = windows.take(gap_entries, table, bits, ends)
        block += gaps
        if (block >= limit).any():
            raise ValueError(
                "The packed weights are corrupt: a block out of range."
            )
        full = gaps != packed_format.SKIP
        for i in range(area.max()):
            some = np.flatnonzero(full & (area > i))
            here = bits[some]
            symbols = windows.take(value_entries, table[some], here, ends[some])
            bits[some] = here
            to = start[some] + block[some] * area[some] + i
            result[to] = (symbols - 128).astype(np.int8)
        block += full
        left -= full
        if not left.all():
            state = _unfinished(state)
    parts = np.split(result, np.cumsum(sizes)[:-1])
    return [matrix.rows(part) for matrix, part in zip(matrices, parts)]


def _unfinished(state: np.ndarray) -> np.ndarray:
    """The groups that have blocks to come; the others have to be whole."""
    done = state[2] == 0
    if (-(-state[4, done] // 8) * 8 != state[5, done]).any():
        raise ValueError("The packed weights are corrupt: bits left over.")
    return state[:, ~done]


class _Windows:
    """Reads codes anywhere in some bytes, which end in padding."""

    def __init__(self, data: np.ndarray):
        self._words = data[:-2].astype(np.uint32)
        self._words |= data[1:-1].astype(np.uint32) << 8
        self._words |= data[2:].astype(np.uint32) << 16

    def take(self, entries, table, bits, ends) -> np.ndarray:
        """The symbol at each of `bits`, which move on.

        Args:
            entries: int32, the tables of all matrices.
            table: int64 [groups], where the group's table begins.
            bits, ends: int64 [groups].
        """
        codes = self._words[bits >> 3] >> (bits & 7).astype(np.uint32)
        codes &= (1 << huffman.MAX_LENGTH) - 1
        found = entries[table + codes]
        bits += found & (1 << _LENGTH_BITS) - 1
        if (bits > ends).any():
            raise ValueError("The packed weights are corrupt: no more bits.")
        return found >> _LENGTH_BITS
