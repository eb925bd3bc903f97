"""Masked-language-model targets: counts, shares and whole words."""

import numpy as np
import pytest
import tensorflow as tf

from tf_pof.data import masking

CLS, SEP, MASK, VOCAB = 1, 2, 3, 1000
LENGTH, BATCH = 64, 400


def _batch(seed=0):
    rng = np.random.default_rng(seed)
    ids = rng.integers(10, VOCAB, [BATCH, LENGTH]).astype(np.int32)
    lengths = rng.integers(8, LENGTH + 1, BATCH).astype(np.int32)
    for row, length in enumerate(lengths):
        ids[row, 0] = CLS
        ids[row, length // 2] = ids[row, length - 1] = SEP
        ids[row, length:] = 0
    return ids, lengths


def _mask(ids, lengths, epoch=0, index=None, continuation=None, count=10):
    index = np.arange(len(ids)) if index is None else index
    masked, targets = masking.mask_tokens(
        tf.constant(ids), tf.constant(lengths),
        masking.example_keys(5, epoch, index), 0.15, count, VOCAB,
        (CLS, SEP), MASK, continuation,
    )  # fmt: skip
    return masked.numpy(), {k: v.numpy() for k, v in targets.items()}


def test_predicts_15_percent_of_the_tokens_and_no_special_ones():
    ids, lengths = _batch()
    masked, y = _mask(ids, lengths)
    expected = np.clip(np.round(lengths * 0.15), 1, 10)
    np.testing.assert_array_equal(y["mlm_weights"].sum(1), expected)
    rows = np.arange(BATCH)[:, None]
    real = y["mlm_weights"] > 0
    labels = ids[rows, y["mlm_positions"]]
    np.testing.assert_array_equal(y["mlm_labels"], np.where(real, labels, 0))
    assert not np.isin(labels[real], [CLS, SEP, 0]).any()
    for row in range(BATCH):
        positions = y["mlm_positions"][row][real[row]]
        assert (np.diff(positions) > 0).all()
        untouched = np.setdiff1d(np.arange(LENGTH), positions)
        np.testing.assert_array_equal(
            masked[row, untouched], ids[row, untouched]
        )
    assert not y["mlm_positions"][~real].any()


def test_hides_80_percent_replaces_10_and_keeps_10():
    ids, lengths = _batch()
    hidden, kept, other, total = 0, 0, [], 0
    for epoch in range(10):
        masked, y = _mask(ids, lengths, epoch)
        real = y["mlm_weights"] > 0
        now = masked[np.arange(BATCH)[:, None], y["mlm_positions"]][real]
        before = y["mlm_labels"][real]
        hidden += (now == MASK).sum()
        kept += (now == before).sum()
        other += now[(now != MASK) & (now != before)].tolist()
        total += len(now)
    # 20,000 draws: standard deviations .003, .002, .002.
    assert abs(hidden / total - 0.8) < 0.012
    assert abs(kept / total - 0.1) < 0.009
    assert abs(len(other) / total - 0.1) < 0.009
    # Random tokens are uniform over the vocabulary.
    assert abs(np.mean(other) - VOCAB / 2) < 30
    assert min(other) < 20 and max(other) > VOCAB - 20


def test_every_position_is_as_likely_as_another():
    ids = np.full([2000, 22], 50, np.int32)
    ids[:, 0], ids[:, -1] = CLS, SEP
    _, y = _mask(ids, np.full(2000, 22, np.int32))
    positions = y["mlm_positions"][y["mlm_weights"] > 0]
    counts = np.bincount(positions, minlength=22)[1:-1]
    # 3 of 20 in 2000 rows: 300 each, standard deviation 16.
    assert counts.sum() == 6000 and abs(counts - 300).max() < 80


def test_draws_depend_on_example_epoch_and_seed_alone():
    ids, lengths = _batch()
    masked, y = _mask(ids, lengths)
    order = np.random.default_rng(1).permutation(BATCH)[:37]
    again, y_again = _mask(ids[order], lengths[order], index=order)
    np.testing.assert_array_equal(again, masked[order])
    for name, value in y.items():
        np.testing.assert_array_equal(y_again[name], value[order])
    other_epoch, _ = _mask(ids, lengths, epoch=1)
    assert (other_epoch != masked).any(axis=1).mean() > 0.9
    same_text, _ = _mask(ids[:1].repeat(50, 0), lengths[:1].repeat(50))
    assert len(np.unique(same_text, axis=0)) > 40


def _words(ids, length, continuation):
    words = []
    for position in range(length):
        if ids[position] in (CLS, SEP):
            continue
        joined = continuation[ids[position]] and words
        if joined and words[-1][-1] == position - 1:
            words[-1].append(position)
        else:
            words.append([position])
    return words


def test_masks_whole_words_up_to_the_budget():
    continuation = np.zeros(VOCAB, bool)
    continuation[400:] = True  # words of 2.5 pieces on average
    ids, lengths = _batch()
    _, y = _mask(ids, lengths, continuation=continuation)
    for row in range(BATCH):
        chosen = set(
            y["mlm_positions"][row][y["mlm_weights"][row] > 0].tolist()
        )
        words = _words(ids[row], lengths[row], continuation)
        budget = int(np.clip(np.round(lengths[row] * 0.15), 1, 10))
        assert len(chosen) <= budget
        rest = budget - len(chosen)
        for word in words:
            assert chosen.issuperset(word) or not chosen.intersection(word)
            # A word that would still fit has not been passed over.
            assert chosen.issuperset(word) or len(word) > rest


def test_every_word_is_as_likely_as_another_of_its_size():
    continuation = np.zeros(VOCAB, bool)
    continuation[500:] = True
    ids = np.full([3000, 42], 50, np.int32)
    ids[:, 2:-1:2] = 600  # twenty words of two pieces
    ids[:, 0], ids[:, -1] = CLS, SEP
    _, y = _mask(
        ids, np.full(3000, 42, np.int32), continuation=continuation
    )
    positions = y["mlm_positions"][y["mlm_weights"] > 0]
    counts = np.bincount(positions, minlength=42)[1:-1].reshape(20, 2)
    np.testing.assert_array_equal(counts[:, 0], counts[:, 1])
    # Budget round(6.3) = 6: three of twenty words in 3000 rows: 450 each.
    assert counts.sum() == 18000 and abs(counts - 450).max() < 100


@pytest.mark.parametrize("whole", [False, True])
def test_rows_without_anything_to_mask_have_no_targets(whole):
    ids = np.array([[CLS, SEP, 0, 0], [CLS, 9, SEP, 0]], np.int32)
    continuation = np.zeros(VOCAB, bool) if whole else None
    masked, y = _mask(
        ids, np.array([2, 3], np.int32), continuation=continuation
    )
    np.testing.assert_array_equal(y["mlm_weights"].sum(1), [0, 1])
    np.testing.assert_array_equal(masked[0], ids[0])
    assert y["mlm_positions"][1, 0] == 1 and y["mlm_weights"].shape == (2, 10)


def test_uniform_draws_are_uniform_and_independent():
    keys = masking.example_keys(0, 0, np.arange(2000))
    x = masking.uniform(masking.draw(keys, 0, 64)).numpy()
    y = masking.uniform(masking.draw(keys, 1, 64)).numpy()
    counts = np.histogram(x, 64, (0, 1))[0]
    # 2000 a bin; chi square of 63 degrees of freedom stays below 110.
    assert ((counts - 2000) ** 2 / 2000).sum() < 110
    for left, right in ((x, y), (x[1:], x[:-1]), (x[:, 1:], x[:, :-1])):
        assert abs(np.corrcoef(left.ravel(), right.ravel())[0, 1]) < 0.012


def test_mix_is_splitmix64():
    # The first outputs of the generator with seed 0, from its authors.
    values = tf.constant([0, 0x9E3779B97F4A7C15], tf.uint64)
    assert [hex(v) for v in masking.mix(values).numpy()] == [
        "0xe220a8397b1dcdaf",
        "0x6e789e6aa1b965f4",
    ]
