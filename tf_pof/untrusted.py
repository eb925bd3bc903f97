"""JSON that others may have written: read with a cap, held to a schema.

A schema is a pydantic model (or any type that pydantic knows) that stands
beside the reader of its file. Numbers are finite, types are not guessed
("5" is no number), and what does not fit is named in one sentence.
"""

import os
import stat
from typing import Any, TypeVar

import pydantic

T = TypeVar("T")

# Far above all that we write; curves and tokenizers stay below it.
MAX_BYTES = 64 << 20
# How a file begins that stands for one which git lfs has not fetched.
_POINTER = b"version https://git-lfs.github.com/spec/"


class Schema(pydantic.BaseModel):
    """Base of schemas: strict types, finite numbers, unknown keys are kept."""

    model_config = pydantic.ConfigDict(
        strict=True,
        extra="allow",
        allow_inf_nan=False,
        frozen=True,
        protected_namespaces=(),
    )


def read_bytes(path: str | os.PathLike, limit: int = MAX_BYTES) -> bytes:
    """The contents of a regular file of at most `limit` bytes.

    Raises:
        ValueError: if it is larger, no regular file, or a pointer of Git LFS.
        OSError: if it cannot be read.
    """
    with _opened(path) as file:
        contents = file.read(limit + 1)
    _refuse_pointer(path, contents)
    if len(contents) > limit:
        raise ValueError(
            f"{path} is larger than the {limit / 2**20:.0f} MB that such a "
            "file may have."
        )
    return contents


def first_bytes(path: str | os.PathLike, count: int = 64) -> bytes:
    """The beginning of a regular file that a library is to read.

    Raises:
        ValueError: if it is no regular file, or a pointer of Git LFS.
        OSError: if it cannot be read.
    """
    with _opened(path) as file:
        contents = file.read(max(count, len(_POINTER)))
    _refuse_pointer(path, contents)
    return contents[:count]


def _opened(path):
    # A pipe without a writer would block.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return open(descriptor, "rb")
    os.close(descriptor)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(f"{path} is a folder, not a file.")
    raise ValueError(f"{path} is no regular file.")


def _refuse_pointer(path, contents):
    if contents.startswith(_POINTER):
        raise ValueError(
            f"{path} is a pointer of Git LFS, not the file itself: run "
            '"git lfs pull" where it was cloned, or download the file.'
        )


def read_json(
    path: str | os.PathLike,
    schema: type[T] = dict[str, Any],
    limit: int = MAX_BYTES,
) -> T:
    """Reads a JSON file that must fit a schema; see `parse_json`."""
    return parse_json(read_bytes(path, limit), schema, os.fspath(path))


def parse_json(
    contents: bytes | str, schema: type[T] = dict[str, Any], where: str = "It"
) -> T:
    """Parses JSON that must fit a schema.

    Args:
        contents: of the file, UTF-8; a byte order mark is passed over.
        schema: a `Schema` or another type that pydantic validates.
        where: begins the sentence of an error, such as the file's path.

    Returns:
        An instance of the schema.

    Raises:
        ValueError: in one sentence that names the field, if the contents are
            no JSON, are nested too deep, or do not fit.
    """
    if isinstance(contents, bytes):
        contents = contents.removeprefix(b"\xef\xbb\xbf")
    adapter = pydantic.TypeAdapter(schema)
    try:
        return adapter.validate_json(contents)
    except pydantic.ValidationError as error:
        raise ValueError(f"{where} {_sentence(error)}") from None


def fit(value: Any, schema: type[T], where: str) -> T:
    """Holds a value that was parsed elsewhere to a schema; see `parse_json`."""
    adapter = pydantic.TypeAdapter(schema)
    try:
        return adapter.validate_python(value)
    except pydantic.ValidationError as error:
        raise ValueError(f"{where} {_sentence(error)}") from None


def _sentence(error: pydantic.ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    if first["type"] == "json_invalid":
        return f"is not valid JSON ({first['ctx']['error']})."
    place = _shortened(".".join(str(part) for part in first["loc"]))
    if first["type"] == "missing":
        return f"lacks {place!r}."
    message = first["msg"][0].lower() + first["msg"][1:]
    shown = _shortened(repr(first["input"]))
    if not place:
        return f"does not hold what it should: {message}, not {shown}."
    return f"has a wrong {place!r}: {message}, not {shown}."


def _shortened(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:37]}..."
