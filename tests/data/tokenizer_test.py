"""The tokenizer against an independent implementation of BERT's reference.

`reference` follows the published algorithm (google-research/bert,
tokenization.py: BasicTokenizer, WordpieceTokenizer) with plain Python and
unicodedata, one character at a time.
"""

import random
import sys
import unicodedata

from hypothesis import given, settings, strategies as st
import numpy as np
import pytest
import tensorflow as tf

from tf_pof.data import sample
from tf_pof.data.tokenizer import WordPiece


def _is_whitespace(c):
    return c in " \t\n\r" or unicodedata.category(c) == "Zs"


def _is_control(c):
    return c not in "\t\n\r" and unicodedata.category(c) in ("Cc", "Cf")


def _is_punctuation(c):
    o = ord(c)
    ascii_symbol = (
        33 <= o <= 47 or 58 <= o <= 64 or 91 <= o <= 96 or 123 <= o <= 126
    )
    return ascii_symbol or unicodedata.category(c).startswith("P")


def _is_chinese(o):
    return (
        0x4E00 <= o <= 0x9FFF
        or 0x3400 <= o <= 0x4DBF
        or 0x20000 <= o <= 0x2A6DF
        or 0x2A700 <= o <= 0x2B73F
        or 0x2B740 <= o <= 0x2B81F
        or 0x2B820 <= o <= 0x2CEAF
        or 0xF900 <= o <= 0xFAFF
        or 0x2F800 <= o <= 0x2FA1F
    )


def reference_words(text, lowercase):
    cleaned = []
    for c in text:
        if ord(c) in (0, 0xFFFD) or _is_control(c):
            continue
        cleaned.append(" " if _is_whitespace(c) else c)
    spaced = "".join(f" {c} " if _is_chinese(ord(c)) else c for c in cleaned)
    words = []
    for word in spaced.strip().split():
        if lowercase:
            word = "".join(
                c
                for c in unicodedata.normalize("NFD", word.lower())
                if unicodedata.category(c) != "Mn"
            )
        pieces, start_new = [], True
        for c in word:
            if _is_punctuation(c):
                pieces.append([c])
                start_new = True
            else:
                if start_new:
                    pieces.append([])
                start_new = False
                pieces[-1].append(c)
        words += ["".join(piece) for piece in pieces]
    return " ".join(words).strip().split()


def reference(text, vocabulary, lowercase=True):
    tokens = []
    for word in reference_words(text, lowercase):
        if len(word) > 100:
            tokens.append("[UNK]")
            continue
        pieces, start = [], 0
        while start < len(word):
            for end in range(len(word), start, -1):
                piece = ("##" if start else "") + word[start:end]
                if piece in vocabulary:
                    break
            else:
                pieces = ["[UNK]"]
                break
            pieces.append(piece)
            start = end
        tokens += pieces
    return [vocabulary[token] for token in tokens]


@pytest.fixture(scope="module")
def uncased():
    return WordPiece(sample.vocab_path())


@pytest.fixture(scope="module")
def cased(tmp_path_factory):
    """A vocabulary with case, accents and words in long scripts."""
    characters = [chr(c) for c in range(33, 0x250)] + list("กขาАяあ漢\u0301")
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "The", "É", "##té"]
    tokens += [c for c in characters if c.strip()]
    tokens += ["##" + c for c in characters if c.strip()]
    path = tmp_path_factory.mktemp("vocab") / "vocab.txt"
    path.write_text("\n".join(dict.fromkeys(tokens)) + "\n", "utf-8")
    return WordPiece(str(path), lowercase=False)


def _same(tokenizer, texts):
    ids = {token: i for i, token in enumerate(tokenizer.vocabulary)}
    found = tokenizer.tokenize_strings(texts).to_list()
    for text, tokens in zip(texts, found):
        assert tokens == reference(text, ids, tokenizer.lowercase), repr(text)


TRICKY = [
    "",
    " \t\r\n ",
    "Hello, World! It's 3.14 (approx.)",
    "Ünïcödé naïve café résumé ÅNGSTRÖM ﬁancé",
    "東京 is the capital of日本、right？㐀𠀀豈",
    "한국어 텍스트 and ภาษาไทย and हिन्दी",
    "ΑΣ ΣΑ ΟΔΥΣΣΕΥΣ Σ ΑΣ\u200b ΑΣ\x01Β İstanbul ẞ",
    "a\x00b a\x1fb a\x7fb a\u200bb a\ufeffb a\u00adb a\x85b a\x0bb a\x0cb",
    "a\u2028b a\u2029b a\u00a0b a\u3000b a\u1680b a\u2003b",
    "emoji 😀👍🏽 👨‍👩‍👧 ❤️ 🇩🇪 end",
    "—“quoted”… ‘x’ «y» ¿que? § ¶ © ® $5 £5 €5 +1 <b> ^ ` ~ |",
    "\u037e \u1fef \u2329x\u232a \u0340 a\u0301\u0327b \u1e9b\u0323",
    "[CLS] [MASK] [SEP] [UNK] ##ing [unused1]",
    "\ufffd a\ufffdb \ue000 a\ue000b \U0010ffff",
    "\u1b4ea a\u1b7f \U00011b00x",
    "ก" * 40 + " " + "ข" * 101 + " a",
]


