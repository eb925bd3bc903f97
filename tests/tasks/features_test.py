"""Packed token ids and the batches drawn from them."""

import itertools

from hypothesis import given, settings, strategies as st
import numpy as np
import pytest

from tf_pof.data.sample import vocab_path
from tf_pof.data.tokenizer import WordPiece
from tf_pof.tasks import features
from tf_pof.tasks.features import Features

SEQUENCES = [[2, 7, 3], [2, 8, 9, 3, 5, 3], [2, 3, 4, 3]]
SECOND = [3, 4, 2]


def _packed(first=0, last=3):
    return Features.pack(
        [np.array(s) for s in SEQUENCES[first:last]],
        SECOND[first:last],
        {"logits": np.arange(first, last, dtype=np.int32)},
        details="kept",
    )


def _sequences(packed):
    return [
        packed.token_ids[start:end].tolist()
        for start, end in zip(packed.starts, packed.starts[1:])
    ]


def test_packs_sequences_one_after_the_other():
    packed = _packed()
    assert packed.token_ids.dtype == np.int32
    assert packed.token_ids.tolist() == sum(SEQUENCES, [])
    assert packed.starts.tolist() == [0, 3, 9, 13]
    assert packed.lengths.tolist() == [3, 6, 4]
    assert len(packed) == 3 and packed.details == "kept"
    assert len(Features.pack([], [], {})) == 0


def test_inputs_pad_to_the_length_asked_for():
    inputs = _packed().inputs(np.array([2, 0]), 5)
    assert inputs["token_ids"].tolist() == [[2, 3, 4, 3, 0], [2, 7, 3, 0, 0]]
    assert inputs["segment_ids"].tolist() == [[0, 0, 1, 1, 0], [0] * 5]
    assert inputs["padding_mask"].tolist() == [[1, 1, 1, 1, 0], [1, 1, 1, 0, 0]]
    assert {array.dtype for array in inputs.values()} == {np.dtype(np.int32)}


@pytest.mark.parametrize("pairs", [None, ["a pair", "", "more words here"]])
def test_what_the_tokenizer_encodes_comes_back(pairs):
    tokenizer = WordPiece(vocab_path())
    texts = ["one text", "the second one is longer", ""]
    encoded = tokenizer.encode(texts, 8, pairs)
    packed = Features.from_padded(encoded, {})
    assert len(packed.token_ids) == encoded["padding_mask"].sum()
    found = packed.inputs(np.arange(3), 8)
    for name, array in encoded.items():
        np.testing.assert_array_equal(found[name], array, name)


def test_concatenated_parts_are_as_packed_at_once():
    joined = Features.concatenate([_packed(0, 1), _packed(1, 3)])
    whole = _packed()
    for name in ("token_ids", "starts", "second_starts"):
        expected = getattr(whole, name)
        np.testing.assert_array_equal(getattr(joined, name), expected)
        assert getattr(joined, name).dtype == expected.dtype
    np.testing.assert_array_equal(joined.targets["logits"], [0, 1, 2])
    assert _sequences(joined) == SEQUENCES
    assert len(Features.concatenate([Features.pack([], [], {})])) == 0


@pytest.mark.parametrize(
    "longest, multiple, limit, expected",
    [
        (5, 8, 128, 8),
        (8, 8, 128, 8),
        (9, 8, 128, 16),
        (121, 16, 125, 125),
        (130, 16, 125, 130),
    ],
)
def test_padded_length_is_a_multiple_up_to_the_limit(
    longest, multiple, limit, expected
):
    assert features.padded_length(longest, multiple, limit) == expected


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 50), min_size=1, max_size=300),
    st.integers(1, 9),
    st.booleans(),
)
def test_an_epoch_holds_every_row_and_fills_its_last_batch(
    lengths, batch_size, grouped
):
    lengths = np.array(lengths)
    batches = features.epoch_batches(lengths, batch_size, 3, 0, grouped)
    assert {len(batch) for batch in batches} == {batch_size}
    counts = np.bincount(np.concatenate(batches), minlength=len(lengths))
    assert len(batches) == -(-len(lengths) // batch_size)
    assert counts.min() >= 1
    # A row is repeated for filling up only.
    assert counts.sum() - len(lengths) < batch_size
    assert counts.max() - counts.min() <= 1


def test_epochs_are_drawn_from_seed_and_epoch():
    lengths = np.arange(1, 41)

    def draw(seed, epoch):
        batches = features.epoch_batches(lengths, 4, seed, epoch, True)
        return np.concatenate(batches).tolist()

    assert draw(1, 0) == draw(1, 0)
    assert draw(1, 0) != draw(1, 1)
    assert draw(1, 0) != draw(2, 0)


def test_grouping_needs_less_padding_and_mixes_the_batches():
    lengths = np.random.default_rng(0).integers(5, 128, 2000)

    def batches(grouped):
        return features.epoch_batches(lengths, 16, 0, 0, grouped)

    padded = {
        grouped: sum(lengths[b].max() * 16 for b in batches(grouped))
        for grouped in (True, False)
    }
    # Grouped: nearly nothing; drawn: the longest of 16, about 120 each.
    assert padded[True] < 1.1 * lengths.sum()
    assert padded[False] > 1.6 * lengths.sum()
    longest = [lengths[b].max() for b in batches(True)]
    assert longest != sorted(longest) and longest != sorted(longest)[::-1]


def test_training_goes_on_where_it_stopped():
    packed = Features.pack(
        [np.zeros(n, int) for n in range(1, 12)], [1] * 11, {}
    )

    def rows(start, count):
        stream = features.training_batches(packed, 4, 7, start, True)
        return [b.tolist() for b in itertools.islice(stream, count)]

    whole = rows(0, 10)
    for start in range(1, 8):
        assert rows(start, 3) == whole[start : start + 3]
    # 11 rows make 3 batches of 4; each epoch has all of them.
    for epoch in range(3):
        assert len(set(sum(whole[3 * epoch : 3 * epoch + 3], []))) == 11
