"""Fine-tuning runs: the same on any device, after a kill, and only once."""

import dataclasses
import json
import os
import socket

import tf_pof  # noqa: F401  (legacy Keras before TensorFlow)

import numpy as np
import pytest
import tensorflow as tf

from tests.tasks import tiny


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for s in sockets:
        s.bind(("localhost", 0))
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


TWO_DEVICES = """
import tensorflow as tf
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0],
    [tf.config.LogicalDeviceConfiguration()] * 2,
)
"""


@pytest.fixture(scope="module")
def computed(tiny_tasks, tiny_model, tmp_path_factory):
    """Folder of one run, computed in several ways, by their names."""
    root = tmp_path_factory.mktemp("computed")

    def start(name, before="", **values):
        return tiny.finetune(
            tiny_tasks["squad"],
            tiny_model,
            root / name,
            before,
            **tiny.SHORT | {"evaluate_every": 2} | values,
        )

    workers = [f"localhost:{port}" for port in free_ports(2)]
    started = [
        start("plain"),
        start("micro_batches", micro_batch_size=4),
        start("mirrored", TWO_DEVICES, strategy="mirrored"),
    ]
    for i in range(2):
        place = {"type": "worker", "index": i}
        told = json.dumps({"cluster": {"worker": workers}, "task": place})
        before = f"os.environ['TF_CONFIG'] = {told!r}\n"
        started.append(start("workers", before, strategy="multi_worker"))
    for command in started:
        command.finish()
    return root


@pytest.mark.parametrize("name", ["micro_batches", "mirrored", "workers"])
def test_how_steps_are_computed_does_not_change_them(name, computed):
    one, other = computed / "plain", computed / name
    expected, found = (tiny.tensors(o / "model") for o in (one, other))
    assert found.keys() == expected.keys()
    for path, value in expected.items():
        np.testing.assert_allclose(found[path], value, atol=2e-5, err_msg=path)
        np.testing.assert_array_equal(found[path] == 0, value == 0, path)
    reports = [
        json.loads((o / "report.json").read_text()) for o in (one, other)
    ]
    assert reports[0]["metrics"] == reports[1]["metrics"]
    points = tiny.curve(other)
    # Of the two workers one writes.
    assert [point["step"] for point in points] == [2, 4]
    assert "validation_f1" in points[0]


@pytest.mark.slow
def test_steps_that_float16_skips_count(tiny_tasks, tiny_model, tmp_path):
    """Gradients overflow until the loss scale has fallen from 2^15."""
    values = {"train_steps": 14, "checkpoint_every": 7}
    given = tiny.settings(
        tiny_tasks["sst2"],
        tiny_model,
        tmp_path / "run",
        precision="mixed_float16",
        hard_loss_weight=1e4,
        **tiny.SHORT | values,
    )
    tiny.run(given)
    steps = [point["step"] for point in tiny.curve(given.output)]
    assert steps == [2, 4, 6, 8, 10, 12, 14]
    found = tf.train.latest_checkpoint(f"{given.output}/checkpoints")
    assert os.path.basename(found) == "ckpt-14"
    reader = tf.train.load_checkpoint(found)
    scale = reader.get_tensor(
        "optimizer/loss_scale/current_loss_scale/.ATTRIBUTES/VARIABLE_VALUE"
    )
    assert scale < 2**14


def test_finished_run_is_shown_again_not_run_again(finished, tiny_tasks):
    output = finished("sst2")
    before = (output / "report.json").read_bytes()
    told = json.loads(before)
    given = tiny.settings(
        tiny_tasks["sst2"], told["settings"]["model"], output, **tiny.RUN
    )
    times = {p: p.stat().st_mtime_ns for p in output.rglob("*")}
    again, printed = tiny.run(given)
    assert again == told and "finished already" in printed
    assert "accuracy" in printed and "75.0000%" in printed
    assert {p: p.stat().st_mtime_ns for p in output.rglob("*")} == times


@pytest.mark.parametrize(
    "changes,what",
    [
        ({"batch_size": 8}, "batch_size 16 there, 8 now"),
        ({"lock": False}, "lock True there, False now"),
        ({"seed": 1}, "seed 0 there, 1 now"),
        ({"jit_compile": True}, "jit_compile False there, True now"),
        ({"group_by_length": False}, "group_by_length"),
        ({"task": {"sequence_length": 20}}, "sequence_length"),
    ],
    ids=str,
)
def test_other_settings_in_the_same_output_are_refused(
    changes, what, finished, tiny_tasks, tiny_model
):
    changes = dict(changes)
    task = tiny_tasks["sst2"] | changes.pop("task", {})
    given = tiny.settings(
        task, tiny_model, finished("sst2"), **tiny.RUN | changes
    )
    with pytest.raises(ValueError, match=what):
        tiny.run(given)


@pytest.mark.parametrize(
    "changes,what",
    [
        ({"model": "nowhere"}, "nowhere"),
        ({"task": {"raw_dir": "nowhere"}}, "nowhere"),
        ({"vocab": "nowhere"}, "nowhere"),
        ({"model": "bert_tiny", "dropout": None}, "bert_tiny has no vocab.txt"),
        ({"learning_rate_schedule": "rewind", "ramp_end_step": 4}, "step 4"),
        ({"strategy": "multi_worker"}, "TF_CONFIG"),
        ({"strategy": "parameter_server"}, "use multi_worker"),
    ],
    ids=str,
)
def test_a_command_that_failed_does_not_claim_the_output(
    changes, what, tiny_tasks, tiny_model, tmp_path, monkeypatch
):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    changes = dict(changes)
    task = tiny_tasks["sst2"] | changes.pop("task", {})
    given = tiny.settings(task, tiny_model, tmp_path / "run", **tiny.SHORT)
    with pytest.raises((ValueError, OSError), match=what):
        tiny.run(dataclasses.replace(given, **changes))
    assert not (tmp_path / "run").exists()


