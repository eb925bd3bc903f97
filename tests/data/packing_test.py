"""Packing against tensorflow-text's own trimmer and combiner."""

from hypothesis import given, settings, strategies as st
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_text as tf_text

from tf_pof.data import packing

CLS, SEP, PAD = 101, 102, 7


def _flat(rows):
    ragged = tf.ragged.constant(rows, tf.int32, ragged_rank=1)
    return ragged, (ragged.flat_values.numpy(), ragged.row_splits.numpy())


def _reference(segments, length):
    trimmer = tf_text.ShrinkLongestTrimmer(length - 1 - len(segments))
    ids, kinds = tf_text.combine_segments(trimmer.trim(segments), CLS, SEP)
    ids, mask = tf_text.pad_model_inputs(ids, length, PAD)
    return ids, tf_text.pad_model_inputs(kinds, length)[0], mask


_ROWS = st.lists(st.integers(0, 12), min_size=1, max_size=4)


@settings(max_examples=60, deadline=None)
@given(_ROWS, _ROWS, st.integers(5, 16), st.booleans())
def test_packs_as_tensorflow_text_does(first, second, length, pairs):
    count = min(len(first), len(second))
    segments = [[list(range(10, 10 + n)) for n in first[:count]]]
    if pairs:
        segments.append([list(range(50, 50 + n)) for n in second[:count]])
    ragged, flat = zip(*(_flat(rows) for rows in segments))
    found = packing.pack(flat, length, CLS, SEP, PAD)
    for values, expected in zip(found, _reference(list(ragged), length)):
        np.testing.assert_array_equal(values, expected)
        assert values.dtype == np.int32


def test_packs_no_texts():
    empty = np.zeros(0, np.int32), np.zeros(1, np.int64)
    for values in packing.pack([empty], 8, CLS, SEP, PAD):
        assert values.shape == (0, 8)


@pytest.mark.parametrize("length, segments", [(3, 1), (5, 2)])
def test_shortest_length_has_a_token_of_each_text(length, segments):
    assert packing.room(length, segments) == segments
    for short in (length - 1, 1, 0, -1):
        with pytest.raises(ValueError, match=f"give at least {length}"):
            packing.room(short, segments)


@pytest.mark.parametrize("length", [None, "8", 8.0, True])
def test_length_must_be_an_integer(length):
    with pytest.raises(TypeError, match="must be an integer, not"):
        packing.room(length, 1)
