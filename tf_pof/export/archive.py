"""Reads what stands behind a .tflite: vocabulary, labels and tf_pof.json.

Files come from anywhere. Only members that we know are read, each up to a
cap, and what tf_pof.json says is held to a schema before anybody believes it.
"""

import io
import mmap
import os
from typing import Annotated, Any
import zipfile
import zlib

import pydantic

from tf_pof import untrusted

VOCABULARY, LABELS, DETAILS = "vocab.txt", "labels.txt", "tf_pof.json"
# By far more than all vocabularies and provenances that there are.
_MAX_BYTES = 64 << 20
# Of a corrupt, encrypted or unknown archive.
_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    NotImplementedError,
    # An encrypted member.
    RuntimeError,
    # Offsets that lead out of the file.
    OSError,
    ValueError,
)

Buffer = bytes | bytearray | memoryview | mmap.mmap
_Count = Annotated[int, pydantic.Field(ge=0, le=1 << 24)]
_Size = Annotated[int, pydantic.Field(ge=1, le=1 << 24)]


class _Config(untrusted.Schema):
    vocabulary_size: _Size
    num_layers: _Size
    hidden_dim: _Size
    num_segments: _Count


class _Details(untrusted.Schema):
    """What every reader of tf_pof.json relies on."""

    version: int
    head: str | None
    num_labels: _Size
    labels: list[str] | None
    lowercase: bool
    config: _Config
    sequence_lengths: Annotated[list[_Size], pydantic.Field(min_length=1)]
    task: dict[str, Any]
    provenance: dict[str, Any]
    crc32: int


def contents_of(path: str | os.PathLike) -> Buffer:
    """The contents of a file, mapped: what is not looked at takes no memory.

    Raises:
        OSError: if it cannot be read.
    """
    with open(path, "rb") as file:
        if not os.fstat(file.fileno()).st_size:
            return b""
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def read(contents: Buffer) -> dict[str, bytes]:
    """The members that we know of the archive behind a .tflite, by name.

    Returns:
        None of them if there is no archive, or it cannot be read.

    Raises:
        ValueError: if one is larger than such files are.
    """
    found = {}
    for name in (VOCABULARY, LABELS, DETAILS):
        member = _member(contents, name)
        if member is not None:
            found[name] = member
    return found


def _member(contents, name):
    try:
        with zipfile.ZipFile(_Reader(contents)) as archive:
            if name not in archive.namelist():
                return None
            with archive.open(name) as member:
                data = member.read(_MAX_BYTES + 1)
    except _ERRORS:
        return None
    if len(data) > _MAX_BYTES:
        raise ValueError(
            f"The {name} in the .tflite is larger than the "
            f"{_MAX_BYTES >> 20} MB that it may have."
        )
    return data


def read_details(contents: Buffer) -> dict | None:
    """tf_pof.json of a .tflite; None if it has none.

    Raises:
        ValueError: if the .tflite is not as it was written, or its
            tf_pof.json says what cannot be.
    """
    found = _member(contents, DETAILS)
    if found is None:
        return None
    try:
        details = untrusted.parse_json(found, _Details, DETAILS)
    except ValueError as error:
        raise ValueError(
            f"The .tflite file is corrupt: its {error}"
        ) from None
    with memoryview(contents) as view:
        checksum = zlib.crc32(view[: size_of_model(contents)])
    if checksum != details.crc32:
        raise ValueError(
            "The .tflite file is corrupt, or was changed after its export: "
            "its checksum is another one."
        )
    described = details.model_dump()
    labels = described["labels"]
    # A model of scores has one output, whatever its labels are called.
    if labels and len(labels) != described["num_labels"]:
        raise ValueError(
            f"The .tflite file is corrupt: it has {len(labels)} labels for "
            f"{described['num_labels']} classes."
        )
    return described


def size_of_model(contents):
    """Where the archive begins."""
    with zipfile.ZipFile(_Reader(contents)) as archive:
        return min(entry.header_offset for entry in archive.infolist())


class _Reader(io.RawIOBase):
    """A file of what is in memory, without a copy of it."""

    def __init__(self, contents: Buffer):
        self._contents, self._position = contents, 0

    def readable(self):
        return True

    def seekable(self):
        return True

    def tell(self):
        return self._position

    def seek(self, offset, whence=os.SEEK_SET):
        start = {
            os.SEEK_SET: 0,
            os.SEEK_CUR: self._position,
            os.SEEK_END: len(self._contents),
        }[whence]
        if start + offset < 0:
            raise OSError("The archive leads out of its file.")
        self._position = start + offset
        return self._position

    def readinto(self, target):
        with memoryview(self._contents) as view:
            part = view[self._position : self._position + len(target)]
            target[: len(part)] = part
            self._position += len(part)
            return len(part)
