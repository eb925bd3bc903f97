"""Meta data and shard files."""

import dataclasses
import json
import os
import shutil

import numpy as np
import pytest
import tensorflow as tf

from tf_pof.data import records
from tf_pof.data.tokenizer_settings import TokenizerSettings


@pytest.fixture
def copy(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "copy")


def test_meta_counts_what_is_in_the_files(folder):
    meta = records.read_meta(folder)
    for split, total in (
        ("train", meta.num_train),
        ("validation", meta.num_validation),
    ):
        counts = []
        for name, count, size in meta.shards(split):
            path = os.path.join(folder, name)
            dataset = tf.data.TFRecordDataset(path, "GZIP")
            counts.append(sum(1 for _ in dataset))
            assert counts[-1] == count
            assert os.path.getsize(path) == size
        assert sum(counts) == total > 0
    assert sorted(os.listdir(folder)) == sorted(
        ["meta.json", "vocab.txt", *meta.train_shards, *meta.validation_shards]
    )


def test_writes_and_reads_meta(folder, tmp_path):
    meta = dataclasses.replace(records.read_meta(folder), seed=-5)
    records.write_meta(str(tmp_path), meta)
    assert records.read_meta(str(tmp_path)) == meta
    assert os.listdir(tmp_path) == ["meta.json"]


def test_reads_what_older_versions_wrote(folder, tmp_path):
    with open(os.path.join(folder, "meta.json")) as file:
        values = json.load(file)
    for name in ("strip_accents", "tokenize_chinese_chars"):
        del values[name]
    values["lowercase"] = False
    (tmp_path / "meta.json").write_text(json.dumps(values))
    meta = records.read_meta(str(tmp_path))
    assert meta.tokenizer_settings == TokenizerSettings(False, False, True)


def test_writes_records_that_any_reader_understands(tmp_path):
    path = str(tmp_path / "shard")
    records.write_shard(
        path,
        np.array([2, 7, 70000, 3, 2, 9, 3, 8, 3], np.int32),
        np.array([4, 5]), np.array([4, 3]), np.array([0, 1]),
    )  # fmt: skip
    found = [
        {
            name: list(value.int64_list.value)
            for name, value in tf.train.Example.FromString(
                record
            ).features.feature.items()
        }
        for record in tf.data.TFRecordDataset(path, "GZIP").as_numpy_iterator()
    ]
    assert found == [
        {
            "token_ids": [2, 7, 70000, 3],
            "segment_b_start": [4],
            "next_sentence_label": [0],
        },
        {
            "token_ids": [2, 9, 3, 8, 3],
            "segment_b_start": [3],
            "next_sentence_label": [1],
        },
    ]


def test_verify_accepts_a_whole_data_set(folder):
    assert records.verify(folder, deep=True) == records.read_meta(folder)


def test_verify_counts_records(copy):
    meta = json.loads((copy / "meta.json").read_text())
    meta["train_counts"][0] += 1
    meta["num_train"] += 1
    (copy / "meta.json").write_text(json.dumps(meta))
    records.verify(str(copy))
    with pytest.raises(ValueError, match=r"train-00000.*\(\d+ records instead"):
        records.verify(str(copy), deep=True)


@pytest.mark.parametrize(
    "content, message",
    [
        (None, "is not a prepared data set"),
        ('{"version": 99}', "is not of version 1"),
        ('{"version": 1.0}', "is not of version 1"),
        ('{"version": true}', "is not of version 1"),
        ('{"version": 1, "seed": 0}', "lacks sequence_length, vocab_size"),
    ],
)
def test_says_what_is_wrong_with_the_meta_data(tmp_path, content, message):
    if content is not None:
        (tmp_path / "meta.json").write_text(content)
    with pytest.raises(ValueError, match=message) as error:
        records.read_meta(str(tmp_path))
    assert str(tmp_path) in str(error.value)
    assert "prepare_data" in str(error.value)


@pytest.mark.parametrize("content", ["{", "[]", "", "\xff", "[" * 100_000])
def test_meta_data_that_is_no_json_object_is_named(tmp_path, content):
    (tmp_path / "meta.json").write_text(content, "latin-1")
    with pytest.raises(ValueError, match="meta.json (is not valid|does not)"):
        records.read_meta(str(tmp_path))


@pytest.mark.parametrize(
    "change, message",
    [
        ({"sequence_length": "64"}, "wrong 'sequence_length'"),
        ({"sequence_length": 0}, "wrong 'sequence_length'"),
        ({"sequence_length": 10**9}, "wrong 'sequence_length'"),
        ({"vocab_size": -1}, "wrong 'vocab_size'"),
        ({"vocab_sha256": "abc"}, "wrong 'vocab_sha256'"),
        ({"seed": 2**70}, "wrong 'seed'"),
        ({"seed": 0.5}, "wrong 'seed'"),
        ({"lowercase": "yes"}, "wrong 'lowercase'"),
        ({"train_counts": [-1, 1, 1]}, "wrong 'train_counts.0'"),
        ({"train_counts": {}}, "wrong 'train_counts'"),
        ({"statistics": []}, "wrong 'statistics'"),
        ({"train_shards": ["../../secret"] * 3}, "wrong 'train_shards.0'"),
        ({"train_shards": ["/etc/passwd"] * 3}, "wrong 'train_shards.0'"),
        ({"train_counts": [1, 1]}, "columns of unequal length"),
        ({"num_train": 3}, "counts other train examples"),
        (
            {"validation_shards": ["train-00000-of-00003.tfrecord.gz"]},
            "twice or in the wrong split",
        ),
    ],
)
def test_meta_data_that_no_preparation_writes_is_refused(copy, change, message):
    meta = json.loads((copy / "meta.json").read_text())
    (copy / "meta.json").write_text(json.dumps(meta | change))
    with pytest.raises(ValueError, match=message) as error:
        records.read_meta(str(copy))
    assert str(copy / "meta.json") in str(error.value)
    assert "\n" not in str(error.value)


def test_meta_data_is_not_written_through_a_link(folder, tmp_path):
    (tmp_path / "mine").write_text("keep")
    for name in "meta.json", "meta.json.tmp":
        (tmp_path / name).symlink_to("mine")
    records.write_meta(str(tmp_path), records.read_meta(folder))
    assert (tmp_path / "mine").read_text() == "keep"
    assert records.read_meta(str(tmp_path)) == records.read_meta(folder)


def test_a_split_without_examples_is_told_before_any_work(folder):
    meta = records.read_meta(folder)
    for split in records.SPLITS:
        records.require_split(folder, meta, split)
    none = dataclasses.replace(
        meta,
        num_validation=0,
        validation_counts=[0] * len(meta.validation_shards),
    )
    with pytest.raises(ValueError, match=f"{folder} has no validation ex"):
        records.require_split(folder, none, "validation")
    records.require_split(folder, none, "train")
    with pytest.raises(ValueError, match='no split "test"'):
        records.require_split(folder, none, "test")


def test_says_that_the_vocabulary_is_missing(copy):
    (copy / "vocab.txt").unlink()
    with pytest.raises(ValueError, match="vocab.txt is missing"):
        records.verify(str(copy))


def test_compares_the_vocabulary_with_a_model(folder):
    meta = records.read_meta(folder)
    records.check_vocabulary(folder, meta.vocab_sha256, "the model")
    with pytest.raises(ValueError, match="another vocabulary .* the model m"):
        records.check_vocabulary(folder, "0" * 64, "the model m")
