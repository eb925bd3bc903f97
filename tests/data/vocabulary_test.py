"""vocab.txt is read line by line, as its ids were counted."""

from hypothesis import given, settings, strategies as st
import pytest

from tf_pof.data import vocabulary
from tf_pof.data.tokenizer import WordPiece

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


@pytest.fixture
def write(tmp_path):
    def write(content):
        path = tmp_path / "vocab.txt"
        path.write_bytes(content)
        return str(path)

    return write


# Separators of lines or words elsewhere, tokens here.
BLANKS = ["\u2028", "\u2029", "\x85", "\xa0", "\u3000", "\x0b", "\x0c", "\x1c"]


def test_only_a_newline_ends_a_token(write):
    tokens = [*SPECIAL, *BLANKS, "a", "##\u2028", "b\u3000"]
    path = write(("\n".join(tokens) + "\n").encode())
    assert vocabulary.read(path).tokens == tuple(tokens)
    tokenizer = WordPiece(path)
    assert tokenizer.vocabulary == tokens
    # White space separates words before they are looked up.
    assert tokenizer.tokenize_strings(["a\u2028a\u3000a"]).to_list() == [
        [tokens.index("a")] * 3
    ]


@pytest.mark.parametrize(
    "change",
    [
        lambda content: b"\xef\xbb\xbf" + content,
        lambda content: content.replace(b"\n", b"\r\n"),
        lambda content: content + b"\n\n",
        lambda content: content + b"\r\n",
        lambda content: content.removesuffix(b"\n"),
        lambda content: content.replace(b"\na\n", b"\na \n"),
    ],
    ids=["mark", "crlf", "empty_lines", "empty_crlf", "no_end", "blank"],
)
def test_reads_what_editors_make_of_it(write, change):
    tokens = [*SPECIAL, "a", "\u3000", "b"]
    content = ("\n".join(tokens) + "\n").encode()
    path = write(change(content))
    assert vocabulary.read(path).tokens == tuple(tokens)
    assert vocabulary.read(path).contents == change(content)
    assert WordPiece(path).pad_id == 0


def test_an_empty_line_keeps_the_ids_behind_it(write):
    path = write("\n".join([*SPECIAL, "a", "", "", "b"]).encode())
    tokenizer = WordPiece(path)
    assert tokenizer.tokenize_strings(["a b"]).to_list() == [[5, 8]]


def test_tokens_that_no_text_gives_do_no_harm(write):
    long, wide = "x" * 300, "##" + "y" * 101
    path = write("\n".join([*SPECIAL, "a\0b", long, wide, "b"]).encode())
    tokenizer = WordPiece(path)
    found = tokenizer.tokenize_strings([f"a\0b {long} b"]).to_list()
    assert found == [[tokenizer.unk_id, tokenizer.unk_id, 8]]


@pytest.mark.parametrize(
    "content, message",
    [
        ([*SPECIAL, "a", "b", "a"], "'a' in line 6 and again in line 8"),
        ([*SPECIAL, "\u2028", "\u2028"], "line 6 and again in line 7"),
        (["[PAD]", "[UNK]", "a"], r"has no \[CLS\], \[SEP\], \[MASK\]: give"),
        (["a", "b"], r"has no \[PAD\], \[UNK\], \[CLS\], \[SEP\], \[MASK\]"),
        (SPECIAL, "holds special tokens alone"),
        ([""], r"has no \[PAD\]"),
        ([*SPECIAL, "[unused1]"], "cannot be used as a vocabulary"),
        ([*SPECIAL, "😀" * 90], "cannot be used as a vocabulary"),
        (
            ["version https://git-lfs.github.com/spec/v1", "oid sha256:0"],
            "(?i)is a pointer of git.lfs.*git lfs pull",
        ),
    ],
)
def test_refuses_what_is_no_vocabulary(write, content, message):
    with pytest.raises(ValueError, match=message):
        WordPiece(write("\n".join(content).encode()))


def test_a_pointer_in_place_of_tokenizer_json_is_named(tmp_path):
    path = tmp_path / "tokenizer.json"
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(ValueError, match="(?i)json is a pointer of git.lfs"):
        WordPiece(str(path))


def test_names_a_vocabulary_that_cannot_be_read(tmp_path):
    with pytest.raises(ValueError, match="none.txt cannot be read"):
        WordPiece(str(tmp_path / "none.txt"))
    with pytest.raises(ValueError, match="none.json cannot be read"):
        WordPiece(str(tmp_path / "none.json"))
    with pytest.raises(ValueError, match="There is no vocabulary"):
        WordPiece(None)
    with pytest.raises(ValueError, match="is a folder, not a file"):
        WordPiece(str(tmp_path))


_CONTENT = "\n".join([*SPECIAL, "the", "##s", "London", "é", ""]).encode()
_EDITS = st.lists(
    st.tuples(
        st.integers(0, len(_CONTENT)),
        st.integers(0, 6),
        st.binary(max_size=3)
        | st.sampled_from([b"\n", b"\r", b"\xe2\x80\xa8"]),
    ),
    min_size=1,
    max_size=3,
)


@settings(max_examples=150, deadline=None)
@given(_EDITS)
def test_any_change_loads_or_is_told_in_a_sentence(tmp_path_factory, edits):
    content = _CONTENT
    for place, count, new in edits:
        content = content[:place] + new + content[place + count :]
    path = tmp_path_factory.mktemp("vocab") / "vocab.txt"
    path.write_bytes(content)
    try:
        tokenizer = WordPiece(str(path))
    except ValueError as error:
        assert str(path) in str(error) and len(str(error)) < 600
    else:
        assert len(tokenizer.vocabulary) <= content.count(b"\n") + 1
        ids = tokenizer.encode(["the London é"], 8)["token_ids"]
        assert 0 <= ids.min() and ids.max() < len(tokenizer.vocabulary)
