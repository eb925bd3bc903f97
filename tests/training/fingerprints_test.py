"""Hashes change with what a run reads, and with nothing else."""

import os
import shutil

import tf_pof  # noqa: F401  (legacy Keras before TensorFlow)

import pytest
import tensorflow as tf

from tf_pof.models import folder
from tf_pof.training import fingerprints


def flip(path, at):
    """Changes a bit of a file; its size stays."""
    contents = bytearray(path.read_bytes())
    contents[at] ^= 1
    path.write_bytes(contents)


def test_a_model_is_its_weights_configuration_and_vocabulary(model, tmp_path):
    copy = shutil.copytree(model, tmp_path / "copy")
    before = fingerprints.of_model(str(copy))
    assert before == fingerprints.of_model(model)
    (copy / "README.md").write_text("notes")
    assert fingerprints.of_model(str(copy)) == before
    seen = {before}
    for name in ("model.safetensors", "config.json", "vocab.txt"):
        flip(copy / name, -1)
        seen.add(fingerprints.of_model(str(copy)))
    os.rename(copy / "vocab.txt", copy / "vocabulary.txt")
    seen.add(fingerprints.of_model(str(copy)))
    assert len(seen) == 5


def test_a_run_is_its_model(model, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(model, run / "model")
    (run / "settings.json").write_text("{}")
    told = fingerprints.of_models(str(run), model)
    assert told["model"] == told["teacher"] == fingerprints.of_model(model)
    assert fingerprints.of_models(model, None).keys() == {"model"}


def test_names_are_what_they_stand_for():
    size = fingerprints.of_model("bert_tiny")
    assert size == fingerprints.of_model("bert_base")
    for name in folder.bundled():
        found = fingerprints.of_model(name)
        assert found == fingerprints.of_model(folder.find(name)) != size


def test_a_checkpoint_is_its_tensors_and_what_stands_beside_it(tmp_path):
    seen = []
    for value in (1.0, 2.0):
        prefix = str(tmp_path / "model.ckpt")
        tf.train.Checkpoint(v=tf.Variable(value)).write(prefix)
        seen.append(fingerprints.of_model(prefix))
    (tmp_path / "other.ckpt.index").write_text("another checkpoint")
    assert fingerprints.of_model(prefix) == seen[-1]
    (tmp_path / "bert_config.json").write_text("{}")
    seen.append(fingerprints.of_model(prefix))
    assert len(set(seen)) == 3


@pytest.mark.parametrize("place", ["meta.json", "train-00001-of-00002"])
def test_data_are_their_shards(place, data, tmp_path):
    copy = shutil.copytree(data, tmp_path / "copy")
    before = fingerprints.of_pretraining_data(data)
    assert fingerprints.of_pretraining_data(str(copy)) == before
    (path,) = copy.glob(f"{place}*")
    if place == "meta.json":
        path.write_text(path.read_text().replace('"seed": 0', '"seed": 1'))
    else:
        # The checksum at the end of a gzip file is that of its contents.
        flip(path, -8)
    assert fingerprints.of_pretraining_data(str(copy)) != before
