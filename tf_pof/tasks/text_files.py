"""Text files of users: their bytes, their encodings, errors by line."""

import codecs
from collections.abc import Sequence
import os

import tensorflow as tf

# Longer marks first: UTF-32's begins with UTF-16's.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


class RowError(ValueError):
    """A sentence on a row, and its line, so that two can be compared."""

    def __init__(self, path: str, line: int, message: str):
        super().__init__(f"{path}:{line}: {message}")
        self.line = line


def read_text(path: str) -> str:
    """Reads a text file in UTF-8, or in what its byte order mark says.

    Without a mark other encodings cannot be told apart for sure: a wrong
    guess would train on wrong letters without a word. So none is made.

    Args:
        path: local, or of any file system of TensorFlow's.

    Raises:
        OSError: if it cannot be read.
        ValueError: if it is empty or in another encoding.
    """
    try:
        with tf.io.gfile.GFile(os.path.expanduser(path), "rb") as file:
            content = file.read()
    except tf.errors.OpError as error:
        raise OSError(
            f"{path} cannot be read ({error.message}): check the path."
        ) from None
    encoding = "utf-8"
    for mark, name in _MARKS:
        if content.startswith(mark):
            encoding = name
            break
    try:
        text = content.decode(encoding).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"{path}:{line}: not {encoding.upper()} at byte {error.start} of "
            "the file: save it as UTF-8, if it comes from Windows with "
            f"`iconv -f WINDOWS-1252 -t UTF-8`."
        ) from None
    if not text.strip():
        raise ValueError(f"{path} is empty: give a file with examples.")
    if "\0" in text.partition("\n")[0]:
        raise ValueError(
            f"{path} has zero bytes in its first line, as UTF-16 without a "
            "byte order mark has: save it as UTF-8, with "
            "`iconv -f UTF-16LE -t UTF-8`."
        )
    return text


def require_text(value: str, where: str) -> str:
    """The value, if it can be written as UTF-8.

    Escapes of JSON can make halves of surrogate pairs, which no tokenizer
    takes.

    Raises:
        ValueError: if it holds one; the sentence begins with `where`.
    """
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{where} has half of a surrogate pair at character "
            f"{error.start}, which is no text: write it anew."
        ) from None
    return value


def quoted(text: str, most: int = 40) -> str:
    """A text of a file's within a sentence: its beginning, on one line."""
    shown = text[:most].encode(errors="replace").decode()
    for character, name in (("\n", r"\n"), ("\r", r"\r"), ("\0", r"\0")):
        shown = shown.replace(character, name)
    return f'"{shown}"'


def listed(names: Sequence[str], most: int = 20) -> str:
    """Names in quotes, the first ones of many."""
    shown = [quoted(name) for name in names[:most]]
    if len(names) > most:
        shown.append(f"{len(names) - most} more")
    return ", ".join(shown)
