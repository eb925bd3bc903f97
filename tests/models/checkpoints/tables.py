"""Writes tables of LevelDB's format, as the index of a TensorFlow checkpoint.

Checksums are right whatever the entries are.
"""

import struct


def _masked_crc32c(contents):
    """RFC 3720's CRC32C, bit by bit, masked as LevelDB does."""
    crc = 0xFFFFFFFF
    for byte in contents:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _varint(number):
    contents = b""
    while number > 127:
        contents += bytes([number & 127 | 128])
        number >>= 7
    return contents + bytes([number])


def _block(entries, kind=0):
    contents, restarts = b"", []
    for key, value in entries:
        restarts.append(len(contents))
        contents += _varint(0) + _varint(len(key)) + _varint(len(value))
        contents += key + value
    restarts = restarts or [0]
    contents += struct.pack(f"<{len(restarts) + 1}I", *restarts, len(restarts))
    contents += bytes([kind])
    return contents + struct.pack("<I", _masked_crc32c(contents))


def table(entries: list[tuple[bytes, bytes]], kind: int = 0) -> bytes:
    """A table of one block with these keys and values.

    Args:
        entries: in the order of their keys.
        kind: of compression that the block claims.
    """
    contents, handles = b"", []

    def add(block):
        nonlocal contents
        handles.append(_varint(len(contents)) + _varint(len(block) - 5))
        contents += block

    add(_block(entries, kind))
    add(_block([]))
    add(_block([(b"\xff", handles[0])]))
    footer = handles[1] + handles[2]
    magic = bytes.fromhex("57fb808b247547db")
    return contents + footer.ljust(40, b"\0") + magic
