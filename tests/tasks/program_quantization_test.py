"""bin/finetune --qat: what is learned, saved, resumed and refused."""

import dataclasses
import io
import json
import os

import tf_pof  # noqa: F401  (legacy Keras before TensorFlow)

import numpy as np
import pytest
import rich.console

from tests.tasks import program_resume_test as resume
from tests.tasks import tiny
from tf_pof.quantization import QuantizedModel
from tf_pof.tasks import evaluation, program, registry, trained

QAT = tiny.RUN | {
    "qat": True,
    "learning_rate": 1e-3,
    "train_steps": 12,
    "qat_range_decay": 0.9,
    "dropout": 0.1,
    "checkpoint_every": 4,
    "log_every": 1,
}
# A process ends itself after step 6.
KILL = """
from tf_pof.training import callbacks
real = callbacks.SaveCheckpoints.on_train_batch_end
def kill(self, batch, logs=None):
    real(self, batch, logs)
    if int(self.model.optimizer.iterations.numpy()) == 6:
        os.kill(os.getpid(), 9)
callbacks.SaveCheckpoints.on_train_batch_end = kill
"""
STEPS = {"qat_start_step": 3, "qat_freeze_step": 7}


@pytest.fixture(scope="module")
def runs(finished, tiny_tasks, tmp_path_factory):
    """Outputs of quantized runs by name, all from the run "sst2"."""
    root, start = tmp_path_factory.mktemp("qat"), str(finished("sst2"))

    def command(name, before="", **values):
        values = QAT | values
        task = tiny_tasks["sst2"]
        return tiny.finetune(task, start, root / name, before, **values)

    started = {
        "whole": command("whole", **STEPS),
        # All at once: two devices, each with micro batches, and a teacher.
        "mirrored": command(
            "mirrored",
            resume.TWO_DEVICES,
            strategy="mirrored",
            precision="mixed_bfloat16",
            teacher=start,
            micro_batch_size=4,
            evaluate_every=6,
        ),
    }
    # To go on from step 4, when ranges move.
    broken = command("broken", KILL, **STEPS)
    assert broken.wait() == -9, broken.printed
    started["broken"] = command("broken", **STEPS)

    def output(name):
        started[name].finish()
        return root / name

    return output


def report_of(output):
    return json.loads((output / "report.json").read_text())


@pytest.mark.parametrize("name", ["whole", "mirrored"])
def test_zeros_stay_and_the_task_is_not_forgotten(name, runs, finished):
    before, after = finished("sst2") / "model", runs(name) / "model"
    tiny.assert_zeros_stayed(before, after)
    accuracy = report_of(runs(name))["metrics"]["validation"]["accuracy"]
    assert accuracy > 0.85
    model = tf_pof.load(after)
    assert isinstance(model, QuantizedModel)
    assert model.labels == ("negative", "positive")
    for name, (minimum, maximum) in model.ranges().items():
        assert minimum < maximum, name


def test_a_killed_run_ends_bit_identical(runs):
    for file in ("model.safetensors", "quantization.json", "sparsity.json"):
        whole, broken = (
            (runs(name) / "model" / file).read_bytes()
            for name in ("whole", "broken")
        )
        assert whole == broken, file
    curves = [
        [(p["step"], p["loss"]) for p in tiny.curve(runs(name))]
        for name in ("whole", "broken")
    ]
    assert curves[0] == curves[1] and len(curves[0]) == 12
    assert "Going on from step 4 of 12" in (
        runs("broken").parent / "broken.log"
    ).read_text()


def test_ranges_stay_from_the_freezing_step_on(runs):
    """Checkpoints are of steps 8 and 12, ranges stay from step 7 on."""
    final = tf_pof.load(runs("whole") / "model")
    model = trained.load(str(runs("whole") / "checkpoints/ckpt-8"))
    assert isinstance(model, QuantizedModel)
    assert model.ranges() == final.ranges()
    # Weights go on.
    kernels = [m.get_layer("pooler").kernel.numpy() for m in (model, final)]
    assert (kernels[0] != kernels[1]).any()


def test_report_and_folder_tell_of_quantization(runs):
    found = report_of(runs("whole"))["quantization"]
    assert (found["start_step"], found["freeze_step"]) == (3, 7)
    assert found["range_decay"] == 0.9
    stored = (runs("whole") / "model/quantization.json").read_text()
    assert json.loads(stored)["ranges"] == found["ranges"]
    # By default ranges are frozen half-way.
    found = report_of(runs("mirrored"))["quantization"]
    assert (found["start_step"], found["freeze_step"]) == (0, 6)
    told = json.loads((runs("whole") / "model/sparsity.json").read_text())
    assert told["fine_tuning"]["learning_rate"] == 1e-2
    assert told["quantization"]["learning_rate"] == 1e-3
    printed = (runs("whole").parent / "whole.log").read_text()
    assert "Quantized to int8: 11 kernels and tables" in printed


