import dataclasses
import io
import json
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import time

import tf_pof

import numpy as np
import pytest
import rich.console
import tensorflow as tf

from tf_pof.data import records
from tf_pof.data.tokenizer_settings import TokenizerSettings
from tf_pof.pruning.schedules import PruneOnceSchedule
from tf_pof.training import checkpoint, program

STEPS = 60
FLAGS = [
    f"--train_steps={STEPS}",
    "--batch_size=8",
    "--learning_rate=1e-2",
    "--final_sparsity=0.75",
    "--pruning_ramp_end_step=30",
    "--pruning_end_step=48",
    "--pruning_frequency=4",
    "--checkpoint_every=5",
    "--log_every=1",
]


@pytest.fixture
def settings(data, model, tmp_path):
    """Of a short pruning run, in this process."""
    return program.Settings(
        model=model,
        teacher=model,
        data=data,
        output=str(tmp_path / "run"),
        train_steps=12,
        batch_size=8,
        learning_rate=1e-2,
        hard_loss_weight=0.5,
        distillation_weight=0.5,
        schedule=PruneOnceSchedule(0.0, 0.75, 0, 6, 10, 2),
        pruning={},
        ramp_end_step=6,
        learning_rate_schedule="flat_then_linear",
        checkpoint_every=5,
        log_every=3,
    )


def run(settings):
    console = rich.console.Console(file=io.StringIO(), width=100)
    report = program.run(settings, console)
    return report, console.file.getvalue()


def command(data, model, output, *more):
    module = "tf_pof.cli.prune_pretrain"
    paths = [f"--data={data}", f"--model={model}", f"--output={output}"]
    return [sys.executable, "-m", module, *FLAGS, *paths, *more]


def final_bytes(output):
    folder = pathlib.Path(output) / "model"
    return [
        (folder / name).read_bytes()
        for name in ("model.safetensors", "sparsity.json")
    ]


