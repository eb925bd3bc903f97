"""Segment pairs, checked against the text they come from.

Every token is unique here, so that a segment tells where it was taken.
"""

import collections
import random

from hypothesis import given, settings, strategies as st
import numpy as np
import pytest

from tf_pof.data import examples
from tf_pof.data import tokenized

CLS, SEP = -1, -2


def _documents(shapes):
    """shapes: for each document the lengths of its sentences."""
    lengths = [length for shape in shapes for length in shape]
    return tokenized.Documents(
        np.arange(sum(lengths), dtype=np.int32),
        np.array(lengths, np.int64),
        np.array([len(shape) for shape in shapes], np.int64),
        np.arange(1, len(shapes) + 1, dtype=np.uint64),
    )


def _rows(made):
    """Splits examples into (A, B, label), checking the special tokens."""
    ends = np.cumsum(made.lengths)
    rows = []
    for end, length, b_start, label in zip(
        ends, made.lengths, made.segment_b_start, made.next_sentence_label
    ):
        tokens = made.token_ids[end - length : end].tolist()
        assert tokens[0] == CLS and tokens[-1] == SEP
        assert tokens[b_start - 1] == SEP
        assert tokens.count(SEP) == (1 if b_start == length else 2)
        rows.append((tokens[1 : b_start - 1], tokens[b_start:-1], label))
    return rows


SHAPES = st.lists(
    st.lists(st.integers(0, 40), min_size=1, max_size=30),
    min_size=2,
    max_size=5,
)


@settings(max_examples=150, deadline=None)
@given(SHAPES, st.integers(8, 64), st.sampled_from([0, 0.1, 1]))
def test_labels_say_where_the_second_segment_comes_from(shapes, length, short):
    documents = _documents(shapes)
    options = examples.PairOptions(length, short, 0.5)
    owner = np.repeat(np.arange(len(shapes)), [sum(s) for s in shapes])
    full = sum(1 for shape in shapes if sum(shape))
    for a, b, label in _rows(examples.build(documents, options, CLS, SEP)):
        assert len(a) + len(b) + 3 <= length and a and b
        for segment in a, b:
            assert segment == list(range(segment[0], segment[-1] + 1))
        same = owner[a[0]] == owner[b[0]]
        if label == examples.IS_NEXT:
            assert same and b[0] > a[-1]
        elif full > 1:
            assert not same


@settings(max_examples=100, deadline=None)
@given(SHAPES, st.integers(8, 64))
def test_without_random_segments_each_token_is_used_at_most_once_in_order(
    shapes, length
):
    options = examples.PairOptions(length, 0, 1)
    made = examples.build(_documents(shapes), options, CLS, SEP)
    used = [t for a, b, _ in _rows(made) for t in a + b]
    assert used == sorted(set(used))
    assert not made.next_sentence_label.any()
    # A chunk overshoots its target by less than its last sentence.
    total = sum(map(sum, shapes))
    overshoot = min(max(map(max, shapes)), length - 3)
    assert total - len(used) <= len(made.lengths) * overshoot


def test_text_behind_a_random_segment_is_used_again():
    shapes = [[10] * 200, [10] * 200]
    options = examples.PairOptions(64, 0, 0)
    made = examples.build(_documents(shapes), options, CLS, SEP)
    assert made.next_sentence_label.all()
    a_tokens = sorted(t for a, _, _ in _rows(made) for t in a)
    # All of both documents appears as A, but for what was trimmed.
    assert len(set(a_tokens)) == len(a_tokens)
    assert len(a_tokens) > 0.85 * 4000


def test_the_shares_of_labels_and_short_examples_are_as_asked():
    shapes = [[10] * 3000 for _ in range(4)]
    options = examples.PairOptions(103, 0.1, 0.5)
    made = examples.build(_documents(shapes), options, CLS, SEP)
    count = len(made.lengths)
    assert count > 1000
    # Binomial standard deviation below .016 for more than 1000 draws; with
    # ten-token sentences one-sentence chunks (forced random) come from short
    # targets of at most ten tokens: .1 * 9 / 99 of the examples.
    assert abs(made.next_sentence_label.mean() - 0.505) < 0.05
    short = made.lengths < 85
    # A target of U(2, 100) stays below 80 tokens in 78 % of the draws.
    assert abs(short.mean() - 0.078) < 0.03


def test_random_segments_come_from_all_other_documents_alike():
    shapes = [[5] * 400 for _ in range(5)]
    options = examples.PairOptions(40, 0, 0)
    rows = _rows(examples.build(_documents(shapes), options, CLS, SEP))
    counts = collections.Counter(
        (a[0] // 2000, b[0] // 2000) for a, b, _ in rows
    )
    for document in range(5):
        others = [counts[document, o] for o in range(5) if o != document]
        assert min(others) > 0.5 * max(others)


@settings(max_examples=200)
@given(st.integers(1, 200), st.integers(1, 200), st.integers(2, 150))
def test_trims_as_the_reference_does_one_token_at_a_time(a, b, length):
    before = a, b
    while a + b > length:  # truncate_seq_pair of google-research/bert
        if a > b:
            a -= 1
        else:
            b -= 1
    losses = examples.trim_counts(*before, length)
    assert losses == (before[0] - a, before[1] - b)


def test_trims_front_and_back_alike():
    rng = random.Random(0)
    fronts = [examples._trim(0, 100, 40, rng)[0] for _ in range(500)]
    # Binomial(40, .5): mean 20, standard deviation of the mean .14.
    assert abs(np.mean(fronts) - 20) < 0.8
    assert abs(np.std(fronts) - 40**0.5 / 2) < 0.5


def test_cuts_sentences_that_are_longer_than_an_example():
    options = examples.PairOptions(23, 0, 1)
    made = examples.build(_documents([[95], [7]]), options, CLS, SEP)
    rows = _rows(made)
    used = [t for a, b, _ in rows for t in a + b]
    assert used == list(range(102))
    assert all(not b for _, b, _ in rows)


def test_an_only_document_still_gives_examples():
    options = examples.PairOptions(32, 0, 0.5)
    rows = _rows(examples.build(_documents([[6] * 50]), options, CLS, SEP))
    assert {label for _, _, label in rows} == {0, 1}
    for a, b, label in rows:
        follows = b[0] == a[-1] + 1
        assert label == 0 or not follows or len(a) + len(b) > 26


def test_no_documents_give_no_examples():
    made = examples.build(_documents([]), examples.PairOptions(), CLS, SEP)
    assert len(made.lengths) == len(made.token_ids) == 0


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((7,), "from 8 to 65536 tokens, not 7"),
        ((10**9,), "from 8 to 65536 tokens"),
        ((128, float("nan")), "short sequence probability .* not nan"),
        ((128, -0.1), "short sequence probability .* not -0.1"),
        ((128, 0.1, 1.5), "next sentence probability .* not 1.5"),
    ],
)
def test_refuses_options_out_of_range(arguments, message):
    with pytest.raises(ValueError, match=message):
        examples.PairOptions(*arguments)
