"""Model folders: round trip, foreign folders, atomicity, errors."""

import json
import logging
import os
import types

import numpy as np
import pytest
import safetensors.numpy
import safetensors.tensorflow

import tf_pof
from tf_pof._keras import keras
from tf_pof.data.tokenizer_settings import TokenizerSettings
from tf_pof.models import bert
from tf_pof.models import folder
from tf_pof.models import weights

import tensorflow as tf


def _rewrite(path, change):
    """Applies `change` to the tensors of a folder."""
    path = os.path.join(path, "model.safetensors")
    tensors = safetensors.numpy.load_file(path)
    change(tensors)
    safetensors.numpy.save_file(tensors, path, metadata={"format": "pt"})


def _make_foreign(path):
    """Turns a folder of ours into one that Hugging Face could have written."""
    path = os.path.join(path, "config.json")
    with open(path) as file:
        config = json.load(file)
    del config["tf_pof"]
    with open(path, "w") as file:
        json.dump(config, file)


@pytest.mark.parametrize("family", ["bert", "distilbert"])
@pytest.mark.parametrize("head", bert.HEADS)
@pytest.mark.parametrize("foreign", [False, True])
def test_round_trip_is_exact(tiny, batch, tmp_path, family, head, foreign):
    model = tiny(head, family, num_labels=3, dropout=0.25)
    path = tf_pof.save(model, tmp_path / "model")
    if foreign:
        _make_foreign(path)
    loaded = tf_pof.load(path)
    assert loaded.head == head and loaded.config == model.config
    assert loaded.new_weights == ()
    expected, outputs = model(batch), loaded(batch)
    assert set(outputs) == set(expected)
    for key in expected:
        np.testing.assert_array_equal(outputs[key], expected[key])


def test_extras_survive(tiny, tmp_path):
    vocab = tmp_path / "words.txt"
    vocab.write_bytes("[PAD]\nä\n".encode())
    tensors = {"layer_0_query/kernel": {"sparsity": 0.9}}
    sparsity = {"tensors": tensors, "pattern": "1x4"}
    model = tiny("classifier", num_labels=3)
    model.labels = ("yes", "no", "maybe")
    path = tf_pof.save(model, tmp_path / "a", vocab, sparsity)
    again = tf_pof.load(tf_pof.save(tf_pof.load(path), tmp_path / "b"))
    assert open(again.vocab_file, "rb").read() == vocab.read_bytes()
    assert dict(again.sparsity) == sparsity
    assert again.labels == ("yes", "no", "maybe")
    assert tf_pof.load(path, dropout=0.0).config.dropout == 0
    # Tracking must not choke on the attributes.
    tf.train.Checkpoint(model=again).write(str(tmp_path / "ckpt"))


def test_config_and_tensors_are_hugging_faces(tiny, tmp_path):
    path = tf_pof.save(tiny("pretraining"), tmp_path / "model")
    with open(os.path.join(path, "config.json")) as file:
        config = json.load(file)
    assert config["architectures"] == ["BertForPreTraining"]
    assert config["model_type"] == "bert" and config["hidden_size"] == 16
    tensors = safetensors.numpy.load_file(f"{path}/model.safetensors")
    shape = tensors["bert.encoder.layer.1.intermediate.dense.weight"].shape
    assert shape == (24, 16)  # [out, in]
    assert "cls.predictions.decoder.weight" not in tensors  # tied
    headless = tf_pof.save(tiny(), tmp_path / "headless")
    names = safetensors.numpy.load_file(f"{headless}/model.safetensors")
    assert "pooler.dense.bias" in names


def test_a_missing_head_is_new_logged_and_listed(tiny, batch, tmp_path, caplog):
    model = tiny()
    path = tf_pof.save(model, tmp_path / "model")
    with caplog.at_level(logging.WARNING):
        loaded = tf_pof.load(path, head="pretraining")
    new = {"nsp_logits/kernel", "nsp_logits/bias", "mlm_dense/kernel"}
    assert new < set(loaded.new_weights) and len(loaded.new_weights) == 7
    assert "mlm_dense/kernel" in caplog.text and path in caplog.text
    np.testing.assert_array_equal(
        loaded(batch)["sequence_output"], model(batch)["sequence_output"]
    )


@pytest.mark.parametrize("lowercase", [True, False])
def test_settings_of_the_tokenizer_are_kept(tiny, tmp_path, lowercase):
    model = tiny()
    loaded = tf_pof.load(tf_pof.save(model, tmp_path / "a"))
    assert loaded.tokenizer_settings is None
    settings = TokenizerSettings(lowercase, not lowercase, False)
    model.tokenizer_settings = settings
    path = tf_pof.save(model, tmp_path / "b")
    with open(os.path.join(path, "tokenizer_config.json")) as file:
        assert json.load(file) == {
            "do_lower_case": lowercase,
            "strip_accents": not lowercase,
            "tokenize_chinese_chars": False,
        }
    assert tf_pof.load(path).tokenizer_settings == settings


