"""Columns of csv, tsv and jsonl files, by name.

The first line of csv and tsv files names the columns; `delimited` says how
their rows are read. A jsonl file has an object a line.
"""

from collections.abc import Sequence
import dataclasses
import json
import math
import os

from tf_pof.tasks import delimited
from tf_pof.tasks import text_files
from tf_pof.tasks.text_files import RowError, listed

_SEPARATORS = {".csv": ",", ".tsv": "\t"}
_LINES = (".jsonl", ".ndjson")


@dataclasses.dataclass(frozen=True)
class Columns:
    """Columns of a file.

    Attributes:
        values: n texts by the name that was asked for.
        lines: that each row begins in.
        notes: sentences on how the file was read, for the user.
    """

    values: dict[str, list[str]]
    lines: list[int]
    notes: list[str]


def read_columns(
    path: str, names: Sequence[str], optional: Sequence[str] = ()
) -> Columns:
    """Reads columns of a .csv, .tsv or .jsonl file.

    Where no column has exactly the name, one that differs in case or in
    blanks around it is taken. Where the header has the names only with
    another separator than the ending says, that one is taken.

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
    text = text_files.read_text(path)
    if ending in _LINES:
        columns = _json_columns(path, text, names, optional)
    else:
        columns = _table_columns(
            path, text, _SEPARATORS[ending], names, optional
        )
    if not columns.lines:
        raise ValueError(
            f"{path} has a header but no rows: give a file with examples."
        )
    return columns


def _table_columns(path, text, separator, names, optional) -> Columns:
    notes = []
    own = separator
    for separator in (own, *delimited.SEPARATORS):
        found = delimited.header(text, separator)
        if all(_like(name, found) for name in names):
            break
    else:
        separator = own
    if separator != own:
        notes.append(
            f"{path} was read with {delimited.NAMES[separator]} between its "
            "fields."
        )
    rows, more = delimited.read(path, text, separator)
    notes += more
    head = rows.pop(0)
    places = _places(
        path,
        names,
        optional,
        head.fields,
        "write a line with the names of the columns above all others",
        notes,
    )
    return Columns(
        {name: [row.fields[i] for row in rows] for name, i in places.items()},
        [row.line for row in rows],
        notes,
    )


def _json_columns(path, text, names, optional) -> Columns:
    if text.lstrip().startswith("[") and _is_array(text):
        raise ValueError(
            f"{path} is one JSON array, not an object a line: write its "
            "elements one a line, with `jq -c '.[]'`."
        )
    columns, keys, notes, lines = None, {}, [], []
    for line, content in enumerate(text.split("\n"), 1):
        if not content.strip():
            continue
        row = _json_object(path, line, content)
        if columns is None:
            header = list(row)
            places = _places(
                f"{path}:{line}:", names, optional, header, "add it", notes
            )
            keys = {name: header[place] for name, place in places.items()}
            columns = {name: [] for name in keys}
        for name, key in keys.items():
            if key not in row:
                raise RowError(
                    path,
                    line,
                    f'has no column "{key}" but {listed(list(row))}: choose '
                    "among them, or add it.",
                )
            columns[name].append(_json_text(path, line, key, row[key]))
        lines.append(line)
    return Columns(columns or {}, lines, notes)


def _is_array(text: str) -> bool:
    """Whether a text is an array of objects, or is cut off within one."""
    return text.lstrip()[1:].lstrip().startswith("{")


def _json_object(path, line, content) -> dict:
    try:
        row = json.loads(content, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise RowError(
            path, line, f"not JSON ({error}): write one object a line."
        ) from None
    if not isinstance(row, dict):
        raise RowError(
            path, line, 'not an object: write {"name": value, ...} a line.'
        )
    return row


def _refuse(constant):
    raise ValueError(f"{constant} is no number of JSON")


def _json_text(path, line, name, value) -> str:
    if isinstance(value, (bool, int, float)) and math.isfinite(value):
        value = json.dumps(value)
    if not isinstance(value, str):
        raise RowError(
            path,
            line,
            f'"{name}" is neither text nor a number: write it as one.',
        )
    return text_files.require_text(value, f'{path}:{line}: "{name}"')


def _places(
    where, names, optional, header, advice, notes
) -> dict[str, int]:
    """Where the header has the names; what differs is told in `notes`."""
    places = {}
    for name in (*names, *optional):
        like = _like(name, header)
        if len(like) > 1:
            raise ValueError(
                f'{where} has {len(like)} columns for "{name}" '
                f"({listed([header[i] for i in like])}): rename all but one."
            )
        if not like or like[0] in places.values():
            if name in names:
                raise ValueError(
                    f'{where} has no column "{name}" but {listed(header)}: '
                    f"choose among them, or {advice}."
                )
            continue
        (places[name],) = like
        if header[like[0]] != name:
            notes.append(
                f'{where} has no column "{name}": "{header[like[0]]}" was '
                "taken for it."
            )
    return places


def _like(name: str, header: Sequence[str]) -> list[int]:
    """Columns of that name, else those that are alike but for the case."""

    def fold(text):
        return text.strip().casefold()

    return [i for i, other in enumerate(header) if other == name] or [
        i for i, other in enumerate(header) if fold(other) == fold(name)
    ]