def test_the_score_is_that_of_the_saved_model(runs, tiny_tasks):
    metrics = evaluation.run(
        str(runs("mirrored")),
        tiny_tasks["sst2"],
        rich.console.Console(file=io.StringIO()),
    )
    assert metrics == report_of(runs("mirrored"))["metrics"]


def test_other_quantization_in_the_same_output_is_refused(
    runs, tiny_tasks, finished
):
    given = tiny.settings(
        tiny_tasks["sst2"],
        str(finished("sst2")),
        runs("whole"),
        **QAT | STEPS,
    )
    for changes, what in (
        ({"qat_freeze_step": 8}, "qat_freeze_step 7 there, 8 now"),
        ({"qat": False}, "qat True there, None now"),
        ({"micro_batch_size": 4}, "micro_batch_size 0 there, 4 now"),
    ):
        with pytest.raises(ValueError, match=what):
            tiny.run(dataclasses.replace(given, **changes))


def test_runs_without_quantization_are_known_by_what_they_were():
    given = tiny.settings({"name": "sst2"}, "m", "o", **tiny.RUN)
    assert not any(name.startswith("qat") for name in given.identity())


@pytest.mark.parametrize(
    "changes,what",
    [
        ({"qat_start_step": 12}, "qat_start_step=12 is not within the 12"),
        ({"qat_start_step": 5, "qat_freeze_step": 4}, "5 or later"),
    ],
)
def test_steps_that_cannot_be_are_refused(
    changes, what, tiny_tasks, tiny_model, tmp_path
):
    given = tiny.settings(
        tiny_tasks["sst2"], tiny_model, tmp_path / "run", **QAT | changes
    )
    with pytest.raises(ValueError, match=what):
        tiny.run(given)
    assert not os.path.exists(tmp_path / "run")


def test_a_model_without_the_tasks_head_is_warned_of(
    tiny_tasks, tiny_model, tmp_path
):
    values = QAT | {"train_steps": 2}
    given = tiny.settings(
        tiny_tasks["sst2"], tiny_model, tmp_path / "run", **values
    )
    _, printed = tiny.run(given)
    assert "no classifier head trained on sst2" in printed


def test_classes_in_another_order_are_put_into_the_tasks(
    finished, tiny_tasks, tmp_path
):
    model = tf_pof.load(finished("pairs") / "model")
    assert model.labels == ("maybe", "no", "yes")
    kernel, bias = model.get_layer("classifier").get_weights()
    task = tiny_tasks["pairs"] | {"labels": ["yes", "maybe", "no"]}
    given = tiny.settings(
        task, str(finished("pairs")), tmp_path / "run", **QAT
    )
    student = program.load_student(given, registry.create(**task))
    found = student.get_layer("classifier").get_weights()
    np.testing.assert_array_equal(found[0], kernel[:, [2, 0, 1]])
    np.testing.assert_array_equal(found[1], bias[[2, 0, 1]])


@pytest.mark.slow
def test_two_workers_train_one_model(finished, tiny_tasks, tmp_path):
    """With evaluations in between, and all of them to the end."""
    ports = resume.free_ports(2)
    workers = [f"localhost:{port}" for port in ports]
    started = []
    for i in range(2):
        place = {"type": "worker", "index": i}
        told = json.dumps({"cluster": {"worker": workers}, "task": place})
        started.append(
            tiny.finetune(
                tiny_tasks["sst2"],
                str(finished("sst2")),
                tmp_path / "run",
                f"os.environ['TF_CONFIG'] = {told!r}\n",
                **QAT,
                **STEPS,
                evaluate_every=4,
                strategy="multi_worker",
            )
        )
    for command in started:
        command.finish()
    model = tf_pof.load(tmp_path / "run/model")
    tiny.assert_zeros_stayed(finished("sst2") / "model", tmp_path / "run/model")
    for name, (minimum, maximum) in model.ranges().items():
        assert minimum < maximum, name
    assert "validation_accuracy" in tiny.curve(tmp_path / "run")[3]
    metrics = report_of(tmp_path / "run")["metrics"]
    assert metrics["validation"]["accuracy"] > 0.8
