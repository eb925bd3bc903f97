"""Checkpoints: the last that can be read, and none but our own files."""

import os
import pathlib
import resource
import shutil

import tf_pof  # noqa: F401  (legacy Keras before TensorFlow)

import numpy as np
import pytest
import tensorflow as tf

from tf_pof._keras import keras
from tf_pof.distillation import Distiller
from tf_pof.training import checkpoint


def tiny_distiller(units=300):
    student = keras.Sequential([keras.Input((4,)), keras.layers.Dense(units)])
    distiller = Distiller(student)
    distiller.compile(keras.optimizers.Adam(), "mse")
    return distiller


def set_step(distiller, step):
    """Makes the state that of a step: its weights are all the step."""
    distiller.optimizer.iterations.assign(step)
    for variable in distiller.trainable_variables:
        variable.assign(tf.fill(variable.shape, float(step)))


def fill(path):
    """Saves three steps, of which the last two stay."""
    distiller = tiny_distiller()
    keeper = checkpoint.Checkpointer(distiller, str(path))
    for step in (2, 5, 10):
        set_step(distiller, step)
        keeper.save()
    return path


@pytest.fixture
def folder(tmp_path):
    """Checkpoints of steps 5 and 10."""
    return fill(tmp_path / "checkpoints")


def restored(folder):
    """The step that is gone on from, what was said, and the keeper."""
    distiller, said = tiny_distiller(), []
    keeper = checkpoint.Checkpointer(distiller, str(folder))
    step = keeper.restore(said.append)
    for variable in distiller.trainable_variables:
        assert (variable.numpy() == step).all() or step == 0
    return step, said, keeper


def names(folder):
    return sorted(os.listdir(folder))


BOTH = [
    "checkpoint",
    "ckpt-10.data-00000-of-00001",
    "ckpt-10.index",
    "ckpt-5.data-00000-of-00001",
    "ckpt-5.index",
]


def test_the_last_two_stay_and_the_last_is_restored(folder):
    assert names(folder) == BOTH
    assert restored(folder)[:2] == (10, [])
    assert [os.path.basename(p) for p in checkpoint.prefixes(folder)] == [
        "ckpt-10",
        "ckpt-5",
    ]


@pytest.mark.parametrize("name", ["run[1]", "run*", "r?n", "a b", "a\\b"])
def test_no_path_is_taken_for_a_pattern(name, tmp_path):
    folder = fill(tmp_path / name / "checkpoints")
    assert names(folder) == BOTH
    assert restored(folder)[:2] == (10, [])


