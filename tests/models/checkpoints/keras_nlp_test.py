"""keras-nlp 0.12.1's own backbones, both ways, in every hidden state."""

import os

import h5py
import numpy as np
import pytest

import tf_pof
from tf_pof._keras import keras
from tf_pof.models import bert
from tf_pof.models import checkpoints
from tf_pof.models.checkpoints import keras_nlp as ours


def _hidden_states(backbone, batch):
    """keras-nlp has no such output: read its layers' outputs."""
    layers = [backbone.get_layer("embeddings_dropout")] + [
        backbone.get_layer(f"transformer_layer_{i}")
        for i in range(backbone.num_layers)
    ]
    probe = keras.Model(backbone.input, [layer.output for layer in layers])
    return probe({key: batch[key] for key in backbone.input})


def _compare(model, backbone, batch):
    expected = _hidden_states(backbone, batch)
    got = bert.with_internals(model)(batch)["hidden_states"]
    assert len(got) == len(expected)
    for mine, theirs in zip(got, expected):
        assert np.abs(theirs).max() > 0.5  # or the comparison says nothing
        np.testing.assert_allclose(mine, theirs, atol=1e-5)


@pytest.mark.parametrize(
    "family, activation",
    [("bert", "gelu_new"), ("bert", "gelu"), ("distilbert", "gelu")],
)
def test_objects_both_ways(tiny, batch, family, activation):
    model = tiny(family=family, activation=activation)
    backbone = ours.to_backbone(model)
    _compare(model, backbone, batch)
    back = ours.from_backbone(backbone)
    assert back.config.activation == activation
    for mine, theirs in zip(
        back.get_weights(), model.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(mine, theirs)
    other = tiny("pretraining", family, seed=3, activation=activation)
    ours.load_into(other, backbone)
    np.testing.assert_allclose(
        other(batch)["sequence_output"],
        model(batch)["sequence_output"],
        atol=1e-6,
    )


def test_real_weights_on_real_tokens(minilm_folder, golden):
    batch = {
        key: golden[key]
        for key in ("token_ids", "segment_ids", "padding_mask")
    }
    model = tf_pof.load(minilm_folder, activation="gelu_new")
    backbone = ours.to_backbone(model)
    _compare(model, backbone, batch)
    _compare(ours.from_backbone(backbone), backbone, batch)


@pytest.mark.parametrize("family", ["bert", "distilbert"])
def test_preset_is_read_by_keras_nlp_and_by_us(tiny, batch, tmp_path, family):
    import keras_nlp

    activation = "gelu_new" if family == "bert" else "gelu"
    model = tiny(family=family, activation=activation)
    vocab = tmp_path / "v.txt"
    vocab.write_text("[PAD]\n")
    model.vocab_file = str(vocab)
    path = ours.save(model, str(tmp_path / "preset"))
    assert checkpoints.kind_of(path) == "keras_nlp"
    backbone = keras_nlp.models.Backbone.from_preset(path)
    _compare(model, backbone, batch)
    loaded = ours.load(path)
    _compare(loaded, backbone, batch)
    assert open(loaded.vocab_file).read() == "[PAD]\n"
    assert not [n for n in os.listdir(path) if "tmp" in n]


def test_preset_written_by_keras_3(keras3_preset):
    with np.load(os.path.join(keras3_preset, "outputs.npz")) as file:
        expected = dict(file)
    outputs = ours.load(keras3_preset)(expected)
    for key in ("sequence_output", "pooled_output"):
        np.testing.assert_allclose(outputs[key], expected[key], atol=1e-5)


def test_preset_errors_name_the_tensor(tiny, tmp_path):
    path = ours.save(tiny(activation="gelu_new"), str(tmp_path / "p"))
    with h5py.File(os.path.join(path, "model.weights.h5"), "a") as file:
        layer = file["layers/transformer_encoder_1"]
        del layer["_feedforward_output_dense/vars/1"]
    with pytest.raises(
        ValueError, match="transformer_layer_1/_feedforward_output_dense/1"
    ):
        ours.load(path)


def test_what_keras_nlp_cannot_hold_is_refused(tiny):
    with pytest.raises(ValueError, match="has a pooler"):
        ours.to_backbone(tiny(pooler=False))
    with pytest.raises(ValueError, match="epsilon"):
        ours.to_backbone(tiny(layer_norm_epsilon=1e-5))
    with pytest.raises(ValueError, match="not one of BertBackbone"):
        ours.from_backbone(tiny())