@pytest.mark.parametrize("family", ["bert", "distilbert"])
def test_a_head_for_other_labels_is_new(tiny, tmp_path, family):
    model = tiny("classifier", family, num_labels=3)
    model.labels = ("no", "perhaps", "yes")
    tf_pof.save(model, tmp_path / "m")
    loaded = tf_pof.load(tmp_path / "m", head="classifier", num_labels=2)
    assert "classifier/kernel" in loaded.new_weights
    assert loaded.get_layer("classifier").kernel.shape[1] == 2
    assert loaded.labels is None
    kept, got = weights.variables(model), weights.variables(loaded)
    path = "layer_0_query/kernel"
    np.testing.assert_array_equal(got[path].numpy(), kept[path].numpy())


def test_an_unwanted_head_is_left_out(tiny, batch, tmp_path):
    model = tiny("pretraining")
    path = tf_pof.save(model, tmp_path / "model")
    loaded = tf_pof.load(path, head="span")
    assert loaded.new_weights == ("span_logits/kernel", "span_logits/bias")
    np.testing.assert_array_equal(
        loaded(batch)["pooled_output"], model(batch)["pooled_output"]
    )


def test_foreign_folder_without_pooler(tiny, tmp_path):
    model = tiny("span", pooler=False)
    path = tf_pof.save(model, tmp_path / "model")
    _make_foreign(path)
    assert not tf_pof.load(path).config.pooler
    classifier = tf_pof.load(path, head="classifier")
    assert "pooler/kernel" in classifier.new_weights


QUERY = "bert.encoder.layer.1.attention.self.query.weight"


@pytest.mark.parametrize("foreign", [False, True])
@pytest.mark.parametrize(
    "change, message",
    [
        (lambda t: t.pop(QUERY), rf"no tensor '{QUERY}'.*shape \[16, 16\]"),
        (
            lambda t: t.update({QUERY: t[QUERY][:, :9].copy()}),
            rf"'{QUERY}' has shape \[16, 9\].*expected \[16, 16\]",
        ),
        (
            lambda t: t.update({"bert.surprise": np.zeros(2, np.float32)}),
            "extra tensor 'bert.surprise'",
        ),
        (
            lambda t: t.pop("cls.predictions.transform.dense.bias"),
            r"no tensor 'cls.predictions.transform.dense.bias'",
        ),
        (
            lambda t: t.update(
                {
                    "cls.predictions.decoder.weight": np.zeros(
                        (60, 16), np.float32
                    )
                }
            ),
            "must be tied",
        ),
    ],
)
def test_errors_name_the_tensor_and_the_file(
    tiny, tmp_path, change, message, foreign
):
    path = tf_pof.save(tiny("pretraining"), tmp_path / "model")
    if foreign:
        _make_foreign(path)
    _rewrite(path, change)
    with pytest.raises(ValueError, match=message) as error:
        tf_pof.load(path)
    assert f"{path}/model.safetensors" in str(error.value)


def test_known_buffers_and_old_names_are_understood(tiny, batch, tmp_path):
    model = tiny("pretraining")
    path = tf_pof.save(model, tmp_path / "model")

    def change(tensors):
        tensors["bert.embeddings.position_ids"] = np.arange(20)[None]
        words = tensors["bert.embeddings.word_embeddings.weight"]
        tensors["cls.predictions.decoder.weight"] = words.copy()
        norm = "bert.embeddings.LayerNorm"
        tensors[f"{norm}.gamma"] = tensors.pop(f"{norm}.weight")
        tensors[f"{norm}.beta"] = tensors.pop(f"{norm}.bias")

    _rewrite(path, change)
    np.testing.assert_array_equal(
        tf_pof.load(path)(batch)["mlm_logits"], model(batch)["mlm_logits"]
    )


def test_sharded_and_bfloat16_weights_are_read(tiny, tmp_path):
    model = tiny()
    path = tf_pof.save(model, tmp_path / "model")
    whole = os.path.join(path, "model.safetensors")
    tensors = safetensors.numpy.load_file(whole)
    names = sorted(tensors)
    shards = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for file, part in shards.items():
        safetensors.tensorflow.save_file(
            {n: tf.cast(tensors[n], tf.bfloat16) for n in part},
            os.path.join(path, file),
        )
    with open(f"{whole}.index.json", "w") as file:
        weight_map = {n: f for f, part in shards.items() for n in part}
        json.dump({"weight_map": weight_map}, file)
    os.remove(whole)
    for ours, theirs in zip(
        tf_pof.load(path).get_weights(), model.get_weights(), strict=True
    ):
        expected = tf.cast(tf.cast(theirs, tf.bfloat16), tf.float32)
        np.testing.assert_array_equal(ours, expected)


class _Wrapper(keras.layers.Wrapper):
    """What a pruning wrapper shows: `.layer` and `.pruning_vars`."""

    def build(self, input_shape):
        super().build(input_shape)
        mask = np.arange(self.layer.kernel.shape.num_elements()) % 2
        self.mask = self.add_weight(
            "mask", self.layer.kernel.shape, trainable=False
        )
        self.mask.assign(mask.reshape(self.mask.shape))
        self.pruning_vars = [(self.layer.kernel, self.mask, None)]

    def call(self, inputs):
        return self.layer(inputs)


