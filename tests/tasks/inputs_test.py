"""Batches for `model.fit`: the same on any replicas and from any step."""

import itertools

import tf_pof  # noqa: F401  (legacy Keras before TensorFlow)

import numpy as np
import pytest
import tensorflow as tf

from tf_pof.tasks import inputs
from tf_pof.tasks.features import Features

ROWS = 23


def packed(**targets):
    """Row i is 100 + i, as long as a draw from 3 to 60 says."""
    lengths = np.random.default_rng(0).integers(3, 60, ROWS)
    return Features.pack(
        [np.full(n, 100 + i) for i, n in enumerate(lengths)],
        lengths // 2,
        targets or {"logits": np.arange(ROWS, dtype=np.int32)},
    )


class Replicas:
    """A strategy's share in making a data set: `parts` processes' pipelines."""

    def __init__(self, replicas, pipelines=1):
        self.num_replicas_in_sync = replicas
        self._pipelines = pipelines

    def distribute_datasets_from_function(self, function):
        return [
            function(
                tf.distribute.InputContext(
                    self._pipelines, i, self.num_replicas_in_sync
                )
            )
            for i in range(self._pipelines)
        ]


def batches(count, features=None, strategy=None, **options):
    """The first batches, as numpy."""
    dataset = inputs.training_data(
        features or packed(),
        strategy or tf.distribute.get_strategy(),
        **{"batch_size": 6, "seed": 3} | options,
    )
    return list(itertools.islice(dataset.as_numpy_iterator(), count))


def assert_same(found, expected):
    assert len(found) == len(expected)
    tf.nest.map_structure(np.testing.assert_array_equal, found, expected)


def rows_of(batch):
    """Which rows of the features a batch has, by its tokens and targets."""
    x, y = batch
    rows = x["token_ids"][:, 0] - 100
    np.testing.assert_array_equal(y, rows)
    return rows.tolist()


def test_batches_follow_from_features_size_and_seed():
    assert_same(batches(9), batches(9))
    for other in ({"seed": 4}, {"batch_size": 5}, {"grouped": False}):
        found = batches(9, **other)
        assert list(map(rows_of, found)) != list(map(rows_of, batches(9)))


@pytest.mark.parametrize("start_step", [1, 3, 4, 9])
def test_a_later_step_is_what_the_whole_stream_gives_there(start_step):
    whole = batches(12)
    assert_same(
        batches(12 - start_step, start_step=start_step), whole[start_step:]
    )


@pytest.mark.parametrize("grouped", [False, True])
def test_every_example_occurs_in_every_epoch(grouped):
    # 4 batches of 6 hold 23 rows, and one of them twice.
    found = [rows_of(batch) for batch in batches(12, grouped=grouped)]
    for epoch in range(3):
        rows = sum(found[4 * epoch : 4 * epoch + 4], [])
        assert sorted(set(rows)) == list(range(ROWS)) and len(rows) == 24


def test_padding_goes_up_to_a_multiple_and_no_further():
    features = packed()
    for x, _ in batches(8, features):
        longest = x["padding_mask"].sum(1).max()
        # 59 is the longest of all: 64 would be in vain.
        expected = min(-(-longest // 16) * 16, features.lengths.max())
        assert x["token_ids"].shape == (6, expected)
        np.testing.assert_array_equal(x["token_ids"] > 0, x["padding_mask"])
    for x, _ in batches(4, features, length_multiple=0):
        assert x["token_ids"].shape == (6, features.lengths.max())


def test_grouping_by_length_computes_less_padding():
    lengths = np.random.default_rng(1).integers(4, 100, 400)
    features = Features.pack(
        [np.ones(n, int) for n in lengths],
        lengths,
        {"logits": np.zeros(400, np.int32)},
    )

    def computed(grouped):
        return sum(
            x["token_ids"].size
            for x, _ in batches(50, features, batch_size=8, grouped=grouped)
        )

    # Drawn, the longest of 8 in 4..99 is 88 in the mean, 93 when rounded up;
    # grouped, the 52 of the mean example and half of 16 of rounding.
    assert computed(False) > 1.4 * computed(True)
    assert computed(True) < 1.25 * lengths.sum()


@pytest.mark.parametrize("replicas,pipelines", [(2, 1), (3, 3), (6, 2)])
def test_parts_of_the_replicas_are_the_batch_of_one_device(
    replicas, pipelines
):
    whole = batches(8, start_step=2)
    datasets = inputs.training_data(
        packed(), Replicas(replicas, pipelines), 6, 3, start_step=2
    )
    each = replicas // pipelines
    streams = [d.as_numpy_iterator() for d in datasets]
    for batch in whole:
        # A pipeline feeds the replicas of its process in turn.
        parts = [next(s) for s in streams for _ in range(each)]
        joined = tf.nest.map_structure(
            lambda *values: np.concatenate(values), *parts
        )
        assert_same(joined, batch)


def test_a_batch_that_replicas_cannot_share_is_refused():
    with pytest.raises(ValueError, match="6 examples .* 4 replicas"):
        inputs.training_data(packed(), Replicas(4), 6, 0)


def test_targets_have_the_shapes_that_losses_take():
    score = np.arange(ROWS, dtype=np.float32)
    y = inputs.targets(packed(logits=score), np.array([4, 2]))
    assert y.tolist() == [[4.0], [2.0]] and y.dtype == np.float32
    first, last = np.arange(ROWS, dtype=np.int32), np.ones(ROWS, np.int32)
    span = packed(start_logits=first, end_logits=last)
    y = inputs.targets(span, np.array([4, 2]))
    assert y["start_logits"].tolist() == [4, 2]
    assert y["end_logits"].tolist() == [1, 1]
    ((x, found),) = batches(1, span)
    rows = x["token_ids"][:, 0] - 100
    np.testing.assert_array_equal(found["start_logits"], rows)
    ((x, found),) = batches(1, packed(logits=score))
    rows = x["token_ids"][:, :1] - 100
    np.testing.assert_array_equal(found, rows)
