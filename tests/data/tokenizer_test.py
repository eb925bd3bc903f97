"""The tokenizer against an independent implementation of BERT's reference.

`reference` follows the published algorithm (google-research/bert,
tokenization.py: BasicTokenizer, WordpieceTokenizer) with plain Python and
unicodedata, one character at a time.
"""

import itertools
import random
import sys
import unicodedata

from hypothesis import given, settings, strategies as st
import pytest
import tensorflow as tf

from tf_pof.data import sample
from tf_pof.data.tokenizer import WordPiece
from tf_pof.data.tokenizer_settings import TokenizerSettings


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


def reference_words(text, settings):
    """Accents and Han can be set in Hugging Face's version of it alone."""
    cleaned = []
    for c in text:
        if ord(c) in (0, 0xFFFD) or _is_control(c):
            continue
        # The reference reads UTF-8, which has no lone surrogates.
        if unicodedata.category(c) == "Cs":
            continue
        cleaned.append(" " if _is_whitespace(c) else c)
    spaced = "".join(cleaned)
    if settings.tokenize_chinese_chars:
        spaced = "".join(
            f" {c} " if _is_chinese(ord(c)) else c for c in cleaned
        )
    words = []
    for word in spaced.strip().split():
        if settings.lowercase:
            word = word.lower()
        if settings.strip_accents:
            word = "".join(
                c
                for c in unicodedata.normalize("NFD", word)
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


def reference(text, vocabulary, settings=TokenizerSettings()):
    tokens = []
    for word in reference_words(text, settings):
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


@pytest.fixture(scope="module")
def others(cased, tmp_path_factory):
    """Tokenizers of all other settings, with words of Han and accents."""
    words = ["漢字", "##字", "é", "##é", "e\u0301", "σς", "ς", "##ς", "σ", "ΑΣ"]
    words += ["\u0345", "##\u0345", "α", "##α", "##σ", "ᾳ", "豈", "##豈"]
    tokens = dict.fromkeys([*cased.vocabulary, *words])
    path = tmp_path_factory.mktemp("vocab") / "vocab.txt"
    path.write_text("\n".join(tokens) + "\n", "utf-8")
    return [
        WordPiece(str(path), settings=TokenizerSettings(*values))
        for values in itertools.product([True, False], repeat=3)
    ]


def _same(tokenizer, texts):
    ids = {token: i for i, token in enumerate(tokenizer.vocabulary)}
    found = tokenizer.tokenize_strings(texts).to_list()
    for text, tokens in zip(texts, found):
        assert tokens == reference(text, ids, tokenizer.settings), repr(text)


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
    "a\ud800b \udfff a\udc80 \ud83d\ude00",
    "ΑΣ\u0345 \u0345Σ ᾼΣ Σ\u0345Α \u0345 α\u0345\u0301 ΑΣ.Α ΑΣ' ΑΣ漢",
    "漢字 漢字a a漢 豈\u8c48 \U0002f800 \U000f0000漢 \U00100000",
    "e\u0301 É é\u0323 が か\u3099",
]


@pytest.mark.parametrize("text", TRICKY)
def test_gives_the_reference_ids(uncased, cased, others, text):
    for tokenizer in (uncased, cased, *others):
        _same(tokenizer, [text])


def test_sigma_and_iota_below_are_what_unicode_makes_of_them(others):
    # Python's str.lower follows Unicode's rule of the last letter; U+0345 is
    # a mark, which is lower case already and which stripping removes.
    accented = others[2].normalize("ΟΔΥΣΣΕΥΣ Σ ΑΣ' ΑΣΑ ᾼΣ ΑΣ\u0345")
    assert accented.split() == "οδυσσευς σ ας ' ασα ᾳς ας\u0345".split()
    assert others[0].normalize("ᾼΣ ΑΣ\u0345 \u0345") == "ας ας "


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
        st.characters(),
        st.sampled_from("aeiouS ÀéßİΣςσα,.!-'\t\n\x00\u0301\u0345\u200d漢字กา😀"),
        st.sampled_from("\ud800\udfff\ufffe\u2028\u3000\U000f0000豈が"),
    ),
    max_size=60,
)


@settings(max_examples=200, deadline=None)
@given(st.lists(_LETTERS, min_size=1, max_size=4))
def test_gives_the_reference_ids_for_any_unicode(
    uncased, cased, others, texts
):
    for tokenizer in (uncased, cased, *others):
        _same(tokenizer, texts)


def _in_words(codes):
    characters = [chr(c) for c in codes if not 0xD800 <= c < 0xE000]
    return [f"a{c}b {c} {c}b A{c}\u0301" for c in characters]


def test_gives_the_reference_ids_around_single_characters(
    uncased, cased, others
):
    rest = random.Random(0).sample(range(0x3000, sys.maxunicode + 1), 3000)
    texts = _in_words([*range(0x3000), *rest])
    # Of the others: accents kept in lower-cased text, Han not spaced.
    for tokenizer in (uncased, cased, others[3]):
        _same(tokenizer, texts)


@pytest.mark.slow
def test_gives_the_reference_ids_around_every_character(
    uncased, cased, others
):
    texts = _in_words(range(sys.maxunicode + 1))
    for tokenizer in (uncased, cased, *others):
        _same(tokenizer, texts)


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
