"""Documents out of text files and TFDS data sets, in pieces of bounded size.

The input is planned as a list of pieces, each of which one worker reads as a
stream: a byte range of a plain file, a whole compressed file (it cannot be
entered in the middle), several small files, or a range of the examples of a
TFDS split. The plan depends on the input alone, not on the workers.

Inside a byte range, the range that holds the blank line before a document
(or the first byte of a line, with a document a line) owns the document, even
if it ends in the next range. A document of more than MAX_DOCUMENT_BYTES is
cut into several, so that a file without any blank line cannot fill the
memory.
"""

import bz2
from collections.abc import Iterator, Sequence
import dataclasses
import glob
import gzip
import lzma
import os
import zlib

import tensorflow as tf

from tf_pof.data import storage

PIECE_BYTES = 4 << 20
MAX_DOCUMENT_BYTES = 1 << 20
SEPARATORS = ("blank_line", "line")
_DECOMPRESSORS = {".gz": gzip.open, ".xz": lzma.open, ".bz2": bz2.open}
_ADVICE = "use --documents=blank_line or --documents=line"


@dataclasses.dataclass(frozen=True)
class TextRange:
    """The documents that begin in bytes start..end of a file; None: its end."""

    path: str
    start: int = 0
    end: int | None = None


@dataclasses.dataclass(frozen=True)
class Piece:
    """Work for one worker.

    Attributes:
        sources: TextRange or tfds_text.ExampleRange objects.
        size: bytes of it, for the progress.
    """

    sources: tuple
    size: int


def _open(path: str):
    """Opens a local or remote file for reading bytes, decompressed."""
    raw = tf.io.gfile.GFile(path, "rb") if "://" in path else open(path, "rb")
    opener = _DECOMPRESSORS.get(os.path.splitext(path)[1])
    return opener(raw, "rb") if opener else raw


@storage.plain_errors()
def find_files(patterns: Sequence[str]) -> list[str]:
    """Expands file names and globs.

    Args:
        patterns: names or globs, local or of any file system that TensorFlow
            knows. What exists under its name is taken by it, whatever
            brackets and stars are in it; so are the folders of a glob.

    Returns:
        The files without repetition: the patterns in the order given, the
        matches of each sorted.

    Raises:
        ValueError: if a pattern matches nothing, or a match is a folder,
            pipe, broken link, binary file or cannot be opened.
    """
    found = {}
    for pattern in patterns:
        matches = _matches(pattern)
        if not matches:
            raise ValueError(
                f"No input file matches {pattern}: check the path or glob."
            )
        for match in matches:
            if tf.io.gfile.isdir(match):
                raise ValueError(
                    f"The input {match} is a folder: give files or a glob "
                    f"such as {os.path.join(match, '*.txt')}."
                )
            storage.require_readable(match, "The input")
            _refuse_binary(match)
            found[match] = None
    return list(found)


def _matches(pattern: str) -> list[str]:
    if storage.is_remote(pattern):
        if tf.io.gfile.exists(pattern):
            return [pattern]
        return sorted(tf.io.gfile.glob(pattern))
    rest = []
    head = os.path.expanduser(pattern)
    while head and not os.path.lexists(head):
        head, tail = os.path.split(head)
        rest.insert(0, tail)
    return sorted(
        glob.glob(os.path.join(glob.escape(head), *rest), recursive=True)
    )


def _refuse_binary(path: str) -> None:
    if storage.is_remote(path) or os.path.splitext(path)[1] in _DECOMPRESSORS:
        return
    with open(path, "rb") as file:
        place = file.read(4096).find(b"\0")
    if place >= 0:
        raise ValueError(
            f"The input {path} is no UTF-8 text (it has a NUL at byte {place}, "
            "as binary and UTF-16 files have): give text, converted with "
            "iconv if need be."
        )


