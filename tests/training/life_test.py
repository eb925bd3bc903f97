"""The life of a run: checked, interrupted, ended, and gone on with."""

import dataclasses
import io
import json
import os
import shutil

import tf_pof

import pytest
import rich.console
import tensorflow as tf

from tf_pof import files
from tf_pof.pruning.schedules import PruneOnceSchedule
from tf_pof.training import callbacks, program, report


@pytest.fixture
def settings(data, model, tmp_path):
    """Of a run that prunes a little."""
    return program.Settings(
        model=model,
        data=data,
        output=str(tmp_path / "run[1]"),
        train_steps=4,
        batch_size=8,
        learning_rate=1e-2,
        schedule=PruneOnceSchedule(0.0, 0.5, 0, 2, 3, 1),
        pruning={},
        checkpoint_every=2,
        log_every=2,
        evaluate_batches=1,
    )


def run(settings, terminal=False):
    console = rich.console.Console(
        file=io.StringIO(),
        width=60,
        force_terminal=terminal,
        highlight=False,
    )
    try:
        program.run(settings, console)
    finally:
        run.printed = console.file.getvalue()
    return run.printed


def refuse_training(monkeypatch):
    def fit(*args, **kwargs):
        raise AssertionError("The run trains.")

    monkeypatch.setattr(program.PretrainingDistiller, "fit", fit)


def left(settings):
    return sorted(os.listdir(settings.output))


def interrupt_after(step, monkeypatch):
    real = callbacks.SaveCheckpoints.on_train_batch_end

    def interrupt(self, batch, logs=None):
        real(self, batch, logs)
        if int(self.model.optimizer.iterations.numpy()) == step:
            raise KeyboardInterrupt

    monkeypatch.setattr(
        callbacks.SaveCheckpoints, "on_train_batch_end", interrupt
    )


def test_a_run_tells_what_it_does_and_what_comes_next(settings):
    printed = run(settings).splitlines()
    with open(f"{settings.data}/meta.json") as file:
        examples = json.load(file)["num_train"]
    assert printed[0] == (
        f"{examples} examples are {-(-examples // 8)} steps an epoch; the run "
        f"has 4 steps of 8: {4 * 8 / examples:.3g} epochs."
    )
    # The brackets are no markup, and no line is broken.
    assert f"Model: {settings.output}/model" in printed
    assert printed[-1] == (
        f"Next: bin/finetune --model='{settings.output}' --task=TASK "
        "--output=TASK_MODEL"
    )
    # Checkpoints are not needed any more.
    assert left(settings) == [
        "curve.jsonl",
        "model",
        "report.json",
        "settings.json",
        "tensorboard",
    ]
    assert printed[-1] in run(settings)
    # The output of a run is its model.
    again = dataclasses.replace(settings, model=settings.output, output="x")
    meta = program.records.verify(settings.data)
    distiller = program.build(again, meta)
    kernel = distiller.student.get_layer("mlm_dense").kernel
    stored = tf_pof.load(f"{settings.output}/model")
    expected = stored.get_layer("mlm_dense").kernel
    assert (kernel.numpy() == expected.numpy()).all()


def test_a_teacher_is_followed_by_pruning(settings):
    dense = dataclasses.replace(settings, schedule=None)
    assert program.next_command(dense) == (
        f"Next: bin/prune_pretrain --model='{settings.output}' "
        f"--data={settings.data} --output=SPARSE"
    )


