"""Columns of csv, tsv and jsonl files, well-formed and not."""

import json

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


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl"])
def test_a_byte_order_mark_says_the_encoding(tmp_path, name, encoding):
    content = {
        "a.csv": "text,label\né字,x\n",
        "a.tsv": "text\tlabel\r\né字\tx\r\n",
        "a.jsonl": '{"text": "é字", "label": "x"}\n',
    }[name]
    found = _read(tmp_path, name, content.encode(encoding))
    assert found.values == {"text": ["é字"], "label": ["x"]}


@pytest.mark.parametrize(
    "name, separator, told",
    [
        ("a.csv", ";", "semicolons"),
        ("a.csv", "\t", "tabs"),
        ("a.tsv", ",", "commas"),
        ("a.tsv", ";", "semicolons"),
        ("a.csv", "|", "bars"),
    ],
)
def test_the_header_tells_another_separator(tmp_path, name, separator, told):
    content = "id,text,label\n7,a word,x\n".replace(",", separator)
    found = _read(tmp_path, name, content)
    assert found.values == {"text": ["a word"], "label": ["x"]}
    assert f"was read with {told} between its fields." in found.notes[0]


def test_the_ending_s_separator_wins(tmp_path):
    found = _read(tmp_path, "a.csv", "text\na;b\n", optional=())
    assert found.values == {"text": ["a;b"]} and found.notes == []


@pytest.mark.parametrize(
    "name, content",
    [
        ("a.csv", "Text ,LABEL\na,x\n"),
        ("a.tsv", " text\tLabel\na\tx\n"),
        ("a.jsonl", '{"Text": "a", "label ": "x"}\n'),
    ],
)
def test_columns_may_differ_in_case_and_blanks(tmp_path, name, content):
    found = _read(tmp_path, name, content, ["text", "label"], [])
    assert found.values == {"text": ["a"], "label": ["x"]}
    assert len(found.notes) == 2
    assert 'has no column "text": "' in found.notes[0]


def test_the_exact_name_wins_and_no_column_is_two(tmp_path):
    content = "Text,text,label\na,b,x\n"
    found = _read(tmp_path, "a.csv", content)
    assert found.values["text"] == ["b"] and found.notes == []
    with pytest.raises(ValueError, match='no column "TEXT" but "text"'):
        _read(tmp_path, "a.csv", "text\na\n", ["text", "TEXT"])


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "text": st.text(max_size=8),
                "label": st.text(max_size=3)
                | st.integers()
                | st.booleans()
                | st.floats(allow_nan=False, allow_infinity=False),
            }
        ),
        min_size=1,
    ),
    st.booleans(),
)
def test_what_pythons_json_writes_comes_back(tmp_path_factory, rows, ascii_):
    lines = [json.dumps(row, ensure_ascii=ascii_) for row in rows]
    folder = tmp_path_factory.mktemp("json")
    found = _read(folder, "a.jsonl", "\n".join(lines))
    assert found.values["text"] == [row["text"] for row in rows]
    for text, row in zip(found.values["label"], rows):
        value = row["label"]
        assert text == (
            value if isinstance(value, str) else json.dumps(value)
        )


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(["a.csv", "a.tsv", "a.jsonl"]),
    st.binary(max_size=20),
    st.integers(0, 40),
)
def test_any_bytes_are_read_or_refused_in_a_sentence(
    tmp_path_factory, name, noise, place
):
    content = b'{"text": "a"}\n' if name == "a.jsonl" else b'text\n"a"\nb\n'
    content = content[:place] + noise + content[place:]
    folder = tmp_path_factory.mktemp("noise")
    try:
        found = _read(folder, name, content)
    except ValueError as error:
        assert name in str(error) and str(error).endswith(".")
        assert "\n" not in str(error)
    else:
        assert len(found.values["text"]) == len(found.lines) > 0
        for text in found.values["text"]:
            text.encode()


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
            "great film,1\ndull,0\n",
            'a.csv has no column "text" but "great film", "1": choose among '
            "them, or write a line with the names of the columns above all",
        ),
        (
            "a.csv",
            "text,text\na,b\n",
            r'a.csv has 2 columns for "text" \("text", "text"\): rename all',
        ),
        ("a.csv", "Text,TEXT\na,b\n", r'2 columns for "text" \("Text", "TEX'),
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
        (
            "a.csv",
            'text,label\n"he said \\"no\\"",x\n',
            r"a.csv:2: not readable .* instead of writing backslashes before",
        ),
        (
            "a.csv",
            "text,label\nna\xefve,x\n".encode("cp1252"),
            "a.csv:2: not UTF-8 at byte 13 .* `iconv -f WINDOWS-1252 -t UTF-8`",
        ),
        (
            "a.csv",
            "text,label\na,x\n".encode("utf-16-le"),
            "a.csv has zero bytes .* UTF-16 without a byte order mark",
        ),
        (
            "a.jsonl",
            '[\n {"text": "a"},\n {"text": "b"}\n]\n',
            "a.jsonl is one JSON array, not an object a line: .* `jq -c",
        ),
        (
            "a.jsonl",
            '{"text": "a"}\n{"text": NaN}\n',
            r"a.jsonl:2: not JSON \(NaN is no number of JSON\)",
        ),
        ("a.jsonl", '{"text": 1e999}\n', 'a.jsonl:1: "text" is neither text'),
        ("a.jsonl", '{"text": ["a"]}\n', 'a.jsonl:1: "text" is neither text'),
        (
            "a.jsonl",
            '{"text": "a\\ud83d"}\n',
            'a.jsonl:1: "text" has half of a surrogate pair at character 1',
        ),
        ("a.jsonl", '{"text": 1' + "0" * 5000 + "}", "a.jsonl:1: not JSON"),
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