@storage.plain_errors()
def plan_files(
    files: Sequence[str], piece_bytes: int = PIECE_BYTES
) -> list[Piece]:
    """Cuts files into pieces of about `piece_bytes`.

    Args:
        files: names, see `find_files`.
        piece_bytes: size aimed at; small files share a piece.

    Returns:
        The pieces in the order of the files.

    Raises:
        ValueError: if all files are empty.
    """
    pieces = []
    small: list[TextRange] = []
    small_size = 0

    def flush():
        nonlocal small_size
        if small:
            pieces.append(Piece(tuple(small), small_size))
        small.clear()
        small_size = 0

    for path in files:
        size = tf.io.gfile.stat(path).length
        packed = os.path.splitext(path)[1] in _DECOMPRESSORS
        count = 1 if packed else round(size / piece_bytes)
        if not size:
            continue
        if size < piece_bytes // 2:
            small.append(TextRange(path))
            small_size += size
            if small_size >= piece_bytes:
                flush()
            continue
        flush()
        edges = [size * i // max(1, count) for i in range(max(1, count))]
        for start, end in zip(edges, edges[1:] + [None]):
            pieces.append(
                Piece(
                    (TextRange(path, start, end),),
                    (size if end is None else end) - start,
                )
            )
    flush()
    if not pieces:
        raise ValueError(
            f"The input is empty ({len(files)} file(s) without a byte): give "
            "files with text."
        )
    return pieces


def read_piece(piece: Piece, separator: str) -> Iterator[str]:
    """Yields the documents of a piece, as a stream.

    Raises:
        ValueError: if a file is not UTF-8 or its compression is broken.
    """
    for source in piece.sources:
        if isinstance(source, TextRange):
            yield from _read_text(source, separator)
        else:
            yield from source.read()


def _read_text(source: TextRange, separator: str) -> Iterator[str]:
    lines = _lines(source)
    if separator == "line":
        ranges = _line_documents(lines, source)
    elif separator == "blank_line":
        ranges = _blank_line_documents(lines, source)
    else:
        raise ValueError(
            f'There is no separator of documents "{separator}": {_ADVICE}.'
        )
    for offset, content in ranges:
        try:
            text = content.decode("utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(
                f"{source.path} is not UTF-8 at byte {offset + error.start} "
                f"(0x{content[error.start]:02x}): convert the file to UTF-8, "
                "for example with iconv."
            ) from None
        text = text.removeprefix("\ufeff").strip()
        if text:
            yield text


def _lines(source: TextRange) -> Iterator[tuple[int, bytes]]:
    """Yields (offset, line) from the first line start in the range on.

    A line of more than MAX_DOCUMENT_BYTES comes in parts, cut at a space
    where there is one.
    """
    position = max(0, source.start - 1)
    try:
        with _open(source.path) as file:
            if source.start:
                file.seek(position)
                while part := file.readline(MAX_DOCUMENT_BYTES):
                    position += len(part)
                    if part.endswith(b"\n"):
                        break
            rest = b""
            while part := file.readline(MAX_DOCUMENT_BYTES):
                part = rest + part
                rest = b""
                if len(part) >= MAX_DOCUMENT_BYTES and part[-1:] != b"\n":
                    cut = _cut(part)
                    part, rest = part[:cut], part[cut:]
                yield position, part
                position += len(part)
            if rest:
                yield position, rest
    except (EOFError, lzma.LZMAError, zlib.error, gzip.BadGzipFile) as error:
        raise _broken(source.path, error) from None
    except OSError as error:
        if error.errno is None:  # bz2 has no error class of its own
            raise _broken(source.path, error) from None
        raise


def _broken(path: str, error: Exception) -> ValueError:
    suffix = os.path.splitext(path)[1]
    return ValueError(
        f"{path} is not a whole {suffix} file ({str(error).rstrip('.')}): "
        "download or compress it again."
    )


def _cut(part: bytes) -> int:
    """Returns where to cut a long line: after a space or a character."""
    cut = part.rfind(b" ") + 1
    if not cut:
        cut = len(part)
        while cut > len(part) - 4 and part[cut - 1] & 0xC0 == 0x80:
            cut -= 1
        # In front of the lead byte of a character that may not be whole.
        cut -= part[cut - 1] >= 0xC0
    return cut


def _line_documents(lines, source) -> Iterator[tuple[int, bytes]]:
    line_start = True
    for offset, line in lines:
        if line_start and source.end is not None and offset >= source.end:
            return
        yield offset, line
        line_start = line.endswith(b"\n")


def _blank_line_documents(lines, source) -> Iterator[tuple[int, bytes]]:
    begin = 0
    content: list[bytes] = []
    size = 0
    owned = source.start == 0
    for offset, line in lines:
        blank = not line.strip()
        if content and (blank or size + len(line) > MAX_DOCUMENT_BYTES):
            yield begin, b"".join(content)
            content = []
            size = 0
        if blank:
            if source.end is not None and offset >= source.end:
                return
            owned = True
        elif owned:
            if not content:
                begin = offset
            content.append(line)
            size += len(line)
    if content:
        yield begin, b"".join(content)