def test_lines_stay_above_the_bar_of_a_terminal(settings, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    printed = run(dataclasses.replace(settings, evaluate_every=3), True)
    for step in (2, 3, 4):
        assert f"step {step}/4  ETA 0:" in printed
    # What is not a multiple of log_every is evaluated all the same.
    with open(f"{settings.output}/curve.jsonl") as file:
        points = [json.loads(line) for line in file]
    assert [point["step"] for point in points] == [2, 3, 4]
    assert ["validation_mlm" in point for point in points] == [
        False,
        True,
        False,
    ]


def test_an_interrupted_run_leaves_no_litter_and_goes_on(
    settings, monkeypatch
):
    interrupt_after(3, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        run(settings)
    monkeypatch.undo()
    assert not [n for n in left(settings) if ".tmp" in n or n == "model"]
    assert sorted(os.listdir(f"{settings.output}/checkpoints")) == [
        "checkpoint",
        "ckpt-2.data-00000-of-00001",
        "ckpt-2.index",
    ]
    # The lock has gone with the run.
    parent = os.path.dirname(settings.output)
    assert os.listdir(parent) == ["run[1]"]
    assert "Going on from step 2 of 4" in run(settings)


def test_the_model_is_there_when_its_evaluation_fails(settings, monkeypatch):
    def fail(*args, **kwargs):
        raise tf.errors.ResourceExhaustedError(None, None, "no memory left")

    monkeypatch.setattr(program, "evaluate", fail)
    with pytest.raises(OSError) as error:
        run(settings)
    path = f"{settings.output}/model"
    sentence = str(error.value)
    assert f"saved in {path}" in sentence and "no memory left" in sentence
    stored = tf_pof.load(path)
    assert stored.sparsity["sparsity"] == 0.5
    with open(f"{path}/model.safetensors", "rb") as file:
        weights = file.read()
    monkeypatch.undo()
    # The same command repeats what failed, and that alone.
    refuse_training(monkeypatch)
    assert "MLM accuracy" in run(settings)
    with open(f"{path}/model.safetensors", "rb") as file:
        assert file.read() == weights


def test_a_model_that_cannot_be_written_is_one_sentence(
    settings, monkeypatch
):
    def fail(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "write_set", fail)
    with pytest.raises(OSError, match="/model .No space left.*make room"):
        run(settings)
    with pytest.raises(ValueError, match="a run that has no model yet"):
        program.models.resolve(settings.output)
    monkeypatch.undo()
    refuse_training(monkeypatch)
    assert "Model: " in run(settings)


def test_a_report_that_cannot_be_written_does_not_lose_the_model(
    settings, monkeypatch
):
    def fail(folder, result):
        raise OSError(28, "No space left on device", folder)

    monkeypatch.setattr(report, "write", fail)
    with pytest.raises(OSError, match="saved in .*No space left on device"):
        run(settings)
    assert tf_pof.load(f"{settings.output}/model").sparsity
    assert "checkpoints" in left(settings)


def test_what_is_needed_at_the_end_is_checked_before_the_first_step(
    settings, monkeypatch, tmp_path
):
    refuse_training(monkeypatch)
    bare = shutil.copytree(settings.data, tmp_path / "bare")
    meta = json.loads((bare / "meta.json").read_text())
    for name in ("shards", "counts", "bytes"):
        meta[f"validation_{name}"] = []
    meta["num_validation"] = 0
    (bare / "meta.json").write_text(json.dumps(meta))
    with pytest.raises(ValueError, match="no validation examples"):
        run(dataclasses.replace(settings, data=str(bare)))
    assert not os.path.exists(settings.output)

    def refuse(model):
        raise ValueError("It cannot be saved.")

    monkeypatch.setattr(program.saving, "check_savable", refuse)
    with pytest.raises(ValueError, match="It cannot be saved"):
        run(settings)


def test_a_run_that_another_works_on_is_left_alone(settings, monkeypatch):
    refuse_training(monkeypatch)
    with files.only_writer(settings.output):
        with pytest.raises(OSError, match="Another process .pid"):
            run(settings)
    assert not os.path.exists(settings.output)


def test_a_start_model_that_changed_stops_a_run_that_goes_on(
    settings, monkeypatch, tmp_path
):
    start = shutil.copytree(settings.model, tmp_path / "start")
    given = dataclasses.replace(settings, model=str(start))
    interrupt_after(2, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        run(given)
    monkeypatch.undo()
    path = start / "model.safetensors"
    contents = bytearray(path.read_bytes())
    contents[-1] ^= 1
    path.write_bytes(contents)
    refuse_training(monkeypatch)
    with pytest.raises(ValueError, match=f"The model {start} is not what"):
        run(given)


def test_more_steps_go_on_where_checkpoints_were_kept(settings):
    kept = dataclasses.replace(settings, keep_checkpoints=True)
    run(kept)
    printed = run(dataclasses.replace(kept, train_steps=6))
    assert "was planned shorter (train_steps 4 there, 6 now)" in printed
    assert "Going on from step 4 of 6" in printed
    with open(f"{settings.output}/report.json") as file:
        assert json.load(file)["settings"]["train_steps"] == 6
    with open(f"{settings.output}/curve.jsonl") as file:
        points = [json.loads(line) for line in file]
    assert [point["step"] for point in points] == [2, 4, 6]
    # 5 of 6 steps are done before the last: a sixth of the rate is left.
    assert points[-1]["learning_rate"] == pytest.approx(0.01 / 6)


@pytest.mark.parametrize(
    "raised,what",
    [
        (
            tf.errors.ResourceExhaustedError(None, None, "OOM when allocating"),
            "not enough memory for steps of 8 examples.*--micro_batch_size",
        ),
        (MemoryError(), "not enough memory for steps of 8"),
        (
            tf.errors.UnavailableError(None, None, "Socket closed"),
            "worker of the run cannot be reached",
        ),
    ],
)
def test_what_stops_a_training_from_outside_is_one_sentence(
    raised, what, settings, monkeypatch
):
    def fit(*args, **kwargs):
        raise raised

    monkeypatch.setattr(program.PretrainingDistiller, "fit", fit)
    with pytest.raises(OSError, match=f"{what}.*the same command goes on"):
        run(settings)
