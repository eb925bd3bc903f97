"""Unpacks weights in numpy (see `packed_format`)."""

import numpy as np

from tf_pof.export.encodings import huffman, packed_format


def decode(packed: bytes) -> np.ndarray:
    """The weights again: int8 [rows, columns].

    Raises:
        ValueError: if the packed weights are corrupt.
    """
    fields = packed_format.header(packed)
    if fields.method == packed_format.STORED:
        start = packed_format.HEADER.size
        if len(packed) != start + fields.rows * fields.columns:
            raise ValueError("The packed weights are corrupt: wrong size.")
        weights = np.frombuffer(packed, np.int8, offset=start).copy()
        return weights.reshape(fields.rows, fields.columns)
    return _Decoder(packed, fields).decode()


class _Decoder:
    """Decodes all groups in step, one symbol of each at a time."""

    def __init__(self, packed: bytes, fields: packed_format.Header):
        self._fields = fields
        self._bytes = np.frombuffer(packed, np.uint8)
        self._at = packed_format.HEADER.size
        ranges = self._take(4)
        self._gaps = self._table(ranges[0], ranges[1])
        self._values = self._table(ranges[2], ranges[3])
        num_groups = -(-fields.rows // fields.group_rows)
        groups = self._take(8 * num_groups).view("<u4").reshape(-1, 2)
        ends, self._blocks = groups.T.astype(np.int64)
        bits = self._bytes[self._at :]
        starts = np.concatenate([[0], ends[:-1]])
        size = ends[-1] + packed_format.PADDING
        if (starts > ends).any() or len(bits) != size:
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
            full = gaps != packed_format.SKIP
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
