"""Configurations of keras-nlp and Google that are wrong, in one sentence."""

import json
import pathlib

import pytest

from tf_pof.models.checkpoints import google
from tf_pof.models.checkpoints import keras_nlp
from tests.models.checkpoints.refusal import POINTER, refused


def _changed(path, **fields):
    """Changes fields of a JSON file, or of its "config"."""
    value = json.loads(path.read_text())
    inner = value.get("config", value)
    for name, field in fields.items():
        if field is None:
            del inner[name]
        else:
            inner[name] = field
    path.write_text(json.dumps(value))


CONFIGS = [
    ({"num_layers": "2"}, "'2'|2"),
    ({"num_layers": 2.5}, "2.5"),
    ({"num_layers": []}, "list|\\[\\]"),
    ({"num_layers": None}, "num_hidden_layers|num_layers"),
    ({"num_layers": -1}, "num_layers must be at least 1, not -1|wrong"),
    ({"num_layers": 10**6}, "too few for the encoder"),
    ({"vocabulary_size": 10**9}, "too few for the encoder"),
    ({"num_heads": 5}, "hidden_dim 16 is not a multiple of num_heads 5"),
    ({"dropout": "x"}, "'x'|x"),
]


@pytest.mark.parametrize("fields, sentence", CONFIGS)
def test_presets_of_keras_nlp(tiny, tmp_path, fields, sentence):
    folder = pathlib.Path(
        keras_nlp.save(tiny(activation="gelu_new"), str(tmp_path / "p"))
    )
    _changed(folder / "config.json", **fields)
    refused(folder, f"config.json.*({sentence})|weights.h5.*({sentence})")


def test_presets_that_are_none(tiny, tmp_path):
    folder = pathlib.Path(
        keras_nlp.save(tiny(activation="gelu_new"), str(tmp_path / "p"))
    )
    config = folder / "config.json"
    for contents, sentence in (
        ("[]", "config.json does not hold what it should"),
        ("[" * 100_000, "config.json is not valid JSON"),
        ('{"class_name": 5}', "wrong 'class_name'"),
        ('{"class_name": "GPT2Backbone"}', "a GPT2Backbone is not one of"),
        ('{"class_name": "BertBackbone"}', "lacks 'config'"),
        ('{"class_name": "BertBackbone", "config": []}', "wrong 'config'"),
        (POINTER, "config.json is a pointer of Git LFS"),
    ):
        config.write_text(contents)
        refused(folder, sentence)
    config.unlink()
    refused(folder, "config.json does not exist")


GOOGLE = {
    "num_layers": "num_hidden_layers",
    "vocabulary_size": "vocab_size",
    "num_heads": "num_attention_heads",
    "dropout": "hidden_dropout_prob",
}


@pytest.mark.parametrize("fields, sentence", CONFIGS)
def test_configs_of_google(tiny, tmp_path, fields, sentence):
    google.save(tiny(), str(tmp_path))
    fields = {GOOGLE[name]: value for name, value in fields.items()}
    _changed(tmp_path / "bert_config.json", **fields)
    refused(tmp_path, f"bert_(config.json|model.ckpt).*({sentence})")


def test_checkpoints_of_google_that_are_none(tiny, tmp_path):
    model = tiny("classifier", activation="gelu_new")
    google.save(model, str(tmp_path))
    config = tmp_path / "bert_config.json"
    contents = config.read_text()
    for text, sentence in (
        ("[]", "bert_config.json does not hold what it should"),
        ("{", "bert_config.json is not valid JSON"),
        (POINTER, "bert_config.json is a pointer of Git LFS"),
        (contents.replace("gelu_new", "x"), "wrong 'tf_pof_activation'"),
    ):
        config.write_text(text)
        refused(tmp_path, sentence)
    config.write_text(contents)
    data = tmp_path / "bert_model.ckpt.data-00000-of-00001"
    numbers = data.read_bytes()
    data.write_bytes(numbers[:-100])
    refused(tmp_path, "bert_model.ckpt cannot be read")
    data.write_bytes(bytes(len(numbers)))
    refused(tmp_path, "bert_model.ckpt cannot be read: .*[Cc]hecksum")
    data.unlink()
    refused(tmp_path, "bert_model.ckpt cannot be read|No such file")