def curve(output):
    lines = (pathlib.Path(output) / "curve.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_run_ends_with_a_sparse_model_and_a_table(settings):
    report, printed = run(settings)
    student = tf_pof.load(os.path.join(settings.output, "model"))
    kernel = student.get_layer("layer_0_intermediate").kernel.numpy()
    assert (kernel == 0).sum() == kernel.size * 3 // 4
    assert (student.get_layer("mlm_dense").kernel.numpy() != 0).all()
    assert student.sparsity["sparsity"] == 0.75
    assert student.sparsity["provenance"]["train_steps"] == 12
    assert pathlib.Path(student.vocab_file).read_bytes()
    for text in ("MLM loss", "NSP accuracy", "layer_0_query", "75.0000%"):
        assert text in printed
    assert 0 < report["student"]["mlm"] < 10 and report["teacher"]["mlm"]
    points = curve(settings.output)
    assert [p["step"] for p in points] == [3, 6, 9, 12]
    # Step 2 selected last: 0.75 (1 - (1 - 2 / 6)^3), rounded down.
    expected = 0.75 * (1 - (4 / 6) ** 3)
    assert expected - 0.005 < points[0]["sparsity"] <= expected
    # The rate of the last step taken: steps 2, 5, 8, 11 of a fall 6 -> 12.
    rates = [p["learning_rate"] for p in points]
    np.testing.assert_allclose(
        rates, [0.01, 0.01, 0.01 * 4 / 6, 0.01 / 6], rtol=1e-5
    )
    boards = list(pathlib.Path(settings.output, "tensorboard").iterdir())
    assert boards and boards[0].stat().st_size > 1000


@pytest.mark.parametrize(
    "changes",
    [
        {"precision": "mixed_float16", "hidden_loss_weight": 0.1},
        {"precision": "mixed_bfloat16", "attention_loss_weight": 0.1},
        {"jit_compile": True, "micro_batch_size": 4},
    ],
    ids=str,
)
def test_every_way_to_compute_prunes_and_finishes(settings, changes):
    report, _ = run(dataclasses.replace(settings, **changes))
    assert report["sparsity"]["sparsity"] == 0.75
    assert np.isfinite(report["student"]["loss"])


def test_finished_run_is_shown_again_not_run_again(settings):
    first, _ = run(settings)
    before = final_bytes(settings.output)
    again, printed = run(settings)
    assert again == first and "finished already" in printed
    assert final_bytes(settings.output) == before


def test_other_settings_in_the_same_output_are_refused(settings):
    run(settings)
    other = dataclasses.replace(settings, batch_size=4)
    with pytest.raises(ValueError, match="batch_size 8 there, 4 now"):
        run(other)


def test_a_command_that_failed_does_not_claim_the_output(settings):
    with pytest.raises(ValueError, match="vocabulary of 30522 tokens"):
        run(dataclasses.replace(settings, model="bert_tiny"))
    report, _ = run(settings)
    assert report["settings"]["model"] == settings.model


def test_micro_batches_may_change_on_resuming(settings):
    run(settings)
    report, _ = run(dataclasses.replace(settings, micro_batch_size=4))
    assert report["settings"]["batch_size"] == 8


def test_killed_runs_end_bit_identical(data, model, tmp_path):
    whole, broken = str(tmp_path / "whole"), str(tmp_path / "broken")
    subprocess.run(command(data, model, whole), check=True, capture_output=True)
    r = random.Random(1)
    kills = 0
    for at in sorted(r.sample(range(3, STEPS - 5), 3)):
        process = subprocess.Popen(
            command(data, model, broken),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        path = pathlib.Path(broken, "curve.jsonl")
        while process.poll() is None:
            if path.exists() and len(path.read_text().splitlines()) >= at:
                time.sleep(r.random() * 0.05)
                process.send_signal(signal.SIGKILL)
                break
            time.sleep(0.002)
        kills += process.wait() == -signal.SIGKILL
    done = subprocess.run(
        command(data, model, broken), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert kills == 3 and "Going on from step" in done.stdout
    assert final_bytes(broken) == final_bytes(whole)
    assert [p["loss"] for p in curve(broken)] == [
        p["loss"] for p in curve(whole)
    ]


def test_a_loss_that_is_not_finite_names_step_and_checkpoint(settings):
    diverging = dataclasses.replace(
        settings,
        learning_rate=1e20,
        clip_norm=0.0,
        schedule=None,
        pruning=None,
        checkpoint_every=1,
        train_steps=50,
    )
    with pytest.raises(ValueError, match="diverged at step") as error:
        run(diverging)
    step, last = re.search(r"step (\d+).*ckpt-(\d+)", str(error.value)).groups()
    assert int(last) < int(step)
    reader = tf.train.load_checkpoint(
        os.path.join(settings.output, "checkpoints")
    )
    for name in reader.get_variable_to_shape_map():
        value = reader.get_tensor(name)
        if getattr(value, "dtype", None) == np.float32:
            assert np.isfinite(value).all(), name


def test_full_disk_leaves_the_last_checkpoint(settings, monkeypatch):
    real, calls = tf.train.CheckpointManager.save, []

    def save(self, *args, **kwargs):
        calls.append(0)
        if len(calls) == 2:
            raise tf.errors.ResourceExhaustedError(None, None, "disk is full")
        return real(self, *args, **kwargs)

    monkeypatch.setattr(tf.train.CheckpointManager, "save", save)
    with pytest.raises(OSError, match="disk is full.*ckpt-5"):
        run(settings)
    monkeypatch.undo()
    _, printed = run(settings)
    assert "Going on from step 5" in printed


@pytest.mark.slow
def test_really_full_disk_leaves_the_last_checkpoint(data, model, tmp_path):
    """On a file system of 1 MB; needs the right to mount one."""
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(small)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("may not mount a file system")
    try:
        filler = small / "filler"
        filler.write_bytes(b"0" * 850_000)
        output = str(small / "run")
        done = subprocess.run(
            command(data, model, output), capture_output=True, text=True
        )
        assert done.returncode == 1, done.stdout
        assert "make room" in done.stderr, done.stderr
        filler.unlink()
        done = subprocess.run(
            command(data, model, output), capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_a_run_without_a_checkpoint_to_read_is_refused(settings):
    kept = dataclasses.replace(settings, keep_checkpoints=True)
    run(kept)
    os.remove(os.path.join(settings.output, "report.json"))
    for prefix in checkpoint.prefixes(f"{settings.output}/checkpoints"):
        with open(prefix + ".index", "r+b") as file:
            file.truncate(100)
    with pytest.raises(ValueError, match="cannot be restored"):
        run(settings)


@pytest.mark.parametrize(
    "changes,what",
    [
        ({"sequence_length": 4}, "sequence length of at least 8"),
        ({"sequence_length": 64}, "has 24 positions"),
        ({"data": "nowhere"}, "nowhere"),
        ({"model": "bert_tiny"}, "vocabulary of 30522 tokens"),
        ({"learning_rate_schedule": "rewind", "ramp_end_step": 12}, "step 12"),
    ],
)
def test_what_does_not_fit_is_said_before_training(settings, changes, what):
    with pytest.raises(ValueError, match=what):
        run(dataclasses.replace(settings, **changes))


def test_data_made_with_another_vocabulary_are_refused(
    settings, model, tmp_path
):
    other = shutil.copytree(model, tmp_path / "other")
    path = other / "vocab.txt"
    path.write_text(path.read_text().replace("##h", "##i"))
    with pytest.raises(ValueError, match="vocab"):
        run(dataclasses.replace(settings, model=str(other)))


def test_data_made_of_another_case_are_refused(settings, model, tmp_path):
    other = shutil.copytree(model, tmp_path / "other")
    told = {"do_lower_case": False}
    (other / "tokenizer_config.json").write_text(json.dumps(told))
    message = "prepared from lower-cased text, but .*other reads cased text"
    for change in ({"model": str(other)}, {"teacher": str(other)}):
        with pytest.raises(ValueError, match=message):
            run(dataclasses.replace(settings, **change))


def test_a_model_without_a_tokenizer_gets_that_of_the_data(settings, model):
    student = program.build(
        settings, records.verify(settings.data)
    ).student
    assert student.tokenizer_settings == TokenizerSettings(True)


def test_save_refuses_weights_that_are_not_finite(settings):
    distiller = program.build(settings, records.verify(settings.data))
    keeper = checkpoint.Checkpointer(distiller, settings.output)
    keeper.save()
    bias = distiller.student.get_layer("mlm_dense").bias
    bias.assign(bias * np.nan)
    with pytest.raises(ValueError, match="mlm_dense/bias.*not finite.*ckpt-0"):
        keeper.save()
