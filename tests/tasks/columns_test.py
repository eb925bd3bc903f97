"""Columns of csv, tsv and jsonl files, well-formed and not."""

import csv
import io
import json
import string

from hypothesis import given, settings, strategies as st
import pytest

from tf_pof.tasks import columns


def _file(folder, name, content):
    path = folder / name
    if isinstance(content, str):
        content = content.encode()
    path.write_bytes(content)
    return str(path)


def _read(folder, name, content, names=("text",), optional=("label",)):
    return columns.read_columns(_file(folder, name, content), names, optional)


@pytest.mark.parametrize(
    "name, content",
    [
        ("a.csv", 'label,text\nx,"one, ""two""\nthree"\ny,four\n'),
        ("a.tsv", 'label\ttext\nx\t"one, ""two""\nthree"\ny\tfour\n'),
        ("a.CSV", '\ufefflabel,text\r\nx,"one, ""two""\nthree"\r\ny,four'),
        (
            "a.jsonl",
            '{"label": "x", "text": "one, \\"two\\"\\nthree", "more": null}\n'
            '\n \n{"text": "four", "label": "y"}',
        ),
    ],
)
def test_reads_columns_by_name(tmp_path, name, content):
    found = _read(tmp_path, name, content)
    assert found.values == {
        "text": ['one, "two"\nthree', "four"],
        "label": ["x", "y"],
    }
    assert found.lines[0] == (1 if name == "a.jsonl" else 2)
    assert found.lines[1] == 4


def test_optional_columns_may_be_missing(tmp_path):
    assert _read(tmp_path, "a.csv", "text\nhi\n").values == {"text": ["hi"]}
    found = _read(tmp_path, "a.jsonl", '{"text": "hi"}\n')
    assert found.values == {"text": ["hi"]}


def test_numbers_and_booleans_of_json_are_texts(tmp_path):
    rows = [1, 1.5, True, "a"]
    content = "\n".join(json.dumps({"text": value}) for value in rows)
    found = _read(tmp_path, "a.jsonl", content)
    assert found.values["text"] == ["1", "1.5", "true", "a"]


@pytest.mark.parametrize("first", ['"It is', '"It" is', 'It "is"', '"'])
def test_a_tsv_without_quoting_is_read_as_it_is(tmp_path, first):
    content = f'text\tlabel\n{first}\tx\n"then\ty\n'
    found = _read(tmp_path, "a.tsv", content)
    assert found.values == {"text": [first, '"then'], "label": ["x", "y"]}
    assert found.lines == [2, 3]


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.tuples(*[st.text(string.printable + "é字", max_size=8)] * 2),
        min_size=1,
    ),
    st.sampled_from([(".csv", ","), (".tsv", "\t")]),
)
def test_what_pythons_csv_writes_comes_back(tmp_path_factory, rows, kind):
    ending, separator = kind
    text = io.StringIO()
    writer = csv.writer(text, delimiter=separator, quoting=csv.QUOTE_ALL)
    writer.writerow(["text", "label"])
    writer.writerows(rows)
    folder = tmp_path_factory.mktemp("csv")
    found = _read(folder, "a" + ending, text.getvalue())
    assert list(zip(found.values["text"], found.values["label"])) == rows


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("a.txt", "text\nhi\n", "a.txt is not named .csv, .tsv or .jsonl: ren"),
        ("a.csv", "", "a.csv is empty: give a file with examples"),
        ("a.jsonl", " \n\n", "a.jsonl is empty"),
        ("a.csv", "text,label\n", "a.csv has a header but no rows"),
        ("a.csv", b"text\nhi\nh\xe9\n", "a.csv:3: not UTF-8 at byte 9 of the"),
        (
            "a.csv",
            "title, text\na,b\n",
            'a.csv has no column "text" but "title", " text": choose among '
            "them, or the first line must name the columns.",
        ),
        ("a.csv", "text,text\na,b\n", 'a.csv has 2 columns "text": rename all'),
        (
            "a.csv",
            'text,label\n"a\nb",x\n"c\n",y,z\n',
            "a.csv:4: 3 fields under a header of 2: complete the row, or put",
        ),
        ("a.csv", "text,label\na,x\nb\n", "a.csv:3: 1 fields under a header"),
        (
            "a.csv",
            'text,label\na,x\n"b,y\nc,x\n',
            r"a.csv:3: not readable as quoted text \(unexpected end of data\): "
            "close the quotes",
        ),
        (
            "a.csv",
            'text,label\n"a" b,x\n',
            r"a.csv:2: not readable as quoted text \(',' expected after",
        ),
        # Read without quotes, the third row is wrong; with, already the second.
        ("a.tsv", 'text\tlabel\n"a" b\tx\nc\n', "a.tsv:3: 1 fields under"),
        # Read with quotes, the file is right up to its last row.
        ("a.tsv", 'text\tlabel\n"a\tb"\tx\nc\n', "a.tsv:3: 1 fields under"),
        (
            "a.jsonl",
            '{"text": "a"}\n{"text": }\n',
            r"a.jsonl:2: not JSON \(Expecting value.*\): write one object",
        ),
        ("a.jsonl", "[" * 10**5, r"a.jsonl:1: not JSON \("),
        ("a.jsonl", '["a"]\n', "a.jsonl:1: not an object: write"),
        (
            "a.jsonl",
            '{"text": "a"}\n{"txt": "b"}\n',
            'a.jsonl:2: has no column "text" but "txt": choose among them, or',
        ),
        (
            "a.jsonl",
            '{"text": "a", "label": 1}\n{"text": "b"}\n',
            'a.jsonl:2: has no column "label" but "text"',
        ),
        (
            "a.jsonl",
            '{"text": "a"}\n{"text": null}\n',
            'a.jsonl:2: "text" is neither text nor a number: write it as one',
        ),
    ],
)
def test_one_sentence_says_what_is_wrong(tmp_path, name, content, message):
    with pytest.raises(ValueError, match=message) as error:
        _read(tmp_path, name, content)
    assert "\n" not in str(error.value) and str(error.value).endswith(".")


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(OSError, match="none.csv cannot be read .*: check"):
        columns.read_columns(str(tmp_path / "none.csv"), ["text"])
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(OSError, match="folder.csv cannot be read"):
        columns.read_columns(str(tmp_path / "folder.csv"), ["text"])
