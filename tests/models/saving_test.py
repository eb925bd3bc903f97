"""Saving replaces a model's files as a set, and nothing else."""

import json
import os

import numpy as np
import pytest

import tf_pof
from tf_pof._keras import keras
from tf_pof.models import bert, saving

OWN = {"config.json", "model.safetensors", "vocab.txt"}


def first_weight(path):
    return tf_pof.load(path).get_weights()[0]


def add_what_others_keep(path):
    """Files that other tools and people leave in a model folder."""
    kept = {
        "tokenizer.json": "{}",
        "README.md": "# Our model",
        "notes.txt": "years of work",
        "pytorch_model.bin": "weights",
    }
    for name, text in kept.items():
        (path / name).write_text(text)
    for name in ("1_Pooling", "src"):
        (path / name).mkdir()
        (path / name / "config.json").write_text("mine")
        kept[f"{name}/config.json"] = "mine"
    return kept


def test_files_of_others_stay_when_a_model_is_replaced(tiny, tmp_path):
    path = tmp_path / "model"
    tf_pof.save(tiny(), path)
    kept = add_what_others_keep(path)
    new = tiny(seed=9)
    tf_pof.save(new, path)
    assert {name: (path / name).read_text() for name in kept} == kept
    np.testing.assert_array_equal(first_weight(path), new.get_weights()[0])


def test_the_current_folder_takes_a_model_beside_what_it_holds(
    tiny, tmp_path, monkeypatch
):
    kept = add_what_others_keep(tmp_path)
    monkeypatch.chdir(tmp_path)
    inode = os.stat(tmp_path).st_ino
    for seed in (1, 2):
        model = tiny(seed=seed)
        tf_pof.save(model, ".")
        np.testing.assert_array_equal(first_weight("."), model.get_weights()[0])
    assert {name: (tmp_path / name).read_text() for name in kept} == kept
    assert os.stat(tmp_path).st_ino == inode


def test_neighbours_with_names_of_backups_stay(tiny, tmp_path):
    for name in ("x.old", "x.tmp", "x.partial"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine").write_text("mine")
    tf_pof.save(tiny(), tmp_path / "x")
    tf_pof.save(tiny(), tmp_path / "x")
    for name in ("x.old", "x.tmp", "x.partial"):
        assert (tmp_path / name / "mine").read_text() == "mine"
    assert len(os.listdir(tmp_path)) == 4


def test_what_an_older_model_of_ours_had_more_is_removed(tiny, tmp_path):
    path = tmp_path / "m"
    tf_pof.save(tiny(), path, sparsity={"pattern": "2:4"}, compact=True)
    tf_pof.save(tiny(), path)
    assert sorted(os.listdir(path)) == ["config.json", "model.safetensors"]


def test_a_config_that_is_no_models_is_not_replaced(tiny, tmp_path):
    (tmp_path / "config.json").write_text('{"port": 8080}')
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ValueError, match="config.json, but is not a model"):
        tf_pof.save(tiny(), tmp_path)
    assert json.loads((tmp_path / "config.json").read_text()) == {"port": 8080}
    assert sorted(os.listdir(tmp_path)) == ["config.json", "thesis.tex"]


def test_a_vocabulary_that_is_no_models_is_not_replaced(tiny, tmp_path):
    (tmp_path / "vocab.txt").write_text("my words")
    with pytest.raises(ValueError, match="vocab.txt, but is not a model"):
        tf_pof.save(tiny(), tmp_path)
    assert os.listdir(tmp_path) == ["vocab.txt"]


def test_a_file_in_the_place_of_the_folder_stays(tiny, tmp_path):
    (tmp_path / "model").write_text("mine")
    with pytest.raises(ValueError, match="is a file"):
        tf_pof.save(tiny(), tmp_path / "model")
    assert (tmp_path / "model").read_text() == "mine"


def test_a_failed_save_leaves_the_old_model(tiny, tmp_path, monkeypatch):
    model = tiny()
    path = tf_pof.save(model, tmp_path / "model")
    before = sorted(os.listdir(path))

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        tf_pof.save(tiny(seed=9), path)
    monkeypatch.undo()
    np.testing.assert_array_equal(first_weight(path), model.get_weights()[0])
    assert os.listdir(tmp_path) == ["model"]
    assert sorted(os.listdir(path)) == before


def test_loading_finishes_what_a_crash_cut_short(tiny, tmp_path, monkeypatch):
    path = tf_pof.save(tiny(), tmp_path / "model")
    new, replace = tiny(seed=9), os.replace

    def crash(source, target):
        # The note has its name; the config is the first file of the set.
        if os.path.basename(target) == "model.safetensors":
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(os, "replace", crash)
    with pytest.raises(KeyboardInterrupt):
        tf_pof.save(new, path)
    monkeypatch.undo()
    np.testing.assert_array_equal(first_weight(path), new.get_weights()[0])
    assert set(os.listdir(path)) <= OWN


@pytest.mark.parametrize("head", bert.HEADS)
@pytest.mark.parametrize("kept", bert.HEADS)
def test_what_loads_without_a_pooler_can_be_saved(
    tiny, batch, tmp_path, kept, head
):
    # As BertForMaskedLM and BertForQuestionAnswering are stored.
    path = tf_pof.save(tiny(kept, pooler=False), tmp_path / "a")
    model = tf_pof.load(path, head=head)
    saving.check_savable(model)
    again = tf_pof.load(tf_pof.save(model, tmp_path / "b"))
    assert again.head == head and again.new_weights == ()
    for key, value in model(batch).items():
        np.testing.assert_array_equal(again(batch)[key], value, err_msg=key)


def test_sizes_may_be_numbers_of_numpy(tiny, tmp_path):
    model = tiny(
        "classifier",
        num_labels=np.int64(3),
        num_layers=np.int32(1),
        dropout=np.float32(0.25),
    )
    again = tf_pof.load(tf_pof.save(model, tmp_path / "m"))
    assert again.config == model.config and again.num_labels == 3
    assert again.config.dropout == 0.25


def test_a_tensor_without_a_name_is_told_before_any_work(tiny):
    model = tiny()
    x = keras.layers.Dense(2, name="mine")(model.output["sequence_output"])
    mine = bert.describe(keras.Model(model.input, x), model.config, None)
    with pytest.raises(ValueError, match="no name for the tensor 'mine/kernel"):
        saving.check_savable(mine)
    with pytest.raises(ValueError, match="not made by tf_pof.build"):
        saving.check_savable(keras.Model(model.input, x))


@pytest.mark.parametrize(
    "labels, message",
    [
        (("a", "b"), "has 3 outputs, but 2 labels"),
        (("a", "b", "a"), "has 'a' among its labels"),
        (("a", "b", 3), "has 3 among its labels"),
    ],
)
def test_labels_that_do_not_fit_are_not_saved(tiny, tmp_path, labels, message):
    model = tiny("classifier", num_labels=3)
    model.labels = labels
    with pytest.raises(ValueError, match=message):
        tf_pof.save(model, tmp_path / "m")
    assert not (tmp_path / "m").exists()
