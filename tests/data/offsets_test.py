"""Tokens with their characters; ids are held against the tokenizer's."""

from hypothesis import given, settings, strategies as st
import numpy as np
import pytest

from tf_pof.data import offsets
from tf_pof.data import sample
from tf_pof.data.tokenizer import WordPiece
from tf_pof.data.tokenizer_settings import TokenizerSettings

# Characters that normalising drops, splits, spaces, lowers or decomposes.
_ODD = (
    "aAéÉüÅİßΣσςſﬁ\u0301\u0327\u0323\u0340\u093e\u0916\u0e02한물漢㐀𠀀豈"
    "\u1fef\u037e\x00\x01\x1f\x85\x0b\x0c\u200b\u200d\ufeff\u00ad\ufffd"
    "\ue000\u1b4e\U0001f600\t\n\r \u00a0\u1680\u2003\u2028\u2029\u202f"
    "\u3000.,-#[]'`—“”、€+"
)
_TEXTS = st.lists(
    st.lists(
        st.one_of(
            st.sampled_from(["the", "Embedding", "##ing", "[UNK]", "1895-43"]),
            st.sampled_from(list(_ODD)),
            st.characters(),
        ),
        max_size=25,
    ).map("".join),
    max_size=4,
)


@pytest.fixture(scope="module")
def tokenizer():
    return WordPiece(sample.vocab_path())


@pytest.fixture(scope="module")
def cased(tmp_path_factory):
    characters = [c for c in _ODD if c.isprintable() and not c.isspace()]
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "The", "##ing"]
    tokens += characters + ["##" + c for c in characters]
    path = tmp_path_factory.mktemp("vocab") / "vocab.txt"
    path.write_text("\n".join(dict.fromkeys(tokens)) + "\n", "utf-8")
    return WordPiece(str(path), lowercase=False)


@pytest.fixture(scope="module")
def accented(cased, tmp_path_factory):
    """Lower-cased with its accents, and with words of Han."""
    path = tmp_path_factory.mktemp("vocab") / "vocab.txt"
    tokens = dict.fromkeys([*cased.vocabulary, "漢字", "a漢", "##字", "i\u0307"])
    path.write_text("\n".join(tokens) + "\n", "utf-8")
    return WordPiece(str(path), settings=TokenizerSettings(True, False, False))


def pieces(tokenizer, text):
    """[(token, its characters)] of a text."""
    found = offsets.tokenize(tokenizer, [text])
    return [
        (tokenizer.vocabulary[i], text[start:end])
        for i, start, end in zip(found.token_ids, found.starts, found.ends)
    ]


def check(tokenizer, texts):
    found = offsets.tokenize(tokenizer, texts)
    expected = tokenizer.tokenize_strings(texts)
    np.testing.assert_array_equal(found.token_ids, expected.flat_values)
    np.testing.assert_array_equal(found.splits, expected.row_splits)
    for index, text in enumerate(texts):
        row = found.row(index)
        starts, ends = found.starts[row], found.ends[row]
        assert (np.diff(starts) >= 0).all() and (np.diff(ends) >= 0).all()
        assert (starts >= 0).all() and (ends <= len(text)).all()
        assert (starts < ends).all()
    return found


@settings(deadline=None, max_examples=150)
@given(_TEXTS)
def test_ids_are_the_tokenizers_and_offsets_in_order(tokenizer, texts):
    check(tokenizer, texts)


@settings(deadline=None, max_examples=100)
@given(_TEXTS)
def test_ids_are_those_of_other_settings_too(cased, accented, texts):
    check(cased, texts)
    check(accented, texts)


def test_words_of_han_and_accents_have_their_characters(accented):
    assert pieces(accented, "漢字É İ 漢") == [
        ("漢字", "漢字"),
        ("##é", "É"),
        ("i\u0307", "İ"),
        ("漢", "漢"),
    ]


@settings(deadline=None, max_examples=150)
@given(
    st.lists(
        st.one_of(
            st.text(st.characters(min_codepoint=32, max_codepoint=126)),
            st.sampled_from(["Unbelievable ", "(1895-1943).", "\n", "\t"]),
        )
    ).map("".join)
)
def test_ascii_tokens_are_their_characters(tokenizer, text):
    for token, characters in pieces(tokenizer, text):
        if token != "[UNK]":
            expected = token[2:] if token.startswith("##") else token
            assert characters.lower() == expected


@pytest.mark.parametrize(
    "text, expected",
    [
        ("", []),
        (" \n\t ", []),
        (
            "John Smith (1895-1943).",
            [
                ("john", "John"),
                ("smith", "Smith"),
                ("(", "("),
                ("1895", "1895"),
                ("-", "-"),
                ("1943", "1943"),
                (")", ")"),
                (".", "."),
            ],
        ),
        # The bundled vocabulary has em, ##bed and ##ding.
        ("Embedding", [("em", "Em"), ("##bed", "bed"), ("##ding", "ding")]),
        # One character with its accent, or two.
        ("Café au", [("cafe", "Café"), ("au", "au")]),
        ("Cafe\u0301 au", [("cafe", "Cafe\u0301"), ("au", "au")]),
        # Control characters belong to a token only inside of it.
        ("\u200bth\x00e\u200b cat", [("the", "th\x00e"), ("cat", "cat")]),
        # Han and punctuation stand alone.
        ("the日—the", [("the", "the"), ("日", "日"), ("—", "—"), ("the", "the")]),
        # A syllable of two parts: both have all of it.
        ("가", [("ᄀ", "가"), ("##ᅡ", "가")]),
        # An unknown word is one token.
        (
            "the \U0001f600\U0001f600, cat",
            [
                ("the", "the"),
                ("[UNK]", "\U0001f600\U0001f600"),
                (",", ","),
                ("cat", "cat"),
            ],
        ),
        ("x" * 101 + " cat", [("[UNK]", "x" * 101), ("cat", "cat")]),
        ("a\u00a0cat\u2003the", [("a", "a"), ("cat", "cat"), ("the", "the")]),
    ],
)
def test_tokens_have_the_characters_they_were_made_of(
    tokenizer, text, expected
):
    assert pieces(tokenizer, text) == expected


def test_texts_are_kept_apart(tokenizer):
    found = offsets.tokenize(tokenizer, ["the cat", "", "cat,", " ", "the"])
    assert found.splits.tolist() == [0, 2, 2, 4, 4, 5]
    assert found.starts.tolist() == [0, 4, 0, 3, 0]
    assert found.ends.tolist() == [3, 7, 3, 4, 3]
    assert offsets.tokenize(tokenizer, []).splits.tolist() == [0]


@pytest.mark.slow
def test_every_character_has_the_tokenizers_ids(tokenizer):
    for begin in range(0, 0x110000, 0x10000):
        characters = map(chr, range(begin, begin + 0x10000))
        check(tokenizer, [f"x{c}\u0301y {c}" for c in characters])
