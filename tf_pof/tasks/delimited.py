"""Rows of comma- and tab-separated files, of which none gets lost.

In csv files a field in double quotes may hold separators, line breaks and,
doubled, quotes, as Excel and pandas write them. Tab-separated files are
mostly written without any quoting: quotes are characters like others, and a
text that begins with one may stand far above another that ends with one. So
such a file counts as quoted only if it is so throughout, and if reading it
so cannot have made one row of several.
"""

from collections.abc import Iterator, Sequence
import contextlib
import csv
import dataclasses
import io
import re
import sys

from tf_pof.tasks.text_files import RowError

SEPARATORS = (",", "\t", ";", "|")
NAMES = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "bars"}
# A field between tabs and what ends it; group 1 is there if it is quoted.
_FIELD = re.compile(
    r'(?:"([^"]*+(?:""[^"]*+)*+)"|([^"\t\n][^\t\n]*+|))(\t|\r?\n|\Z)'
)
# What makes writers put quotes around a field.
_SPECIAL = re.compile(r'[\t\r\n"]')


@dataclasses.dataclass(frozen=True)
class Row:
    """Fields, and the line that they begin in.

    Attributes:
        line: from 1.
        fields: of the row.
        quoted: which fields stood in quotes; None if that was not asked.
    """

    line: int
    fields: list[str]
    quoted: list[bool] | None = None


def read(path: str, text: str, separator: str) -> tuple[list[Row], list[str]]:
    """All rows, the header first, each as wide as it; blank lines are none.

    Returns:
        The rows, and sentences on how they were told apart.

    Raises:
        RowError: for the first row that is not as it should be.
    """
    if separator != "\t":
        with _long_fields():
            return list(_quoted_rows(path, text, separator)), []
    plain, plain_error = _attempt(_plain_rows(path, text))
    if '"' not in text:
        if plain_error:
            raise plain_error
        return plain, []
    quoted, quoted_error = _attempt(_tab_rows(path, text))
    if quoted and _is_quoted(quoted, plain):
        return quoted, [f"{path} was read without the quotes of its fields."]
    if plain:
        notes = []
        if quoted and _has_quoted_columns(quoted):
            notes.append(
                f"{path} was read as {len(plain) - 1:,} rows whose quotes are "
                f"characters; if they are to hold {len(quoted) - 1:,} rows "
                "together, put them around the names of the columns too."
            )
        return plain, notes
    if quoted_error and quoted_error.line > plain_error.line:
        # The reading that got further is the one that was meant.
        raise quoted_error
    raise plain_error


def _attempt(rows: Iterator[Row]) -> tuple[list[Row] | None, RowError | None]:
    """The rows, or the error in them."""
    try:
        return list(rows), None
    except RowError as error:
        return None, error


def header(text: str, separator: str) -> list[str]:
    """The fields of the first line; none if it cannot be read."""
    first = text.partition("\n")[0].removesuffix("\r")
    with _long_fields(), contextlib.suppress(csv.Error):
        return next(csv.reader([first], delimiter=separator), [])
    return []


def _is_quoted(rows: Sequence[Row], plain: Sequence[Row] | None) -> bool:
    """Whether a tab-separated file is consistently quoted.

    Args:
        rows: as they are with quoting.
        plain: as they are without; None if that does not fit the header.
    """
    if all(rows[0].quoted):
        return True
    if plain is not None and len(plain) != len(rows):
        return False
    # The run from a stray quote to the next one holds both.
    if any("\t" in f and "\n" in f for row in rows for f in row.fields):
        return False
    return _has_quoted_columns(rows)


def _has_quoted_columns(rows: Sequence[Row]) -> bool:
    columns = range(len(rows[0].fields))
    return all(_is_quoted_column(rows[1:], column) for column in columns)


def _is_quoted_column(rows: Sequence[Row], column: int) -> bool:
    """Whether all fields are in quotes, or just those that must be."""
    fields = [(row.fields[column], row.quoted[column]) for row in rows]
    return (
        all(quoted for _, quoted in fields)
        or all(q == bool(_SPECIAL.search(field)) for field, q in fields)
        # Excel quotes fields with commas as well.
        or all(
            q == bool("," in field or _SPECIAL.search(field))
            for field, q in fields
        )
    )


def _plain_rows(path: str, text: str) -> Iterator[Row]:
    width = None
    for line, content in enumerate(text.split("\n"), 1):
        content = content.removesuffix("\r")
        if content:
            row = content.split("\t")
            width = width or len(row)
            _check_width(path, line, row, width)
            yield Row(line, row)


def _tab_rows(path: str, text: str) -> Iterator[Row]:
    """Rows of fields that may be in quotes, and which are."""
    place, line, begin, width = 0, 1, 1, None
    fields, quoted = [], []
    while place < len(text):
        found = _FIELD.match(text, place)
        if found is None or '"' in (found[2] or ""):
            raise RowError(
                path,
                line,
                "not readable as quoted text: close the quotes and double "
                "those within a field, or use jsonl.",
            )
        fields.append((found[1] or "").replace('""', '"') + (found[2] or ""))
        quoted.append(found[1] is not None)
        line += text.count("\n", place, found.end())
        place = found.end()
        if found[3] == "\t":
            continue
        if not quoted[-1]:
            fields[-1] = fields[-1].removesuffix("\r")
        if fields != [""] or quoted[0]:
            width = width or len(fields)
            _check_width(path, begin, fields, width)
            yield Row(begin, fields, quoted)
        fields, quoted, begin = [], [], line
    if fields:
        # A tab was the file's last character: an empty field follows it.
        fields, quoted = [*fields, ""], [*quoted, False]
        _check_width(path, begin, fields, width or len(fields))
        yield Row(begin, fields, quoted)


def _quoted_rows(path: str, text: str, separator: str) -> Iterator[Row]:
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
                f"not readable as quoted text ({error}): close the quotes, "
                "double those within a field instead of writing backslashes "
                "before them, or use jsonl.",
            ) from None
        if row is None:
            return
        if row:
            width = width or len(row)
            _check_width(path, line, row, width)
            yield Row(line, row)


@contextlib.contextmanager
def _long_fields():
    """Lets fields be longer than csv's 131,072 characters."""
    limit = csv.field_size_limit(sys.maxsize)
    try:
        yield
    finally:
        csv.field_size_limit(limit)


def _check_width(path: str, line: int, row: Sequence[str], width: int) -> None:
    if len(row) != width:
        raise RowError(
            path,
            line,
            f"{len(row)} fields under a header of {width}: complete the row, "
            "or put quotes around all fields of the file if one holds the "
            "separator or a line break.",
        )
