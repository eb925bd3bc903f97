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
    24      stored: rows * columns int8 weights, row by row, end of data; R
            and C are 1
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

MAGIC = b"TPW1"
HEADER = struct.Struct("<4sI4B3I")
CHECKED_FROM = 8
STORED, CODED = 0, 1
SKIP = 255
PADDING = 16


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
    if len(packed) < HEADER.size or packed[:4] != MAGIC:
        raise ValueError("These are no packed weights: the magic is missing.")
    _, crc, method, block_rows, block_columns, group_rows, *shape = (
        HEADER.unpack_from(packed)
    )
    if zlib.crc32(memoryview(packed)[CHECKED_FROM:]) != crc:
        raise ValueError("The packed weights are corrupt: checksum differs.")
    rows, columns, nonzeros = shape
    if (
        method > CODED
        or (method == STORED and (block_rows, block_columns) != (1, 1))
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
