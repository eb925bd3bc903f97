"""Planning and reading of text input."""

import bz2
import gzip
import lzma
import os
import socket

from hypothesis import example, given, settings, strategies as st
import pytest

from tf_pof.data import documents
from tf_pof.data.documents import Piece, TextRange

OPENERS = {"": open, ".gz": gzip.open, ".xz": lzma.open, ".bz2": bz2.open}


def _read(sources, separator="blank_line"):
    return list(documents.read_piece(Piece(tuple(sources), 0), separator))


def _write(path, content: bytes):
    suffix = path.suffix if path.suffix in OPENERS else ""
    with OPENERS[suffix](path, "wb") as file:
        file.write(content)
    return str(path)


TEXT = "First é.\nGoes on.\n\n \t\nSecond.\n\n\nThird\n".encode()
BY_BLANK_LINE = ["First é.\nGoes on.", "Second.", "Third"]
BY_LINE = ["First é.", "Goes on.", "Second.", "Third"]


@pytest.mark.parametrize("suffix", OPENERS)
def test_reads_plain_and_compressed_files(tmp_path, suffix):
    path = _write(tmp_path / f"text.txt{suffix}", TEXT)
    assert _read([TextRange(path)]) == BY_BLANK_LINE
    assert _read([TextRange(path)], "line") == BY_LINE


def test_takes_windows_line_ends_and_a_byte_order_mark(tmp_path):
    text = b"\xef\xbb\xbf" + TEXT.replace(b"\n", b"\r\n")
    path = _write(tmp_path / "text.txt", text)
    found = _read([TextRange(path)])
    assert found == [t.replace("\n", "\r\n") for t in BY_BLANK_LINE]
    assert _read([TextRange(path)], "line") == BY_LINE


_PARTS = st.lists(
    st.sampled_from(["a", "bc d", "é", "\n", "\n", "\n\n", " \n", "\r\n"]),
    max_size=14,
)


@settings(max_examples=100, deadline=None)
@given(_PARTS)
@example(["a", "\n\n", "bc"])
def test_byte_ranges_share_the_documents_out(tmp_path_factory, parts):
    """Cut anywhere, every document is read by one side, and only by one."""
    content = "".join(parts).encode()
    path = _write(tmp_path_factory.mktemp("r") / "t.txt", content)
    lines = content.decode().split("\n")
    blocks, block = [], []
    for line in [*lines, ""]:
        if line.strip():
            block.append(line)
        elif block:
            blocks.append("\n".join(block).strip())
            block = []
    for cut in range(1, len(content)):
        ranges = [TextRange(path, 0, cut), TextRange(path, cut)]
        assert _read(ranges) == blocks
        assert _read(ranges, "line") == [x.strip() for x in lines if x.strip()]
    single = [TextRange(path, i, i + 1) for i in range(len(content))]
    assert _read(single) == blocks


def test_cuts_documents_that_would_fill_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(documents, "MAX_DOCUMENT_BYTES", 32)
    lines = ["ten bytes!"] * 9
    path = _write(tmp_path / "t.txt", "\n".join(lines).encode())
    found = _read([TextRange(path)])
    assert all(len(text.encode()) <= 32 for text in found)
    assert "\n".join(found).split("\n") == lines


@pytest.mark.parametrize("separator", documents.SEPARATORS)
@pytest.mark.parametrize("text", ["äöü" * 50, "漢字" * 60, "ab cd " * 40])
def test_cuts_long_lines_between_characters(
    tmp_path, monkeypatch, separator, text
):
    monkeypatch.setattr(documents, "MAX_DOCUMENT_BYTES", 32)
    path = _write(tmp_path / "t.txt", text.encode())
    found = _read([TextRange(path)], separator)
    assert len(found) > 3
    assert "".join(found).replace(" ", "") == text.replace(" ", "")
    assert set(" ".join(found).split()) <= {"ab", "cd"} or " " not in text


@pytest.mark.parametrize("suffix", OPENERS)
def test_says_where_a_file_is_not_utf8(tmp_path, suffix):
    path = _write(tmp_path / f"t.txt{suffix}", b"fine\n\nalso \xfc bad\n")
    with pytest.raises(ValueError) as error:
        _read([TextRange(path)])
    assert str(error.value).startswith(f"{path} is not UTF-8 at byte 11 (0xfc)")


@pytest.mark.parametrize("suffix", [".gz", ".xz", ".bz2"])
@pytest.mark.parametrize("content", ["truncated", "foreign"])
def test_names_a_broken_compressed_file(tmp_path, suffix, content):
    path = tmp_path / f"t.txt{suffix}"
    _write(path, TEXT * 1000)
    broken = path.read_bytes()[:60]
    path.write_bytes(b"not packed at all" if content == "foreign" else broken)
    with pytest.raises(ValueError, match=f"not a whole {suffix} file") as error:
        _read([TextRange(str(path))])
    assert str(path) in str(error.value)


