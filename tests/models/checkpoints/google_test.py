"""Google's checkpoints: names written out by hand, both kinds, both ways."""

import json
import os

import numpy as np
import pytest

from tf_pof.models import checkpoints
from tf_pof.models.checkpoints import google
from tf_pof.models.checkpoints import keras_nlp
from tf_pof.models.resolve import resolve

import tensorflow as tf

_VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"


@pytest.mark.parametrize("kind", ["tf1", "tf2"])
@pytest.mark.parametrize("activation", ["gelu", "gelu_new"])
def test_round_trip_is_exact(tiny, batch, tmp_path, kind, activation):
    model = tiny("pretraining", activation=activation)
    prefix = google.save(model, tmp_path / "out", kind)
    assert checkpoints.kind_of(prefix) == "google"
    loaded = google.load(os.path.dirname(prefix))
    assert loaded.config == model.config and loaded.new_weights == ()
    for key, value in model(batch).items():
        np.testing.assert_array_equal(loaded(batch)[key], value)
    other = tiny("pretraining", seed=4, activation=activation)
    assert checkpoints.load_into(other, prefix) == ()
    np.testing.assert_array_equal(
        other(batch)["mlm_logits"], model(batch)["mlm_logits"]
    )


def test_tf1_names_and_layouts_are_googles(tiny, tmp_path):
    model = tiny("pretraining")
    reader = tf.train.load_checkpoint(google.save(model, tmp_path))
    shapes = reader.get_variable_to_shape_map()
    # As listed in the released uncased_L-12_H-768_A-12/bert_model.ckpt.
    assert shapes["bert/embeddings/token_type_embeddings"] == [2, 16]
    assert shapes["bert/encoder/layer_1/intermediate/dense/kernel"] == [16, 24]
    assert shapes["cls/seq_relationship/output_weights"] == [2, 16]
    assert shapes["cls/predictions/transform/LayerNorm/beta"] == [16]
    assert shapes["cls/predictions/output_bias"] == [60]
    assert len(shapes) == 5 + 2 * 16 + 2 + 5 + 2
    np.testing.assert_array_equal(
        reader.get_tensor("cls/seq_relationship/output_weights"),
        model.get_layer("nsp_logits").kernel.numpy().T,
    )
    np.testing.assert_array_equal(
        reader.get_tensor("bert/encoder/layer_0/attention/self/key/kernel"),
        model.get_layer("layer_0_key").kernel,
    )


def test_tf2_names_and_layouts_are_the_model_gardens(tiny, tmp_path):
    model = tiny("pretraining")
    reader = tf.train.load_checkpoint(google.save(model, tmp_path, "tf2"))
    # As the released checkpoints have it; attention is rank 3.
    layer = "encoder/layer_with_weights-5/_attention_layer"
    np.testing.assert_array_equal(
        reader.get_tensor(f"{layer}/_query_dense/kernel{_VALUE}"),
        model.get_layer("layer_1_query").kernel.numpy().reshape(16, 4, 4),
    )
    np.testing.assert_array_equal(
        reader.get_tensor(f"{layer}/_output_dense/kernel{_VALUE}"),
        model.get_layer("layer_1_attention_output")
        .kernel.numpy()
        .reshape(4, 4, 16),
    )
    pooler = model.get_layer("pooler").kernel
    for name in (
        "encoder/layer_with_weights-6/kernel",
        "next_sentence..pooler_dense/kernel",
    ):
        np.testing.assert_array_equal(reader.get_tensor(name + _VALUE), pooler)


