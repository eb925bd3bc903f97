"""Columns of csv, tsv and jsonl files.

The first line of csv and tsv files names the columns. Quotes are as Excel and
pandas write them: a field in double quotes may hold separators, line breaks
and, doubled, quotes. Many a tsv file is written without any quoting, so that
quotes are characters like others; one that does not parse with quoting is
read that way if all its rows fit. A jsonl file has an object a line.
"""

from collections.abc import Iterator, Sequence
import csv
import dataclasses
import io
import json
import os

import tensorflow as tf

from tf_pof.tasks.classification import listed

_SEPARATORS = {".csv": ",", ".tsv": "\t"}
_LINES = (".jsonl", ".ndjson")


class RowError(ValueError):
    """A sentence on a row, and its line, so that two can be compared."""

    def __init__(self, path: str, line: int, message: str):
        super().__init__(f"{path}:{line}: {message}")
        self.line = line


@dataclasses.dataclass(frozen=True)
class Columns:
    """Columns of a file: n values by name, and the line each row begins in."""

    values: dict[str, list[str]]
    lines: list[int]


def read_text(path: str) -> str:
    """Reads a UTF-8 file, with or without a byte order mark.

    Raises:
        OSError: if it cannot be read.
        ValueError: if it is empty or not UTF-8.
    """
    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            content = file.read()
    except tf.errors.OpError as error:
        raise OSError(
            f"{path} cannot be read ({error.message}): check the path."
        ) from None
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"{path}:{line}: not UTF-8 at byte {error.start} of the file: "
            "save it as UTF-8."
        ) from None
    if not text.strip():
        raise ValueError(f"{path} is empty: give a file with examples.")
    return text


def read_columns(
    path: str, names: Sequence[str], optional: Sequence[str] = ()
) -> Columns:
    """Reads columns of a .csv, .tsv or .jsonl file.

    Args:
        path: the file; its ending says the format.
        names: columns that must be there.
        optional: columns that may be missing.

    Returns:
        The columns found. Numbers and booleans of jsonl are as JSON writes
        them.

    Raises:
        OSError: if the file cannot be read.
        ValueError: if it is malformed or a column is missing.
    """
    ending = os.path.splitext(path)[1].lower()
    if ending not in (*_SEPARATORS, *_LINES):
        raise ValueError(
            f"{path} is not named .csv, .tsv or .jsonl: rename it after its "
            "format."
        )
    text = read_text(path)
    if ending in _LINES:
        columns = _json_columns(path, text, names, optional)
    else:
        rows = _table_rows(path, text, _SEPARATORS[ending])
        columns = _table_columns(path, rows, names, optional)
    if not columns.lines:
        raise ValueError(
            f"{path} has a header but no rows: give a file with examples."
        )
    return columns


def _table_rows(path, text, separator) -> list[tuple[int, list[str]]]:
    """(line, fields) of all rows, the header first, all of its width."""
    try:
        return list(_quoted_rows(path, text, separator))
    except RowError as error:
        if separator == ",":
            raise
        quoted_error = error
    try:
        return list(_unquoted_rows(path, text, separator))
    except RowError as error:
        # The reading that got further is the one that was meant.
        raise max(error, quoted_error, key=lambda e: e.line) from None


def _quoted_rows(path, text, separator) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=separator, strict=True
    )
    width = None
    while True:
        line = reader.line_num + 1
        try:
            row = next(reader, None)
        except csv.Error as error:
            raise RowError(
                path,
                line,
                f"not readable as quoted text ({error}): close the quotes and "
                "double those within a field, or use jsonl.",
            ) from None
        if row is None:
            return
        if row:
            width = width or len(row)
            _check_width(path, line, row, width)
            yield line, row


def _unquoted_rows(path, text, separator) -> Iterator[tuple[int, list[str]]]:
    width = None
    for line, content in enumerate(text.split("\n"), 1):
        content = content.removesuffix("\r")
        if content:
            row = content.split(separator)
            width = width or len(row)
            _check_width(path, line, row, width)
            yield line, row


def _check_width(path, line, row, width):
    if len(row) != width:
        raise RowError(
            path,
            line,
            f"{len(row)} fields under a header of {width}: complete the row, "
            "or put quotes around a field that holds the separator.",
        )


def _table_columns(path, rows, names, optional) -> Columns:
    header = rows.pop(0)[1]
    _check_names(path, names, header, "the first line must name the columns")
    for name in {*names, *optional}:
        if header.count(name) > 1:
            raise ValueError(
                f'{path} has {header.count(name)} columns "{name}": rename '
                "all but one."
            )
    places = {n: header.index(n) for n in (*names, *optional) if n in header}
    return Columns(
        {name: [row[i] for _, row in rows] for name, i in places.items()},
        [line for line, _ in rows],
    )


def _json_columns(path, text, names, optional) -> Columns:
    columns = None
    lines = []
    for line, content in enumerate(text.split("\n"), 1):
        if not content.strip():
            continue
        try:
            row = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise RowError(
                path, line, f"not JSON ({error}): write one object a line."
            ) from None
        if not isinstance(row, dict):
            raise RowError(
                path, line, 'not an object: write {"name": value, ...} a line.'
            )
        if columns is None:
            columns = {n: [] for n in (*names, *optional) if n in row}
        _check_names(
            f"{path}:{line}:", (*names, *columns), list(row), "add it"
        )
        for name, values in columns.items():
            value = row[name]
            if isinstance(value, (bool, int, float)):
                value = json.dumps(value)
            if not isinstance(value, str):
                raise RowError(
                    path,
                    line,
                    f'"{name}" is neither text nor a number: write it as one.',
                )
            values.append(value)
        lines.append(line)
    return Columns(columns, lines)


def _check_names(place, names, found, advice):
    for name in names:
        if name not in found:
            raise ValueError(
                f'{place} has no column "{name}" but {listed(found)}: choose '
                f"among them, or {advice}."
            )