def cut(path):
    os.truncate(path, path.stat().st_size // 2)


@pytest.mark.parametrize("file", ["index", "data-00000-of-00001"])
def test_a_checkpoint_cut_in_half_falls_back_to_the_older(file, folder):
    cut(folder / f"ckpt-10.{file}")
    step, said, keeper = restored(folder)
    assert step == 5 and keeper.latest == str(folder / "ckpt-5")
    (sentence,) = said
    assert "ckpt-10 cannot be restored" in sentence and "ckpt-5" in sentence
    assert "{{" not in sentence and "\n" not in sentence


def test_a_changed_byte_falls_back_too(folder):
    path = folder / "ckpt-10.data-00000-of-00001"
    contents = bytearray(path.read_bytes())
    contents[1000] ^= 1
    path.write_bytes(contents)
    assert restored(folder)[0] == 5


def test_lost_data_fall_back_too(folder):
    os.unlink(folder / "ckpt-10.data-00000-of-00001")
    assert restored(folder)[0] == 5


def test_without_one_that_can_be_read_it_stops_in_a_sentence(folder):
    for step in (5, 10):
        cut(folder / f"ckpt-{step}.index")
    with pytest.raises(ValueError, match="ckpt-5 cannot be restored.*delete"):
        restored(folder)


def test_a_checkpoint_of_another_model_is_refused(folder):
    distiller = tiny_distiller(units=7)
    keeper = checkpoint.Checkpointer(distiller, str(folder))
    with pytest.raises(ValueError, match="cannot be restored"):
        keeper.restore()


@pytest.mark.parametrize("contents", [None, b"", b"\xff\x00garbage", b"[]"])
def test_the_list_of_checkpoints_may_be_lost(contents, folder):
    if contents is None:
        os.unlink(folder / "checkpoint")
    else:
        (folder / "checkpoint").write_bytes(contents)
    assert restored(folder)[:2] == (10, [])
    assert tf.train.latest_checkpoint(folder) == str(folder / "ckpt-10")


def test_a_list_that_points_elsewhere_reads_and_deletes_nothing_there(
    folder, tmp_path
):
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    there = {path: path.read_bytes() for path in other.iterdir()}
    for name in ("ckpt-5", "ckpt-10"):
        for path in folder.glob(f"{name}.*"):
            path.unlink()
    lines = [f'model_checkpoint_path: "{other}/ckpt-10"']
    for name in ("ckpt-5", "ckpt-10"):
        lines.append(f'all_model_checkpoint_paths: "{other}/{name}"')
    (folder / "checkpoint").write_text("\n".join(lines))
    step, _, keeper = restored(folder)
    assert step == 0
    for step in (11, 12, 13):
        set_step(keeper._model, step)
        keeper.save()
    assert {path: path.read_bytes() for path in other.iterdir()} == there
    assert names(folder)[1].startswith("ckpt-12")


def test_what_was_never_finished_is_removed_and_nothing_else(folder):
    left = [
        "ckpt-11.data-00000-of-00001",
        "ckpt-10.index.tempstate123",
        "ckpt-12_temp/part-00000-of-00001.data-00000-of-00001",
        "discard_1/ckpt-10.index",
        "checkpoint.tmp0123abc",
    ]
    mine = ["notes.txt", "ckpt-10.notes", "checkpoint.mine", "discard_me/x"]
    for name in left + mine:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("x")
    assert restored(folder)[0] == 10
    kept = [*BOTH, *(name.split("/")[0] for name in mine)]
    assert names(folder) == sorted(kept)
    checkpoint.drop(str(folder))
    assert names(folder) == sorted(name.split("/")[0] for name in mine)


def test_what_another_worker_is_writing_stays_while_the_chief_saves(folder):
    _, _, keeper = restored(folder)
    theirs = folder / "discard_1" / "ckpt-11_temp"
    theirs.mkdir(parents=True)
    (theirs / "part").write_text("x")
    set_step(keeper._model, 11)
    keeper.save()
    assert (theirs / "part").exists()
    # A worker that was killed there is tidied up after at the next start.
    restored(folder)
    assert not (folder / "discard_1").exists()


def test_dropping_all_drops_the_folder(folder):
    checkpoint.drop(str(folder))
    assert not folder.exists()
    checkpoint.drop(str(folder))


def test_a_full_disk_leaves_the_last_one_and_no_litter(folder):
    _, _, keeper = restored(folder)
    set_step(keeper._model, 11)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(OSError) as error:
            keeper.save()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    sentence = str(error.value)
    assert "File too large" in sentence and f"{folder}/ckpt-10" in sentence
    assert "{{" not in sentence and "make room" in sentence
    assert names(folder) == BOTH
    keeper.save()
    assert restored(folder)[0] == 11


def test_interrupted_writing_leaves_the_older_ones(folder, monkeypatch):
    _, _, keeper = restored(folder)
    set_step(keeper._model, 11)

    def interrupt(*args, **kwargs):
        pathlib.Path(folder, "ckpt-11_temp").mkdir()
        raise KeyboardInterrupt

    monkeypatch.setattr(tf.train.CheckpointManager, "save", interrupt)
    with pytest.raises(KeyboardInterrupt):
        keeper.save()
    monkeypatch.undo()
    # As the training loop does on its way out.
    keeper.tidy()
    assert names(folder) == BOTH
    assert restored(folder)[0] == 10


def test_weights_that_are_not_finite_are_not_saved(folder):
    _, _, keeper = restored(folder)
    set_step(keeper._model, 11)
    kernel = keeper._model.trainable_variables[0]
    kernel.assign(kernel * np.nan)
    with pytest.raises(ValueError, match="not finite.*ckpt-10"):
        keeper.save()
    assert names(folder) == BOTH
