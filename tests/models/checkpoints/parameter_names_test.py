"""Names that tools leave in state dicts are read by one rule, with a word."""

import logging
import os
import re

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import tf_pof
from tf_pof.models.checkpoints import parameter_names

_WORDS = "embeddings.word_embeddings.weight"


@pytest.mark.parametrize(
    "stored, plain",
    [
        (f"module.bert.{_WORDS}", f"bert.{_WORDS}"),
        (f"_orig_mod.bert.{_WORDS}", f"bert.{_WORDS}"),
        (f"module._orig_mod.bert.{_WORDS}", f"bert.{_WORDS}"),
        (f"0.auto_model.{_WORDS}", f"bert.{_WORDS}"),
        (f"auto_model.{_WORDS}", f"bert.{_WORDS}"),
        (f"model.{_WORDS}", f"bert.{_WORDS}"),
        (f"model.bert.{_WORDS}", f"bert.{_WORDS}"),
        (f"module.model.model.bert.{_WORDS}", f"bert.{_WORDS}"),
        (f"model.distilbert.{_WORDS}", f"distilbert.{_WORDS}"),
        (
            "bert.encoder.layer.0._orig_mod.output._fsdp_wrapped_module."
            "LayerNorm.gamma",
            "bert.encoder.layer.0.output.LayerNorm.weight",
        ),
        ("transformer.layer.0.ffn.lin1.bias",) * 2,
        ("model.classifier.weight", "classifier.weight"),
        ("cls.predictions.decoder.bias", "cls.predictions.bias"),
        # No tensor of a BERT, and no wrapper either: refused later, by name.
        ("encoder2.bert.embeddings.LayerNorm.beta",) * 2,
        ("2.linear.weight",) * 2,
    ],
)
def test_the_rule(stored, plain):
    expected = plain
    if plain.startswith("transformer."):
        expected = f"distilbert.{plain}"
    if plain.startswith("encoder2."):
        expected = plain.replace(".beta", ".bias")
    assert parameter_names.plain([stored], "x") == {stored: expected}


@pytest.mark.parametrize(
    "name",
    [
        "bert.embeddings.position_ids",
        "module.embeddings.token_type_ids",
        "loss_fct.weight",
        "model.criterion.weight",
        "ce_loss.weight",
        "focalLoss.pos_weight",
        "loss.log_vars.weight",
    ],
)
def test_buffers_are_left_out(name):
    assert parameter_names.plain([name], "x") == {}


def test_two_names_of_one_tensor_are_refused():
    sentence = "x holds the tensor 'classifier.bias' twice"
    with pytest.raises(ValueError, match=sentence):
        parameter_names.plain(["classifier.bias", "model.classifier.bias"], "x")


@pytest.mark.parametrize("family", ["bert", "distilbert"])
def test_a_wrapped_classifier_is_read_with_one_warning(
    tiny, batch, tmp_path, caplog, family
):
    model = tiny("classifier", family, num_labels=3)
    path = tf_pof.save(model, tmp_path / "plain")
    weights = os.path.join(path, "model.safetensors")
    wrapped = {f"module.model.{k}": v for k, v in load_file(weights).items()}
    wrapped["module.loss_fct.weight"] = np.ones(3, np.float32)
    prefix = f"module.model.{family}.embeddings"
    wrapped[f"{prefix}.position_ids"] = np.arange(20)[None]
    save_file(wrapped, weights)
    with caplog.at_level(logging.WARNING):
        loaded = tf_pof.load(path)
    ours = [r for r in caplog.records if r.name.endswith("parameter_names")]
    assert len(ours) == 1
    message = ours[0].getMessage()
    assert re.search(r"\(module\.model\.(\S+) is read as \1\)", message)
    assert "left out (module.loss_fct.weight)" in message
    assert loaded.new_weights == ()
    expected = model(batch)["logits"]
    np.testing.assert_array_equal(loaded(batch)["logits"], expected)
    caplog.clear()
    tf_pof.load(tf_pof.save(loaded, tmp_path / "again"))
    assert not [r for r in caplog.records if r.name.endswith("parameter_names")]


def test_an_mlm_decoder_that_is_not_tied_is_refused(tiny, tmp_path):
    path = tf_pof.save(tiny("pretraining"), tmp_path / "m")
    weights = os.path.join(path, "model.safetensors")
    tensors = load_file(weights)
    copies = {
        "cls.predictions.decoder.weight": f"bert.{_WORDS}",
        "cls.predictions.decoder.bias": "cls.predictions.bias",
    }
    tied = {copy: tensors[original] for copy, original in copies.items()}
    save_file({**tensors, **tied}, weights)
    assert tf_pof.load(path).new_weights == ()
    for copy, original in copies.items():
        save_file({**tensors, copy: tensors[original] + 1}, weights)
        with pytest.raises(ValueError, match=f"{copy}' differs from"):
            tf_pof.load(path)