@pytest.mark.parametrize("text", TRICKY)
def test_gives_the_reference_ids(uncased, cased, text):
    _same(uncased, [text])
    _same(cased, [text])


@pytest.mark.parametrize("letter", ["a", "é", "ж", "ก", "𝔸"])
@pytest.mark.parametrize("length", [99, 100, 101, 400, 401])
def test_words_of_more_than_100_characters_are_unknown(
    uncased, cased, letter, length
):
    text = f"x {letter * length} y-{letter * length}z"
    _same(uncased, [text])
    _same(cased, [text])
    # One long word must not change how the rest of a batch is cut.
    _same(uncased, ["b" * 101, text, "b" * 100, "plain words"])


_LETTERS = st.text(
    st.one_of(
        st.characters(exclude_categories=("Cs",)),
        st.sampled_from("aeiouS ÀéßİΣςσ,.!-'\t\n\x00\u0301\u200d漢字กา😀"),
    ),
    max_size=60,
)


@settings(max_examples=400, deadline=None)
@given(st.lists(_LETTERS, min_size=1, max_size=4))
def test_gives_the_reference_ids_for_any_unicode(uncased, cased, texts):
    _same(uncased, texts)
    _same(cased, texts)


def _in_words(codes):
    characters = [chr(c) for c in codes if not 0xD800 <= c < 0xE000]
    return [f"a{c}b {c} {c}b A{c}\u0301" for c in characters]


def test_gives_the_reference_ids_around_single_characters(uncased, cased):
    rest = random.Random(0).sample(range(0x3000, sys.maxunicode + 1), 3000)
    texts = _in_words([*range(0x3000), *rest])
    _same(uncased, texts)
    _same(cased, texts)


@pytest.mark.slow
def test_gives_the_reference_ids_around_every_character(uncased, cased):
    texts = _in_words(range(sys.maxunicode + 1))
    _same(uncased, texts)
    _same(cased, texts)


def test_tokenizes_tensors_eagerly_and_in_a_graph(uncased):
    texts = ["Crème brûlée", "x" * 101, "ก" * 50, "plain"]
    ids = {token: i for i, token in enumerate(uncased.vocabulary)}
    expected = [reference(text, ids) for text in texts]
    tensor = tf.constant(texts)
    assert uncased.tokenize(tensor).to_list() == expected
    assert tf.function(uncased.tokenize)(tensor).to_list() == expected
    assert uncased.tokenize(tensor).dtype == tf.int32
    dataset = tf.data.Dataset.from_tensor_slices(texts).batch(4)
    batch = next(iter(dataset.map(uncased.tokenize)))
    assert batch.to_list() == expected


def test_leaves_out_bytes_that_are_not_utf8(uncased):
    tokens = uncased.tokenize(tf.constant([b"ab\xffc d"])).to_list()
    assert tokens == uncased.tokenize_strings(["abc d"]).to_list()


def test_packs_pairs_and_trims_the_longer_text(uncased):
    v = {token: i for i, token in enumerate(uncased.vocabulary)}
    x = uncased.encode(["a b c d e f", "a"], 8, ["x", "y z"])
    tokens = [
        "[CLS] a b c d [SEP] x [SEP]".split(),
        "[CLS] a [SEP] y z [SEP] [PAD] [PAD]".split(),
    ]
    np.testing.assert_array_equal(
        x["token_ids"], [[v[t] for t in row] for row in tokens]
    )
    np.testing.assert_array_equal(
        x["segment_ids"], [[0] * 6 + [1] * 2, [0, 0, 0, 1, 1, 1, 0, 0]]
    )
    np.testing.assert_array_equal(
        x["padding_mask"], [[1] * 8, [1] * 6 + [0] * 2]
    )
    assert {value.dtype for value in x.values()} == {np.dtype(np.int32)}


def test_packs_single_texts(uncased):
    x = uncased.encode(["a b", "a b c d e f g"], 6)
    v = {token: i for i, token in enumerate(uncased.vocabulary)}
    np.testing.assert_array_equal(
        x["token_ids"],
        [
            [v[t] for t in "[CLS] a b [SEP] [PAD] [PAD]".split()],
            [v[t] for t in "[CLS] a b c d [SEP]".split()],
        ],
    )
    assert not x["segment_ids"].any()


def test_refuses_different_numbers_of_texts_and_pairs(uncased):
    with pytest.raises(ValueError, match="2 texts came with 1 pairs"):
        uncased.encode(["a", "b"], 8, ["c"])


def test_names_a_vocabulary_that_is_missing(tmp_path):
    with pytest.raises(ValueError, match="none.txt cannot be read"):
        WordPiece(str(tmp_path / "none.txt"))


@pytest.mark.parametrize(
    "content, message",
    [
        (b"[PAD]\n[UNK]\na\n", r"no \[CLS\], \[SEP\], \[MASK\]"),
        (b"[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\na\n", "6 different"),
        (b"[PAD]\n\xff\n", "not UTF-8 at byte 6"),
    ],
)
def test_refuses_what_is_no_vocabulary(tmp_path, content, message):
    path = tmp_path / "vocab.txt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        WordPiece(str(path))
