"""Looks through the index of a TensorFlow checkpoint before TensorFlow does.

TensorFlow's reader ends the whole process (a failed CHECK) at an index whose
checksums are right and whose shapes are not: negative, beyond 2^63, of 300
axes. The index is a table of LevelDB's format, whose blocks hold protocol
buffers by key.
"""

from collections.abc import Iterator
import math

from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import tensor_bundle_pb2

from tf_pof import untrusted

# 24 layers with an optimizer's slots have 200 kB.
_MAX_BYTES = 16 << 20
_MAX_ENTRIES = 100_000
_MAX_AXES = 8
_MAX_NUMBERS = 1 << 40
_MAGIC = bytes.fromhex("57fb808b247547db")
_FOOTER = 48
# Behind a block stand the kind of its compression and a checksum.
_TRAILER = 5
_PLAIN = 0
# Handles of the program that wrote them, which no file can hold.
_NOT_STORED = {
    types_pb2.DT_INVALID,
    types_pb2.DT_RESOURCE,
    types_pb2.DT_VARIANT,
}
_STORED = {
    number
    for number in types_pb2.DataType.values()
    # Those from 100 on are references to variables.
    if number < 100 and number not in _NOT_STORED
}


class _Damaged(Exception):
    """Its text follows the file's name."""


def check(path: str) -> None:
    """Makes sure that every entry of an index has a shape and a dtype.

    Args:
        path: of the file, "....ckpt.index".

    Raises:
        ValueError: in one sentence, if it is no index, or an entry is none.
        OSError: if it cannot be read.
    """
    contents = untrusted.read_bytes(path, _MAX_BYTES)
    try:
        for count, (key, value) in enumerate(_entries(contents)):
            if count > _MAX_ENTRIES:
                raise _Damaged(f"has more than {_MAX_ENTRIES:,} entries")
            # The first entry, without a key, is the header.
            if key:
                _check_entry(key, value)
            else:
                _parsed(tensor_bundle_pb2.BundleHeaderProto, value)
    except (_Damaged, IndexError) as error:
        what = str(error) if isinstance(error, _Damaged) else "is damaged"
        raise ValueError(
            f"{path} cannot be read: the index {what}; take the files from "
            "where they come from once more."
        ) from None


def _check_entry(key, value):
    entry = _parsed(tensor_bundle_pb2.BundleEntryProto, value)
    name = key.decode("utf-8", "replace")[:80]
    sizes = [axis.size for axis in entry.shape.dim]
    if (
        entry.shape.unknown_rank
        or len(sizes) > _MAX_AXES
        or any(size < 0 for size in sizes)
        or math.prod(sizes) > _MAX_NUMBERS
    ):
        raise _Damaged(f"gives {name!r} a shape that no tensor has")
    if entry.dtype not in _STORED:
        raise _Damaged(f"gives {name!r} a type that no file can hold")
    if entry.slices:
        raise _Damaged(f"has {name!r} in slices, which are not read")


def _parsed(kind, value):
    try:
        return kind.FromString(value)
    except Exception:  # protobuf's DecodeError is no ValueError.
        raise _Damaged("is damaged") from None


def _entries(contents) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of all blocks, in the file's order."""
    if len(contents) < _FOOTER or contents[-len(_MAGIC) :] != _MAGIC:
        raise _Damaged("has no footer")
    footer = contents[-_FOOTER:]
    # First comes the handle of an index of metadata, which has none.
    _, position = _varint(footer, 0)
    _, position = _varint(footer, position)
    for _, handle in _block(contents, footer[position:]):
        yield from _block(contents, handle)


def _block(contents, handle):
    """Keys and values of the block that a handle, offset and size, means."""
    offset, position = _varint(handle, 0)
    size, _ = _varint(handle, position)
    if offset + size + _TRAILER > len(contents) or size < 4:
        raise _Damaged("points behind its end")
    if contents[offset + size] != _PLAIN:
        raise _Damaged("is compressed, which TensorFlow's are not")
    block = contents[offset : offset + size]
    restarts = int.from_bytes(block[-4:], "little")
    end = size - 4 - 4 * restarts
    if end < 0:
        raise _Damaged("is damaged")
    key, position = b"", 0
    while position < end:
        shared, position = _varint(block, position)
        own, position = _varint(block, position)
        length, position = _varint(block, position)
        value = position + own
        if shared > len(key) or value + length > end:
            raise _Damaged("is damaged")
        key = key[:shared] + block[position:value]
        position = value + length
        yield key, block[value:position]


def _varint(contents, position):
    """A number of 7 bits a byte, and the position behind it."""
    number = 0
    for shift in range(0, 64, 7):
        byte = contents[position]
        position += 1
        number |= (byte & 127) << shift
        if byte < 128:
            return number, position
    raise _Damaged("is damaged")