def test_newer_and_older_tf2_names_are_read(tiny, batch, tmp_path):
    model = tiny("pretraining")
    prefix = google.save(model, tmp_path, "tf2")
    reader = tf.train.load_checkpoint(prefix)
    renamed = {}
    for name in reader.get_variable_to_shape_map():
        value, new = reader.get_tensor(name), name
        for old, other in (
            ("encoder/layer_with_weights-0/emb", "masked_lm/embedding_table"),
            ("layer_with_weights-1/", "_position_embedding_layer/"),
            ("layer_with_weights-3/", "_embedding_norm_layer/"),
            ("layer_with_weights-4/", "_transformer_layers/0/"),
            ("_attention_layer/_output_dense", "_attention_output_dense"),
            ("masked_lm/bias", "masked_lm/output_bias.Sbias"),
        ):
            new = new.replace(old, other)
        new = new.replace("embedding_tableeddings", "embedding_table")
        # A pooler that the next-sentence head does not use is untrained.
        value = value * 0 if "layer_with_weights-6" in new else value
        renamed[new] = value
    renamed["save_counter" + _VALUE] = np.int64(7)
    tf.raw_ops.SaveV2(
        prefix=prefix,
        tensor_names=list(renamed),
        shape_and_slices=[""] * len(renamed),
        tensors=list(renamed.values()),
    )
    loaded = google.load(prefix)
    assert loaded.new_weights == ()
    for key, value in model(batch).items():
        np.testing.assert_array_equal(loaded(batch)[key], value)


def test_encoder_only_and_optimizer_slots(tiny, batch, tmp_path):
    model = tiny(activation="gelu_new")
    prefix = google.save(model, tmp_path)
    reader = tf.train.load_checkpoint(prefix)
    names = reader.get_variable_to_shape_map()
    tensors = {name: reader.get_tensor(name) for name in names}
    tensors["bert/pooler/dense/bias/adam_m"] = np.zeros(16, np.float32)
    tensors["global_step"] = np.int64(9)
    tf.raw_ops.SaveV2(
        prefix=prefix,
        tensor_names=list(tensors),
        shape_and_slices=[""] * len(tensors),
        tensors=list(tensors.values()),
    )
    # Google's own config knows one GELU.
    config_path = tmp_path / "bert_config.json"
    config = json.loads(config_path.read_text())
    del config["tf_pof_activation"]
    config_path.write_text(json.dumps(config))
    loaded = google.load(prefix, head="pretraining")
    assert loaded.config.activation == "gelu_new"
    assert len(loaded.new_weights) == 7
    np.testing.assert_array_equal(
        loaded(batch)["pooled_output"], model(batch)["pooled_output"]
    )


def _touch(folder, *names):
    for name in names:
        (folder / f"{name}.index").write_text("")


def test_the_checkpoint_of_a_folder_is_tensorflows_latest(tmp_path):
    folder = tmp_path / "bert[v1] *"
    folder.mkdir()
    assert google.find(str(folder)) is None
    _touch(folder, "model.ckpt-200")
    assert google.find(str(folder)) == str(folder / "model.ckpt-200")
    # By number, not by name.
    _touch(folder, "model.ckpt-0", "model.ckpt-1000", "model.ckpt-30")
    assert google.find(str(folder)) == str(folder / "model.ckpt-1000")
    state = folder / "checkpoint"
    # What TensorFlow's file says wins, wherever the folder was then.
    for path in ("model.ckpt-30", "/gone/model.ckpt-30"):
        state.write_text(f'model_checkpoint_path: "{path}"\n')
        assert google.find(str(folder)) == str(folder / "model.ckpt-30")
    for contents in (b"x y", b"\xff\xfe", b'model_checkpoint_path: "gone"'):
        state.write_bytes(contents)
        assert google.find(str(folder)) == str(folder / "model.ckpt-1000")
    for other in ("model.ckpt", "bert_model.ckpt-7", "model.ckpt-x"):
        _touch(folder, other)
        with pytest.raises(ValueError, match="model.ckpt-0, .*name one, such"):
            google.find(str(folder))
        (folder / f"{other}.index").unlink()


def test_latest_is_that_of_tensorflow(tiny, tmp_path):
    """tf.train.latest_checkpoint, in a folder without special characters."""
    prefix = google.save(tiny(), tmp_path)
    checkpoint = tf.train.Checkpoint(v=tf.Variable(0))
    manager = tf.train.CheckpointManager(
        checkpoint, str(tmp_path), 3, checkpoint_name="bert_model.ckpt"
    )
    for step in (9, 10, 2):
        manager.save(step)
        latest = tf.train.latest_checkpoint(str(tmp_path))
        assert google.find(str(tmp_path)) == latest == f"{prefix}-{step}"


