"""Batches: content, order, resuming, sharing and errors."""

import os
import shutil

import numpy as np
import pytest
import tensorflow as tf

from tf_pof.data import inputs
from tf_pof.data import records

MASK = 103  # in the bundled vocabulary


def _records(folder, split):
    """Reads all examples with plain protos: [(token ids, b start, label)]."""
    examples = []
    for name, _, _ in records.read_meta(folder).shards(split):
        path = os.path.join(folder, name)
        for record in tf.data.TFRecordDataset(path, "GZIP").as_numpy_iterator():
            feature = tf.train.Example.FromString(record).features.feature
            examples.append(
                (
                    tuple(feature["token_ids"].int64_list.value),
                    feature["segment_b_start"].int64_list.value[0],
                    feature["next_sentence_label"].int64_list.value[0],
                )
            )
    return examples


def _take(folder, split, count, batch_size=16, **arguments):
    dataset = inputs.pretraining_dataset(folder, split, batch_size, **arguments)
    return list(dataset.take(count).as_numpy_iterator())


def _unmasked(batch):
    """The records that a batch was made of."""
    x, y = batch
    ids = x["token_ids"].copy()
    for row, (positions, labels, weights) in enumerate(
        zip(y["mlm_positions"], y["mlm_labels"], y["mlm_weights"])
    ):
        real = weights > 0
        ids[row, positions[real]] = labels[real]
    lengths = x["padding_mask"].sum(1)
    b_start = lengths - x["segment_ids"].sum(1)
    return [
        (tuple(row[:length].tolist()), start, label)
        for row, length, start, label in zip(
            ids, lengths, b_start, y["nsp_labels"]
        )
    ]


def _assert_equal(left, right):
    assert len(left) == len(right)
    for a, b in zip(tf.nest.flatten(left), tf.nest.flatten(right)):
        np.testing.assert_array_equal(a, b)


def test_a_batch_has_the_promised_shapes_and_types(folder):
    dataset = inputs.pretraining_dataset(folder, "train", 8)
    x, y = dataset.element_spec
    wide = tf.TensorSpec([8, 64], tf.int32)
    names = ["token_ids", "segment_ids", "padding_mask"]
    assert x == dict.fromkeys(names, wide)
    assert y == {
        "mlm_positions": tf.TensorSpec([8, 10], tf.int32),
        "mlm_labels": tf.TensorSpec([8, 10], tf.int32),
        "mlm_weights": tf.TensorSpec([8, 10], tf.float32),
        "nsp_labels": tf.TensorSpec([8], tf.int32),
    }


@pytest.mark.parametrize("rate, length, most", [
    (0.15, 128, 20), (0.15, 512, 77), (0.5, 64, 32),
])  # fmt: skip
def test_the_default_number_of_predictions_fits_full_examples(
    rate, length, most
):
    assert inputs.default_max_predictions(length, rate) == most


@pytest.mark.parametrize("split", records.SPLITS)
@pytest.mark.parametrize("shuffle", [True, False])
def test_an_epoch_holds_every_example_once(folder, split, shuffle):
    batches = _take(folder, split, -1, repeat=False, shuffle=shuffle)
    found = [record for batch in batches for record in _unmasked(batch)]
    expected = _records(folder, split)
    assert len(batches[-1][0]["token_ids"]) == len(expected) % 16 or 16
    assert sorted(found) == sorted(expected)
    assert (found == expected) == (not shuffle)


def test_epochs_have_another_order_and_other_masks(folder):
    count = records.read_meta(folder).num_train
    batches = _take(folder, "train", 2, batch_size=count)
    first, second = map(_unmasked, batches)
    assert sorted(first) == sorted(second) and first != second
    masks = []
    for batch, examples in zip(batches, (first, second)):
        rows = batch[0]["token_ids"] == MASK
        masks.append(dict(zip(examples, map(tuple, rows.tolist()))))
    differ = [masks[0][e] != masks[1][e] for e in masks[0]]
    assert np.mean(differ) > 0.95


@pytest.mark.parametrize("step", [0, 1, 7, 60, 200])
@pytest.mark.parametrize("shuffle", [True, False])
def test_starts_at_any_step_as_if_never_stopped(folder, step, shuffle):
    """The data has 70 to 110 batches: 200 is in a later epoch."""
    whole = _take(folder, "train", step + 3, shuffle=shuffle, seed=3)
    resumed = _take(
        folder, "train", 3, shuffle=shuffle, seed=3, start_step=step
    )
    _assert_equal(whole[step:], resumed)


def test_starts_within_windows_as_if_never_stopped(folder, monkeypatch):
    monkeypatch.setattr(inputs, "WINDOW", 50)
    whole = _take(folder, "train", 40)
    for step in (3, 11, 33):
        _assert_equal(whole[step:], _take(folder, "train", 40 - step,
                                          start_step=step))  # fmt: skip
    everything = _take(folder, "train", -1, repeat=False)
    found = [record for batch in everything for record in _unmasked(batch)]
    assert sorted(found) == sorted(_records(folder, "train"))


def test_starts_at_a_step_of_a_single_pass(folder):
    whole = _take(folder, "train", -1, repeat=False)
    part = _take(folder, "train", -1, repeat=False, start_step=5)
    _assert_equal(whole[5:], part)
    assert not _take(folder, "train", -1, repeat=False, start_step=9999)


