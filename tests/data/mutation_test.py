"""Data sets that were changed by others: read whole, or one sentence."""

import json
import shutil

from hypothesis import HealthCheck, given, settings, strategies as st
import pytest
import tensorflow as tf

from tf_pof.data import inputs
from tf_pof.data import records

_SETTINGS = settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@pytest.fixture(scope="module")
def small(prepare, text_file, tmp_path_factory):
    """A data set of a few examples, and what meta.json says."""
    folder = tmp_path_factory.mktemp("mutated")
    with open(text_file, encoding="utf-8") as file:
        text = file.read(9000)
    (folder / "in.txt").write_text(text, "utf-8")
    output = folder / "set"
    prepare(str(folder / "in.txt"), output, num_shards=1)
    return output, json.loads((output / "meta.json").read_text())


def _read_through(folder):
    with records.readable_errors(folder):
        for x, _ in inputs.pretraining_dataset(
            folder, "train", 64, repeat=False
        ):
            ids = x["token_ids"].numpy()
            assert ids.min() >= 0 and ids.max() < 30522


def _verify(folder):
    records.verify(folder, deep=True)


def _sentence(folder, read) -> str | None:
    """The sentence of what is wrong, or None if all could be read."""
    try:
        read(str(folder))
    except ValueError as error:
        assert str(folder) in str(error)
        assert "\n" not in str(error) and len(str(error)) < 400
        return str(error)
    return None


_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["../x", "/etc/passwd", "", "a" * 64]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)


@_SETTINGS
@given(st.data())
def test_any_value_in_meta_data_is_read_or_one_sentence(small, data):
    folder, meta = small
    name = data.draw(st.sampled_from(sorted(meta)))
    changed = meta | {name: data.draw(_JSON)}
    if isinstance(meta[name], list):
        changed |= {name: [data.draw(_JSON)] * len(meta[name])}
    path = folder / "meta.json"
    before = path.read_bytes()
    path.write_text(json.dumps(changed))
    try:
        _sentence(folder, _verify)
    finally:
        path.write_bytes(before)


@_SETTINGS
@given(st.data())
def test_any_bytes_in_meta_data_are_read_or_one_sentence(small, data):
    folder, meta = small
    path = folder / "meta.json"
    before = path.read_bytes()
    path.write_bytes(_mutated(data, before))
    try:
        _sentence(folder, _verify)
    finally:
        path.write_bytes(before)


def _mutated(data, contents: bytes) -> bytes:
    place = data.draw(st.integers(0, len(contents) - 1))
    inserted = data.draw(st.binary(max_size=6))
    removed = data.draw(st.sampled_from([0, 1, 7, len(contents)]))
    return contents[:place] + inserted + contents[place + removed :]


@_SETTINGS
@given(st.data())
def test_any_bytes_in_a_shard_are_read_or_one_sentence(small, data):
    folder, meta = small
    [name] = meta["train_shards"]
    path, path_of_meta = folder / name, folder / "meta.json"
    before, meta_before = path.read_bytes(), path_of_meta.read_bytes()
    contents = _mutated(data, before)
    path.write_bytes(contents)
    path_of_meta.write_text(
        json.dumps(meta | {"train_bytes": [len(contents)]})
    )
    try:
        _sentence(folder, _verify)
    finally:
        path.write_bytes(before)
        path_of_meta.write_bytes(meta_before)


def _example(ids, b_start=(3,), label=(0,), **more):
    def integers(values):
        return tf.train.Feature(int64_list=tf.train.Int64List(value=values))

    features = {
        "token_ids": integers(ids),
        "segment_b_start": integers(b_start),
        "next_sentence_label": integers(label),
    } | more
    return tf.train.Example(
        features=tf.train.Features(feature=features)
    ).SerializeToString()


GOOD = _example([101, 2000, 102])


@pytest.mark.parametrize(
    "serialized, message",
    [
        ([GOOD, GOOD], None),
        ([GOOD, _example([101, 30522, 102])], "out of range"),
        ([GOOD, _example([101, -1, 102])], "out of range"),
        ([GOOD, _example([101, 2**40, 102])], "out of range"),
        ([GOOD, _example([101] * 65)], "out of range"),
        ([GOOD, _example([])], "out of range"),
        ([GOOD, _example([101, 2000, 102], (4,))], "out of range"),
        ([GOOD, _example([101, 2000, 102], (-1,))], "out of range"),
        ([GOOD, _example([101, 2000, 102], (3,), (2,))], "out of range"),
        ([GOOD, _example([101, 2000, 102], ())], "is corrupt"),
        ([GOOD, _example([101, 2000, 102], token_ids=tf.train.Feature())],
         "out of range"),
        ([GOOD, b"no example"], "is corrupt"),
        ([GOOD], "1 records instead of 2"),
        ([], "0 records instead of 2"),
        ([GOOD] * 3, "3 records instead of 2"),
    ],
)  # fmt: skip
def test_records_that_no_preparation_writes_are_refused(
    small, tmp_path, serialized, message
):
    folder = _with_records(small, tmp_path, serialized)
    sentence = _sentence(folder, _verify)
    assert (sentence is None) == (message is None)
    assert message is None or message in sentence


@pytest.mark.parametrize(
    "serialized, message",
    [
        ([GOOD, GOOD], None),
        ([GOOD, _example([101, 30522, 102])], "out of range"),
        ([GOOD, b"no example"], "is corrupt"),
    ],
)
def test_reading_names_what_is_wrong_with_a_record(
    small, tmp_path, serialized, message
):
    folder = _with_records(small, tmp_path, serialized)
    sentence = _sentence(folder, _read_through)
    assert (sentence is None) == (message is None)
    assert message is None or message in sentence


@pytest.mark.parametrize("serialized", [[], [GOOD]])
def test_training_on_fewer_records_than_said_does_not_hang(
    small, tmp_path, serialized
):
    folder = str(_with_records(small, tmp_path, serialized))
    dataset = inputs.pretraining_dataset(folder, "train", 2).take(2)
    with pytest.raises(ValueError, match="records instead of 2"):
        with records.readable_errors(folder):
            list(dataset)


def _with_records(small, tmp_path, serialized):
    """The data set with these records, of which meta.json says two."""
    folder = shutil.copytree(small[0], tmp_path / "set")
    [name] = small[1]["train_shards"]
    with tf.io.TFRecordWriter(
        str(folder / name), tf.io.TFRecordOptions("GZIP")
    ) as writer:
        for record in serialized:
            writer.write(record)
    meta = small[1] | {
        "num_train": 2,
        "train_counts": [2],
        "train_bytes": [(folder / name).stat().st_size],
    }
    (folder / "meta.json").write_text(json.dumps(meta))
    return folder


def test_a_vocabulary_without_special_tokens_is_named(small, tmp_path):
    folder = shutil.copytree(small[0], tmp_path / "set")
    (folder / "vocab.txt").write_text("[CLS]\na\n" * 20000)
    meta = small[1] | {"vocab_sha256": records.read_vocab_sha256(str(folder))}
    (folder / "meta.json").write_text(json.dumps(meta))
    assert "without [SEP], [MASK], [PAD]" in _sentence(folder, _read_through)
