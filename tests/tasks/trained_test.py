"""What bin/evaluate and --teacher take for a fine-tuned model."""

import json
import pathlib
import shutil

import tf_pof

import numpy as np
import pytest
import tensorflow as tf

from tests.tasks import tiny
from tf_pof.models import weights
from tf_pof.tasks import trained


@pytest.fixture
def unfinished(finished, tmp_path):
    """Copies a run as if it had been killed before its end."""

    def copy(name: str) -> pathlib.Path:
        run = shutil.copytree(finished(name), tmp_path / name)
        shutil.rmtree(run / "model")
        (run / "report.json").unlink()
        return run

    return copy


def assert_same_weights(model, other):
    found, expected = (dict(weights.effective(m)) for m in (model, other))
    assert found.keys() == expected.keys()
    for path, value in expected.items():
        np.testing.assert_array_equal(found[path], value, path)


def test_a_finished_run_is_its_model(finished):
    run = finished("sst2")
    model = trained.load(str(run))
    assert_same_weights(model, tf_pof.load(run / "model"))
    assert model.head == "classifier"
    assert model.labels == ("negative", "positive")


@pytest.mark.parametrize("name", ["pairs", "squad"])
def test_an_unfinished_run_is_its_last_checkpoint(name, finished, unfinished):
    model = trained.load(str(unfinished(name)))
    assert_same_weights(model, tf_pof.load(finished(name) / "model"))
    labels = {"pairs": ("maybe", "no", "yes"), "squad": None}
    assert model.labels == labels[name]
    assert pathlib.Path(model.vocab_file).exists()


def test_a_prefix_is_that_checkpoint(finished):
    run = finished("sst2")
    last = trained.load(str(run / "checkpoints/ckpt-48"))
    assert_same_weights(last, tf_pof.load(run / "model"))
    prefix = str(run / "checkpoints/ckpt-24")
    middle = trained.load(prefix)
    reader = tf.train.load_checkpoint(prefix)
    stored = [
        reader.get_tensor(name)
        for name, shape in reader.get_variable_to_shape_map().items()
        if name.startswith("student/") and shape == [16, 32]
    ]
    kernel = middle.get_layer("layer_0_intermediate").kernel.numpy()
    assert any(np.array_equal(kernel, value) for value in stored)
    other = last.get_layer("layer_0_intermediate").kernel.numpy()
    assert (kernel != other).any()
    # The lock held at that step too.
    np.testing.assert_array_equal(kernel == 0, other == 0)


def test_a_checkpoint_of_pruning_on_the_task_has_its_masks(finished):
    pruned = finished("pruned")
    model = trained.load(str(pruned / "checkpoints/ckpt-48"))
    assert_same_weights(model, tf_pof.load(pruned / "model"))
    assert model.labels == ("negative", "positive")
    half = trained.load(str(pruned / "checkpoints/ckpt-24"))
    kernel = dict(weights.effective(half))["layer_0_query/kernel"]
    # The ramp ends at step 24.
    assert (kernel == 0).sum() == 192


def test_an_unfinished_run_has_the_vocabulary_it_was_given(
    unfinished, tiny_vocab
):
    run = unfinished("sst2")
    settings = json.loads((run / "settings.json").read_text())
    settings["vocab"] = tiny_vocab
    (run / "settings.json").write_text(json.dumps(settings))
    assert trained.load(str(run)).vocab_file == tiny_vocab


def test_a_run_without_a_checkpoint_is_not_ready(unfinished):
    run = unfinished("sst2")
    shutil.rmtree(run / "checkpoints")
    with pytest.raises(ValueError, match="neither a model nor a checkpoint"):
        trained.load(str(run))


def test_a_damaged_checkpoint_is_named(unfinished):
    run = unfinished("sst2")
    with open(run / "checkpoints/ckpt-48.index", "r+b") as file:
        file.truncate(100)
    with pytest.raises(ValueError, match="ckpt-48 cannot be restored.*another"):
        trained.load(str(run))


@pytest.mark.parametrize("head", [None, "pretraining"])
def test_a_model_without_a_task_head_is_refused(head, tiny_vocab, tmp_path):
    folder = tiny.save_model(tmp_path / "model", tiny_vocab, head=head)
    with pytest.raises(ValueError, match="no trained task head"):
        trained.load(folder)
    with pytest.raises(ValueError, match="no trained task head"):
        trained.load("bert_tiny")


def test_runs_of_pre_training_are_refused(unfinished, tiny_model):
    run = unfinished("sst2")
    settings = json.loads((run / "settings.json").read_text())
    del settings["task"]
    (run / "settings.json").write_text(json.dumps(settings))
    for spec in (run, run / "checkpoints/ckpt-24"):
        with pytest.raises(ValueError, match="a checkpoint of pre-training"):
            trained.load(str(spec))
    shutil.copytree(tiny_model, run / "model")
    with pytest.raises(ValueError, match="no trained task head"):
        trained.load(str(run))


def test_what_is_nowhere_is_said(tmp_path):
    with pytest.raises(ValueError, match="nowhere"):
        trained.load(str(tmp_path / "nowhere"))