def test_seeds_change_order_and_masks_and_repeat_themselves(folder):
    _assert_equal(_take(folder, "train", 3), _take(folder, "train", 3))
    zero, one = (_take(folder, "train", 3, seed=seed) for seed in (0, 1))
    assert (zero[0][0]["token_ids"] != one[0][0]["token_ids"]).any()


def test_a_global_seed_changes_nothing(folder):
    expected = _take(folder, "train", 2)
    tf.random.set_seed(1234)
    _assert_equal(expected, _take(folder, "train", 2))


def test_pipelines_together_read_what_one_reads(folder):
    """Two workers of batch 8 see the examples of one of batch 16."""
    whole = _take(folder, "train", 120, batch_size=16)
    halves = [
        _take(folder, "train", 120, batch_size=8, num_input_pipelines=2,
              input_pipeline_id=i)
        for i in range(2)
    ]  # fmt: skip
    for step, batch in enumerate(whole):
        for part in zip(*(tf.nest.flatten(x) for x in (
            batch, halves[0][step], halves[1][step]
        ))):  # fmt: skip
            joined = np.empty_like(part[0])
            joined[0::2], joined[1::2] = part[1:]
            np.testing.assert_array_equal(part[0], joined)
    resumed = _take(folder, "train", 20, batch_size=8, num_input_pipelines=2,
                    input_pipeline_id=1, start_step=100)  # fmt: skip
    _assert_equal(halves[1][100:], resumed)


def test_validation_is_masked_alike_in_every_run_and_epoch(folder):
    count = records.read_meta(folder).num_validation
    batches = _take(folder, "validation", 2, batch_size=count, shuffle=False)
    _assert_equal(batches[0], batches[1])
    other = _take(
        folder, "validation", 1, batch_size=count, shuffle=False, seed=9
    )
    _assert_equal(batches[:1], other)


def test_whole_words_are_masked_when_the_data_says_so(
    folder, whole_word_folder
):
    with open(os.path.join(folder, "vocab.txt"), encoding="utf-8") as file:
        pieces = np.array([line.startswith("##") for line in file])

    def split_words(path):
        """Words of which some pieces are targets and some are not."""
        found = 0
        for batch in _take(path, "train", 20):
            for (ids, b, _), positions, weights in zip(
                _unmasked(batch),
                batch[1]["mlm_positions"],
                batch[1]["mlm_weights"],
            ):
                target = np.zeros(len(ids), bool)
                target[positions[weights > 0]] = True
                joined = pieces[list(ids)]
                joined[[1, min(b, len(ids) - 1)]] = False
                found += (joined[1:] & (target[1:] != target[:-1])).sum()
        return found

    assert split_words(folder) > 100
    assert split_words(whole_word_folder) == 0


@pytest.mark.parametrize("length", [8, 17, 40])
def test_shortens_examples_from_the_end_of_the_longer_segment(folder, length):
    arguments = dict(batch_size=50, repeat=False, shuffle=False)
    batches = _take(folder, "train", 2, sequence_length=length, **arguments)
    found = [record for batch in batches for record in _unmasked(batch)]
    for (ids, b, label), short in zip(_records(folder, "train"), found):
        first, second = list(ids[1 : b - 1]), list(ids[b:-1])
        while len(first) + len(second) > length - 3:
            longer = first if len(first) > len(second) else second
            longer.pop()
        expected = [101, *first, 102, *second, 102]
        assert short == (tuple(expected), len(first) + 2, label)


def test_pads_to_a_longer_length(folder):
    x, _ = _take(folder, "train", 1, sequence_length=100)[0]
    assert x["token_ids"].shape == (16, 100)
    assert not x["token_ids"][:, 64:].any()


@pytest.fixture
def copy(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "copy")


def _shard(copy, index=1):
    return copy / records.read_meta(str(copy)).train_shards[index]


def test_names_a_missing_shard(copy):
    _shard(copy).unlink()
    with pytest.raises(ValueError, match="train-00001-of-00003.* is missing"):
        inputs.pretraining_dataset(str(copy), "train", 4)


def test_names_a_truncated_shard(copy):
    content = _shard(copy).read_bytes()
    _shard(copy).write_bytes(content[:-100])
    with pytest.raises(ValueError, match="train-00001.* is truncated"):
        inputs.pretraining_dataset(str(copy), "train", 4)


def test_names_a_corrupt_shard_while_reading(copy):
    content = bytearray(_shard(copy).read_bytes())
    content[len(content) // 2] ^= 0xFF
    _shard(copy).write_bytes(bytes(content))
    dataset = inputs.pretraining_dataset(str(copy), "train", 4, repeat=False)
    with pytest.raises(ValueError, match="train-00001.* is corrupt"):
        with records.readable_errors(str(copy)):
            for _ in dataset:
                pass


def test_refuses_another_vocabulary(copy):
    with open(copy / "vocab.txt", "a", encoding="utf-8") as file:
        file.write("more\n")
    with pytest.raises(ValueError, match="not the vocabulary"):
        inputs.pretraining_dataset(str(copy), "train", 4)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (dict(split="test"), 'no split "test"'),
        (dict(batch_size=0), "batch size of at least 1"),
        (dict(start_step=-1), "start step of at least 0"),
        (dict(num_input_pipelines=2, input_pipeline_id=2), "pipeline 2"),
        (dict(sequence_length=4), "sequence length of at least 8"),
    ],
)
def test_refuses_arguments_out_of_range(folder, arguments, message):
    arguments = dict(split="train", batch_size=4) | arguments
    with pytest.raises(ValueError, match=message):
        inputs.pretraining_dataset(folder, **arguments)
