"""Texts to packed ids and back: what is taken, cut and refused."""

import time

from hypothesis import given, settings, strategies as st
import numpy as np
import pytest
import tensorflow as tf

from tf_pof.data import sample
from tf_pof.data.tokenizer import WordPiece


@pytest.fixture(scope="module")
def uncased():
    return WordPiece(sample.vocab_path())


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


@pytest.mark.parametrize(
    "texts, message",
    [
        ("a text", r"texts must be a list of strings, not one string.*\[text"),
        (b"a text", "texts must be a list of strings, not one string"),
        (None, "texts must be a list of strings, not NoneType"),
        (7, "texts must be a list of strings, not int"),
        (["a", None], r"texts\[1\] must be a string, not NoneType"),
        ([b"a"], r"texts\[0\] must be a string, not bytes"),
        ([float("nan")], r"texts\[0\] must be a string, not float"),
        (tf.constant(["a"]), "tensors are for tokenize and encode_tensor"),
    ],
)
def test_what_is_no_list_of_strings_is_named(uncased, texts, message):
    with pytest.raises(TypeError, match=message):
        uncased.encode(texts, 8)
    with pytest.raises(TypeError, match=message):
        uncased.tokenize_strings(texts)
    if texts is not None:
        with pytest.raises(TypeError, match=message.replace("texts", "pairs")):
            uncased.encode(["a"], 8, texts)


@pytest.mark.parametrize("length", [0, -1, 2])
def test_lengths_without_room_are_refused(uncased, length):
    with pytest.raises(ValueError, match="leaves no room"):
        uncased.encode(["a"], length)
    with pytest.raises(ValueError, match="leaves no room"):
        uncased.encode_tensor(tf.constant(["a"]), length)
    with pytest.raises(ValueError, match="leaves no room"):
        uncased.encode(["a"], length + 2, ["b"])


def test_takes_any_sequence_of_strings(uncased):
    expected = uncased.encode(["a b", "c"], 8)["token_ids"]
    for texts in (
        ("a b", "c"),
        np.array(["a b", "c"]),
        np.array(["a b", "c"], object),
        (text for text in ["a b", "c"]),
    ):
        found = uncased.encode(texts, np.int64(8))["token_ids"]
        np.testing.assert_array_equal(found, expected)
    assert uncased.encode([], 8)["token_ids"].shape == (0, 8)


@pytest.mark.parametrize("pairs", [False, True])
def test_long_texts_cost_what_their_letters_cost(uncased, pairs):
    text = "the quick brown fox " * 25_000
    assert len(text) == 500_000
    more = [[text]] if pairs else []
    uncased.encode(["warm up"], 128)
    began = time.process_time()
    found = uncased.encode([text], 128, *more)
    # One step for each token that is cut would take a minute.
    assert time.process_time() - began < 5
    short = [[text[:9_000]]] if pairs else []
    expected = uncased.encode([text[:9_000]], 128, *short)
    for name, values in found.items():
        np.testing.assert_array_equal(values, expected[name])
    assert found["padding_mask"].all()


@pytest.mark.parametrize("pairs", [False, True])
def test_encodes_in_a_data_set(uncased, pairs):
    first = ["Crème brûlée", "x" * 101 + " a b c d e f g", "", "漢字 plain"]
    second = ["b c", "d", "e f g h i j", "\u3000"]
    expected = uncased.encode(first, 9, second if pairs else None)
    dataset = tf.data.Dataset.from_tensor_slices((first, second))

    def encode(a, b):
        return uncased.encode_tensor(a, 9, b if pairs else None)

    batches = dataset.batch(4).map(encode)
    singles = dataset.map(encode)
    assert batches.element_spec["token_ids"].shape.as_list() == [None, 9]
    assert singles.element_spec["token_ids"].shape.as_list() == [9]
    (batch,) = batches
    rows = list(singles)
    eager = encode(tf.constant(first), tf.constant(second))
    for name, values in expected.items():
        np.testing.assert_array_equal(batch[name], values)
        np.testing.assert_array_equal([row[name] for row in rows], values)
        np.testing.assert_array_equal(eager[name], values)
        assert batch[name].dtype == tf.int32


def test_tensors_of_other_kinds_are_named(uncased):
    with pytest.raises(TypeError, match="must be strings, not int32"):
        uncased.encode_tensor(tf.constant([1]), 8)
    with pytest.raises(ValueError, match=r"the shape \[n\], or \[\]"):
        uncased.encode_tensor(tf.constant([["a"]]), 8)


def test_decodes_one_text_and_several(uncased):
    x = uncased.encode(["Unbelievable, it's!", "a"], 16)["token_ids"]
    words = "unbelievable , it ' s !"
    assert uncased.decode(x) == [words, "a"]
    assert uncased.decode(tf.constant(x)) == [words, "a"]
    assert uncased.decode(x[0]) == uncased.decode(x[0].tolist()) == words
    ragged = uncased.tokenize_strings(["a b", "", "unbelievably"])
    assert uncased.decode(ragged) == ["a b", "", "unbelievably"]
    assert uncased.decode(ragged.to_list()) == ["a b", "", "unbelievably"]
    assert uncased.decode([]) == ""
    # Pairs come back in one string.
    x = uncased.encode(["a b"], 9, ["c \ue000"])["token_ids"][0]
    assert uncased.decode(x) == "a b c [UNK]"


@pytest.mark.parametrize("wrong", [None, 5, "words", [1.5], [[1], [None]]])
def test_what_is_no_list_of_ids_is_named(uncased, wrong):
    with pytest.raises(TypeError, match="must be a list of integers"):
        uncased.decode(wrong)


@pytest.mark.parametrize("number", [-1, 30522, 10**12])
def test_ids_outside_the_vocabulary_are_named(uncased, number):
    last = len(uncased.vocabulary) - 1
    with pytest.raises(ValueError, match=f"no token {number}: .* to {last}"):
        uncased.decode([5, number])


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.text(max_size=200), max_size=3), st.integers(3, 12), st.data()
)
def test_encoding_stays_within_its_bounds(uncased, texts, length, data):
    pairs = None
    if length > 4 and data.draw(st.booleans()):
        pairs = [data.draw(st.text(max_size=50)) for _ in texts]
    found = uncased.encode(texts, length, pairs)
    ids, mask = found["token_ids"], found["padding_mask"]
    assert ids.shape == mask.shape == (len(texts), length)
    assert ((ids >= 0) & (ids < len(uncased.vocabulary))).all()
    assert (ids[mask == 0] == uncased.pad_id).all()
    specials = 2 if pairs is None else 3
    assert (mask.sum(1) >= specials).all()
    is_separator = (ids == uncased.sep_id) & (mask == 1)
    assert (is_separator.sum(1) == specials - 1).all()


_WORDS = st.lists(
    st.text("abcdefghijklmnopqrstuvwxyz", min_size=1, max_size=12), max_size=6
)


@settings(max_examples=100, deadline=None)
@given(_WORDS)
def test_plain_words_come_back(uncased, words):
    text = " ".join(words)
    ids = uncased.encode([text], 100)["token_ids"][0]
    assert uncased.decode(ids) == text
    again = uncased.encode([uncased.decode(ids)], 100)["token_ids"][0]
    np.testing.assert_array_equal(again, ids)
