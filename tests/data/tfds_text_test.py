"""Text from TFDS data sets that are prepared in a local folder."""

import time

import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from tf_pof.data import documents
from tf_pof.data import tfds_text

TEXTS = [f"Document {i}.\nIts second line, ünïcode." for i in range(25)]


def _prepare(folder, name, features, columns):
    tfds.dataset_builders.store_as_tfds_dataset(
        name=name,
        version="1.0.0",
        features=tfds.features.FeaturesDict(features),
        split_datasets={
            "train": tf.data.Dataset.from_tensor_slices(columns),
        },
        data_dir=str(folder),
        disable_shuffling=True,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tfds")
    text = tfds.features.Text()
    _prepare(folder, "plain", {"text": text}, {"text": TEXTS})
    columns = {"question": TEXTS, "answer": TEXTS[::-1]}
    _prepare(folder, "two", dict.fromkeys(columns, text), columns)
    return str(folder)


def _read(pieces):
    return [t for p in pieces for t in documents.read_piece(p, "blank_line")]


@pytest.mark.parametrize("name", ["plain", "plain:1.0.0"])
def test_reads_a_prepared_data_set_by_name(folder, name):
    assert _read(tfds_text.plan(name, folder)) == TEXTS


def test_pieces_share_the_examples_out_in_order(folder):
    pieces = tfds_text.plan("plain", folder, piece_bytes=200)
    assert len(pieces) > 3
    assert _read(pieces) == TEXTS


def test_takes_the_feature_named(folder):
    found = _read(tfds_text.plan("two", folder, feature="answer"))
    assert found == TEXTS[::-1]


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("two",), "Choose the text feature .* answer, question"),
        (("plain", "test"), 'no split "test": choose train'),
        (("plain", "train", "title"), "Choose the text feature .* has text"),
    ],
)
def test_says_what_there_is_to_choose(folder, arguments, message):
    name, *rest = arguments
    with pytest.raises(ValueError, match=message):
        tfds_text.plan(name, folder, *rest)


@pytest.mark.parametrize("name", ["glue/sst2", "wikipedia/20230601.en", "xyz"])
def test_says_at_once_that_a_data_set_is_not_prepared(folder, name):
    began = time.monotonic()
    with pytest.raises(ValueError, match=f"{name} is not prepared in {folder}"):
        tfds_text.plan(name, folder)
    # TFDS itself tries to download for minutes.
    assert time.monotonic() - began < 30
