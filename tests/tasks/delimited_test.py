"""Rows of csv and tsv files: none is lost, whatever quotes they hold."""

import csv
import io
import string

from hypothesis import assume, given, settings, strategies as st
import pytest

from tf_pof.tasks import delimited
from tf_pof.tasks.text_files import RowError


def _fields(text, separator="\t"):
    rows, _ = delimited.read("a", text, separator)
    return [row.fields for row in rows]


def _written(rows, separator, quoting):
    text = io.StringIO()
    csv.writer(text, delimiter=separator, quoting=quoting).writerows(rows)
    return text.getvalue()


@pytest.mark.parametrize(
    "rows",
    [
        # The quotes of the first and the last text belong to neither's row.
        ['"Hello\t1', "so\t0", 'bye"\t1'],
        ['1\t"Hello', "0\tso", '1\tbye"'],
        ['"Hello\t1', 'bye"\t0', "a\t1", '"b\t0', '"c"\t1'],
        ['"It is\tx', '"then\ty'],
        ['"It" is\tx', '"then\ty'],
        ['It "is"\tx', "then\ty"],
        ['"\tx', '"\ty'],
        ['"a"\tx', "b\ty"],
    ],
)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_rows_of_a_tsv_without_quoting_stay_rows(rows, end):
    text = end.join(["text\tlabel", *rows]) + end
    assert _fields(text)[1:] == [row.split("\t") for row in rows]


def test_three_lines_of_speech_are_three_texts():
    text = 'text\n"Who is there?\nNobody,\nsaid he."\n'
    assert len(_fields(text)) == 4
    (note,) = delimited.read("a.tsv", text, "\t")[1]
    assert note.startswith("a.tsv was read as 3 rows whose quotes are charact")
    assert "if they are to hold 1 rows together, put them around the" in note


@pytest.mark.parametrize(
    "text, line",
    [
        # Read with quotes this would be one row of the right width.
        ('text\tlabel\n"Hello\t1\nso\nbye"\t1\n', 3),
        ('text\tlabel\n"Hello\t1\nso\t0\t1\nbye"\t1\n', 3),
        ("text\tlabel\na\tx\nb\n", 3),
        ("text\tlabel\na\tx\n\nb\ty\tz\n", 4),
        ('"text"\t"label"\n"a"\t"x"\n"b\n"\n', 3),
    ],
)
def test_a_row_of_another_width_is_named(text, line):
    with pytest.raises(RowError, match=f"^a:{line}: [13] fields under a head"):
        _fields(text)


QUOTED = [["one, two", "1"], ['a "b" c', "2"], ["", "3"]]


@pytest.mark.parametrize(
    "text",
    [
        # csv.QUOTE_ALL, R's write.table, pandas' to_csv, Excel, and columns.
        '"text"\t"y"\n"one, two"\t"1"\n"a ""b"" c"\t"2"\n""\t"3"\n',
        '"text"\t"y"\r\n"one, two"\t1\r\n"a ""b"" c"\t2\r\n""\t3',
        'text\ty\none, two\t1\n"a ""b"" c"\t2\n\t3\n',
        'text\ty\n"one, two"\t1\n"a ""b"" c"\t2\n\t3\n',
        'text\ty\n"one, two"\t1\n"a ""b"" c"\t2\n""\t3\n',
    ],
)
def test_files_that_are_quoted_throughout_lose_their_quotes(text):
    assert _fields(text) == [["text", "y"], *QUOTED]


def test_a_text_over_lines_is_one_where_only_quoting_fits():
    text = 'y\ttext\n1\t"a\nb"\n2\tc\n'
    rows, _ = delimited.read("a", text, "\t")
    assert [row.fields for row in rows[1:]] == [["1", "a\nb"], ["2", "c"]]
    assert [row.line for row in rows] == [1, 2, 4]


def test_quotes_around_the_names_of_columns_tell_of_quotes_around_all():
    text = '"text"\t"y"\n"a\tb\nc\td"\t1\n"e\tf\ng\th"\t"2"\n'
    rows = [["text", "y"], ["a\tb\nc\td", "1"], ["e\tf\ng\th", "2"]]
    assert _fields(text) == rows


def test_an_empty_last_field_counts():
    assert _fields("a\tb\nc\t") == [["a", "b"], ["c", ""]]
    assert _fields('"a"\t"b"\n"c"\t') == [["a", "b"], ["c", ""]]


def test_long_fields_are_read_and_csv_is_left_as_it_was():
    limit = csv.field_size_limit()
    long = "a b" * 100_000
    assert _fields(f"text,y\n{long},1\n", ",")[1] == [long, "1"]
    assert csv.field_size_limit() == limit < len(long)


TEXT = st.text(string.printable + "é字\u2028\x85", max_size=8)
ROWS = st.lists(st.tuples(TEXT, TEXT), min_size=1)


@settings(max_examples=200, deadline=None)
@given(ROWS, st.sampled_from(delimited.SEPARATORS))
def test_what_pythons_csv_quotes_comes_back(rows, separator):
    rows = [("text", "label"), *rows]
    text = _written(rows, separator, csv.QUOTE_ALL)
    assert [tuple(row) for row in _fields(text, separator)] == rows
    text = _written(rows, separator, csv.QUOTE_MINIMAL)
    try:
        found, notes = delimited.read("a", text, separator)
    except RowError:
        # With an unquoted header, a run over tabs and lines may be a stray
        # quote's.
        assert separator == "\t" and any("\n" in t for r in rows for t in r)
        return
    if not notes or "without the quotes" in notes[0]:
        expected = [row for row in rows if row != ("",)]
        assert [tuple(row.fields) for row in found] == expected


# Quotes, blanks and a few letters: what strays into texts without quoting.
_STRAY = st.text('"",. ab\r', max_size=6)


@settings(max_examples=500, deadline=None)
@given(st.lists(st.tuples(_STRAY, _STRAY), min_size=1))
def test_every_line_of_a_tsv_without_quoting_is_a_row(rows):
    assume(not any(label.endswith("\r") for _, label in rows))
    text = "".join("\t".join(row) + "\n" for row in [("text", "y"), *rows])
    found, _ = delimited.read("a", text, "\t")
    assert len(found) == len(rows) + 1
    for row, (text, label) in zip(found[1:], rows):
        # At most quotes around a text, and their doubling, are taken off.
        for kept, given_ in zip(row.fields, (text, label)):
            doubled = kept.replace('"', '""')
            assert given_ in (kept, f'"{doubled}"')
