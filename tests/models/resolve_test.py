"""tf_pof.load takes what the commands' --model takes."""

import json

import numpy as np
import pytest

import tf_pof
from tf_pof.models import resolve
from tf_pof.models.checkpoints import google

ATTRIBUTES = ("labels", "sparsity", "quantization", "vocab_file")


def test_a_size_gives_random_weights(tmp_path, monkeypatch, tiny):
    monkeypatch.chdir(tmp_path)
    model = tf_pof.load("bert_tiny", dropout=0.25, sequence_length=8)
    assert (model.config.num_layers, model.config.hidden_dim) == (2, 128)
    assert model.config.dropout == 0.25 and model.head is None
    assert model.input["token_ids"].shape == (None, 8)
    assert len(model.new_weights) == len(model.weights)
    assert all(getattr(model, name) is None for name in ATTRIBUTES)
    classifier = tf_pof.load("bert_tiny", head="classifier", num_labels=5)
    assert classifier.output["logits"].shape[-1] == 5
    # What exists as a path wins.
    tf_pof.save(tiny(), "bert_tiny")
    assert tf_pof.load("bert_tiny").config.hidden_dim == 16


@pytest.mark.parametrize("load", [tf_pof.load, resolve.resolve])
def test_the_output_of_a_run_is_its_model(tiny, tmp_path, load):
    run = tmp_path / "run"
    run.mkdir()
    (run / "settings.json").write_text("{}")
    with pytest.raises(ValueError, match="run that has no model yet"):
        load(str(run))
    model = tiny("span")
    tf_pof.save(model, run / "model")
    loaded = load(str(run))
    assert loaded.head == "span"
    np.testing.assert_array_equal(
        loaded.get_weights()[0], model.get_weights()[0]
    )
    # Settings beside a model are of another tool.
    tf_pof.save(tiny("classifier"), run)
    assert load(str(run)).head == "classifier"


def test_checkpoints_of_others_are_loaded_and_saved(tiny, tmp_path):
    google.save(tiny("pretraining"), tmp_path / "google")
    model = tf_pof.load(tmp_path / "google")
    assert model.head == "pretraining" and model.new_weights == ()
    again = tf_pof.load(tf_pof.save(model, tmp_path / "own"))
    np.testing.assert_array_equal(
        again.get_weights()[0], model.get_weights()[0]
    )
    classifier = tf_pof.load(tmp_path / "google", "classifier", 3)
    assert classifier.num_labels == 3


def test_a_folder_without_a_model_says_what_it_lacks(tmp_path):
    with pytest.raises(ValueError, match="config.json does not exist"):
        tf_pof.load(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "t5"}))
    with pytest.raises(ValueError, match="model_type is 't5'"):
        tf_pof.load(tmp_path)