def test_plans_ranges_of_large_files_and_groups_of_small_ones(tmp_path):
    large = _write(tmp_path / "large.txt", b"x" * 1000)
    packed = _write(tmp_path / "p.gz", bytes(range(256)) * 3)
    small = [_write(tmp_path / f"s{i}.txt", b"y" * 40) for i in range(4)]
    plan = documents.plan_files([large, *small, packed], piece_bytes=100)
    assert [p.size for p in plan[:10]] == [100] * 10
    assert plan[0].sources == (TextRange(large, 0, 100),)
    assert plan[9].sources == (TextRange(large, 900, None),)
    assert plan[10].sources == tuple(TextRange(p) for p in small[:3])
    assert [s.path for p in plan[11:] for s in p.sources] == [small[3], packed]
    assert len({p for p in plan}) == len(plan)


def test_expands_globs_in_order_without_repetition(tmp_path):
    b, a, c = (_write(tmp_path / f"{n}.txt", b"x") for n in "bac")
    assert documents.find_files([c, str(tmp_path / "*.txt")]) == [c, a, b]


def test_refuses_what_is_not_there_or_empty(tmp_path):
    with pytest.raises(ValueError, match="No input file matches .*none"):
        documents.find_files([str(tmp_path / "none*.txt")])
    with pytest.raises(ValueError, match="is a folder"):
        documents.find_files([str(tmp_path)])
    empty = _write(tmp_path / "e.txt", b"")
    with pytest.raises(ValueError, match="input is empty"):
        documents.plan_files([empty])


def test_what_exists_is_no_glob(tmp_path):
    (tmp_path / "bert[v1]").mkdir()
    (tmp_path / "bertv").mkdir()
    names = ["bert[v1]/a.txt", "bert[v1]/b *.txt", "bertv/a.txt", "b?.txt"]
    a, star, other, mark = (_write(tmp_path / n, b"x") for n in names)
    assert documents.find_files([a]) == [a]
    assert documents.find_files([star, other]) == [star, other]
    assert documents.find_files([mark]) == [mark]
    # Folders that exist are taken by their name, the rest is a glob.
    pattern = str(tmp_path / "bert[v1]" / "*.txt")
    assert documents.find_files([pattern]) == [a, star]
    pattern = str(tmp_path / "bert[v]" / "[ac].txt")
    assert documents.find_files([pattern]) == [other]


def test_home_is_expanded_whatever_it_is_called(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "h[1]"))
    (tmp_path / "h[1]").mkdir()
    path = _write(tmp_path / "h[1]" / "a.txt", b"x")
    assert documents.find_files(["~/a.txt"]) == [path]
    assert documents.find_files(["~/*.txt"]) == [path]


def _make(path, kind):
    if kind == "loop":
        path.symlink_to(path)
    elif kind == "link":
        path.symlink_to("nowhere")
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(str(path))
    elif kind == "binary":
        path.write_bytes(b"\x7fELF\x02\x00\x00text")


@pytest.mark.parametrize(
    "kind, message",
    [
        ("loop", "is a symbolic link that leads back to itself"),
        ("link", "is a symbolic link to nowhere, which does not exist"),
        ("pipe", "is a pipe: name a file"),
        ("folder", "is a folder: give files or a glob"),
        ("socket", "is a socket: name a file"),
        ("binary", "is no UTF-8 text .*NUL at byte 5"),
        ("nothing", "No input file matches"),
    ],
)
def test_an_input_that_is_no_text_file_is_one_sentence(
    tmp_path, monkeypatch, kind, message
):
    monkeypatch.chdir(tmp_path)  # a socket's path is short
    path = tmp_path / "in.txt"
    _make(tmp_path / "in.txt" if kind != "socket" else type(path)(path.name),
          kind)  # fmt: skip
    for pattern in [str(path), str(tmp_path / "*.txt")]:
        with pytest.raises(ValueError, match=message) as error:
            documents.find_files([pattern])
        assert "\n" not in str(error.value)


def test_an_input_that_may_not_be_read_is_one_sentence(tmp_path, monkeypatch):
    path = _write(tmp_path / "a.txt", b"x")

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    # Root may read everything.
    monkeypatch.setattr(documents.storage.os, "open", refuse)
    with pytest.raises(ValueError, match="cannot be read .Permission denied"):
        documents.find_files([path])


def test_a_file_system_that_is_not_there_is_one_sentence():
    with pytest.raises((OSError, ValueError)) as error:
        documents.find_files(["nosuch://bucket/a.txt"])
    assert "\n" not in str(error.value)