def test_sequences_longer_than_model_or_teacher_are_refused(
    tiny_tasks, tiny_model, tiny_vocab, tmp_path
):
    model = tiny.save_model(
        tmp_path / "model", tiny_vocab, max_sequence_length=12
    )
    output, task = tmp_path / "run", tiny_tasks["sst2"]
    given = tiny.settings(task, model, output, **tiny.SHORT)
    what = "12 positions.*up to 15 tokens.*--sequence_length"
    with pytest.raises(ValueError, match="The model has " + what):
        tiny.run(given)
    teacher = tiny.save_model(
        tmp_path / "teacher",
        tiny_vocab,
        head="classifier",
        max_sequence_length=12,
    )
    given = tiny.settings(
        task, tiny_model, output, teacher=teacher, **tiny.SHORT
    )
    with pytest.raises(ValueError, match=f"teacher {teacher} has " + what):
        tiny.run(given)
    assert not (tmp_path / "run").exists()


# Where processes end themselves, and with which code.
_AFTER_STEP_3 = """
import signal
from tf_pof.training import callbacks
real = callbacks.SaveCheckpoints.on_train_batch_end
def kill(self, batch, logs=None):
    real(self, batch, logs)
    if int(self.model.optimizer.iterations.numpy()) == 3:
        {kill}
callbacks.SaveCheckpoints.on_train_batch_end = kill
"""
_IN_CHECKPOINT = """
import signal
import tensorflow as tf
real = tf.train.CheckpointManager._record_state
def kill(self):
    if "ckpt-{step}" in str(self._maybe_delete):
        {kill}
    real(self)
tf.train.CheckpointManager._record_state = kill
"""
_KILL = "os.kill(os.getpid(), 9)"
_TERMINATE = "os.kill(os.getpid(), signal.SIGTERM)"
_INTERRUPT = "os.kill(os.getpid(), signal.SIGINT)"
KILLED = {
    "after step 3, before any checkpoint": (
        _AFTER_STEP_3.format(kill=_KILL),
        -9,
    ),
    "there by SIGTERM": (_AFTER_STEP_3.format(kill=_TERMINATE), 1),
    "while checkpoint 10 is written, by SIGINT": (
        _IN_CHECKPOINT.format(kill=_INTERRUPT, step=10),
        1,
    ),
    "while checkpoint 15 is written": (
        _IN_CHECKPOINT.format(kill=_KILL, step=15),
        -9,
    ),
    "by a second signal while the first is heeded": (
        _AFTER_STEP_3.format(kill=_INTERRUPT).replace("== 3", "== 17")
        + f"""
from tf_pof.training import checkpoint
def again(self):
    if int(self._model.optimizer.iterations.numpy()) == 17:
        {_TERMINATE}
checkpoint.Checkpointer.tidy = again
""",
        -15,
    ),
    "in the final evaluation": (
        """
from tf_pof.tasks import scoring
def kill(model, features, batch_size, console):
    os.kill(os.getpid(), 9)
scoring.outputs_of = kill
""",
        -9,
    ),
    "before the report": (
        """
from tf_pof.training import report
def kill(folder, result):
    os.kill(os.getpid(), 9)
report.write = kill
""",
        -9,
    ),
}
_SAID = "finetune: interrupted; the same command goes on from here"


def test_killed_runs_end_bit_identical(tiny_tasks, tiny_model, tmp_path):
    def start(name, before=""):
        values = tiny.RUN | {"checkpoint_every": 5, "log_every": 1}
        # 3.5 passes over 96 examples: 21 steps of 16.
        values |= {"train_steps": 0, "epochs": 3.5, "dropout": 0.2}
        return tiny.finetune(
            tiny_tasks["sst2"], tiny_model, tmp_path / name, before, **values
        )

    whole = start("whole")
    for moment, (before, code) in KILLED.items():
        broken = start("broken", before)
        assert broken.wait() == code, (moment, broken.printed)
        assert not (tmp_path / "broken/report.json").exists(), moment
        if code == 1:
            assert broken.printed.splitlines()[-1] == _SAID, moment
            assert "Traceback" not in broken.printed
            left = [path.name for path in tmp_path.rglob("*")]
            assert not [n for n in left if "tmp" in n or "temp" in n], moment
    assert "Going on from step 21 of 21" in start("broken").finish()
    whole.finish()
    a, b = (
        [
            (tmp_path / name / "model" / file).read_bytes()
            for file in ("model.safetensors", "config.json", "sparsity.json")
        ]
        for name in ("whole", "broken")
    )
    assert a == b
    curves = [
        [(p["step"], p["loss"]) for p in tiny.curve(tmp_path / name)]
        for name in ("whole", "broken")
    ]
    assert curves[0] == curves[1] and len(curves[0]) == 21
    reports = [
        json.loads((tmp_path / name / "report.json").read_text())
        for name in ("whole", "broken")
    ]
    for key in ("metrics", "settings", "sparsity", "train_steps"):
        assert reports[0][key] == reports[1][key]