@pytest.mark.parametrize("name", ["bert[v1]", "a b*", "x?[!y]{1,2}", "ü"])
def test_no_character_of_a_path_is_special(tiny, batch, tmp_path, name):
    model = tiny(activation="gelu_new")
    decoy = tiny(seed=3, activation="gelu_new")
    google.save(decoy, tmp_path / "bertv")  # What bert[v1] is as a pattern.
    folder = tmp_path / name
    for write, kind in (
        (google.save, "google"),
        (keras_nlp.save, "keras_nlp"),
    ):
        write(model, str(folder / kind))
        loaded = resolve(str(folder / kind))
        np.testing.assert_array_equal(
            loaded(batch)["pooled_output"], model(batch)["pooled_output"]
        )


def test_writers_leave_what_is_not_theirs(tiny, tmp_path):
    """Nor do they follow links that stand where a temporary file would."""
    model = tiny(activation="gelu_new")
    vocab = tmp_path / "v.txt"
    vocab.write_text("[PAD]\n")
    model.vocab_file = str(vocab)
    notes = tmp_path / "notes"
    notes.write_text("mine")
    folder = tmp_path / "out"
    folder.mkdir()
    links = ["tmp.model.weights.h5", "config.json.tmp", "metadata.json.tmp"]
    links += ["bert_config.json.tmp", "vocab.txt.tmp"]
    for link in links:
        (folder / link).symlink_to(notes)
    (folder / "bert_model.ckpt.notes").write_text("mine")
    for _ in range(2):
        google.save(model, str(folder))
        keras_nlp.save(model, str(folder))
    assert notes.read_text() == "mine"
    assert (folder / "bert_model.ckpt.notes").read_text() == "mine"
    assert sorted(os.listdir(folder)) == sorted(
        links
        + ["assets", "bert_config.json", "bert_model.ckpt.index"]
        + ["bert_model.ckpt.data-00000-of-00001", "bert_model.ckpt.notes"]
        + ["config.json", "metadata.json", "model.weights.h5", "vocab.txt"]
    )


def test_a_write_that_fails_leaves_the_older_files(tiny, tmp_path, monkeypatch):
    for write in (google.save, keras_nlp.save):
        folder = tmp_path / write.__module__
        write(tiny(activation="gelu_new"), str(folder))
        before = {p.name: p.read_bytes() for p in folder.iterdir()}

        def full(*arguments):
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            with pytest.raises(OSError, match="No space left"):
                write(tiny(seed=1, activation="gelu_new"), str(folder))
        assert before == {p.name: p.read_bytes() for p in folder.iterdir()}


def test_errors(tiny, tmp_path):
    prefix = google.save(tiny("pretraining"), tmp_path / "a")
    three = tiny("pretraining", num_layers=3)
    with pytest.raises(ValueError, match="no tensor 'bert/encoder/layer_2/"):
        google.load_into(three, prefix)
    one = tiny("pretraining", num_layers=1)
    with pytest.raises(ValueError, match="extra tensor 'bert/encoder/layer_1"):
        google.load_into(one, prefix)
    wide = tiny("pretraining", intermediate_dim=32)
    before = wide.get_weights()
    shapes = r"shape \[16, 24\].*expected \[16, 32\]"
    with pytest.raises(ValueError, match=shapes):
        google.load_into(wide, prefix)
    for ours, old in zip(wide.get_weights(), before):
        np.testing.assert_array_equal(ours, old)
    with pytest.raises(ValueError, match="no DistilBERT"):
        google.save(tiny(family="distilbert"), tmp_path / "b")
    os.remove(tmp_path / "a" / "bert_config.json")
    with pytest.raises(ValueError, match="need their bert_config.json"):
        google.load(prefix)