def test_masks_are_applied_on_saving(tiny, tmp_path):
    model = tiny()

    def wrap(layer):
        if layer.name != "layer_0_query":
            return layer.__class__.from_config(layer.get_config())
        inner = keras.layers.Dense.from_config(layer.get_config())
        return _Wrapper(inner, name="pruned_layer_0_query")

    clone = keras.models.clone_model(model, clone_function=wrap)
    bert.describe(clone, model.config, model.head)
    for path, variable in weights.variables(clone).items():
        variable.assign(weights.variables(model)[path])
    loaded = tf_pof.load(tf_pof.save(clone, tmp_path / "model"))
    dense = model.get_layer("layer_0_query").kernel.numpy()
    mask = (np.arange(256) % 2).reshape(16, 16)
    kernel = loaded.get_layer("layer_0_query").kernel.numpy()
    np.testing.assert_array_equal(kernel, dense * mask)
    assert not np.signbit(kernel[mask == 0]).any()


def test_unreadable_folders_give_one_sentence(tiny, tmp_path):
    with pytest.raises(ValueError, match="'nowhere' is neither a model"):
        tf_pof.load("nowhere")
    path = tf_pof.save(tiny(), tmp_path / "model")
    with open(f"{path}/model.safetensors", "r+b") as file:
        file.truncate(1000)
    with pytest.raises(ValueError, match="model.safetensors cannot be read"):
        tf_pof.load(path)
    os.remove(f"{path}/model.safetensors")
    with pytest.raises(ValueError, match="holds no weights"):
        tf_pof.load(path)
    with open(f"{path}/config.json", "w") as file:
        file.write('{"model_type": "gpt2"}')
    with pytest.raises(ValueError, match="gpt2"):
        tf_pof.load(path)
    with open(f"{path}/config.json", "w") as file:
        file.write("{")
    with pytest.raises(ValueError, match="not valid JSON"):
        tf_pof.load(path)


def test_bundled_models_are_found_by_name(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(folder, "_ZOO", str(tmp_path))
    tf_pof.save(tiny(), tmp_path / "some_90")
    assert folder.bundled() == ["some_90"]
    assert tf_pof.load("some_90").config.hidden_dim == 16


def test_sparsity_is_not_tracked(tiny, tmp_path):
    path = tf_pof.save(tiny(), tmp_path / "m", sparsity={"pattern": "2:4"})
    assert isinstance(tf_pof.load(path).sparsity, types.MappingProxyType)


def _sparse_folder(tiny, path):
    """A folder of a model with 3/4 zeros in a kernel and 1/2 in another."""
    model = tiny("classifier")
    tensors = {}
    for name, zeros in (("layer_0_query", 192), ("layer_1_output", 192)):
        kernel = model.get_layer(name).kernel
        values = kernel.numpy()
        values.reshape(-1)[:zeros] = 0
        kernel.assign(values)
        size = values.size  # 16 x 16 and 24 x 16
        tensors[f"{name}/kernel"] = {
            "shape": list(values.shape),
            "size": size,
            "zeros": zeros,
            "sparsity": zeros / size,
            "pattern": "unstructured",
        }
    sparsity = {
        "sparsity": 384 / 640,
        "zeros": 384,
        "size": 640,
        "tensors": tensors,
        "provenance": {"data": "text"},
    }
    return tf_pof.save(model, path, sparsity=sparsity), sparsity


def test_zeros_that_stayed_are_saved_as_they_were(tiny, tmp_path, caplog):
    path, sparsity = _sparse_folder(tiny, tmp_path / "a")
    again = tf_pof.save(tf_pof.load(path), tmp_path / "b")
    assert dict(tf_pof.load(again).sparsity) == sparsity
    assert not caplog.records


def test_lost_zeros_are_told_and_not_claimed(tiny, tmp_path, caplog):
    path, sparsity = _sparse_folder(tiny, tmp_path / "a")
    model = tf_pof.load(path)
    kernel = model.get_layer("layer_0_query").kernel
    values = kernel.numpy()
    values.reshape(-1)[:128] = 1e-9
    kernel.assign(values)
    with caplog.at_level(logging.WARNING):
        again = tf_pof.save(model, tmp_path / "b")
    # 192 - 128 of 256, and (64 + 192) of 640.
    assert "has lost zeros (60.0 % -> 40.0 %): call tf_pof.lock" in caplog.text
    found = dict(tf_pof.load(again).sparsity)
    expected = dict(sparsity, zeros=256, sparsity=0.4)
    query = dict(
        sparsity["tensors"]["layer_0_query/kernel"], zeros=64, sparsity=0.25
    )
    expected["tensors"] = dict(
        sparsity["tensors"], **{"layer_0_query/kernel": query}
    )
    assert found == expected
