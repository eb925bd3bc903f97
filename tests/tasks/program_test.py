"""Fine-tuning: zeros stay, tasks are learned, killed runs end the same."""

import dataclasses
import json
import os
import pathlib
import shutil
import socket

import tf_pof

import numpy as np
import pytest
from safetensors.numpy import save_file
import tensorflow as tf

from tests.tasks import tiny
from tf_pof._keras import keras
from tf_pof.data.tokenizer import WordPiece
from tf_pof.tasks import program, registry

# Metric to reach, far above what chance and wrong labels give.
GOOD = {
    "sst2": ("accuracy", 0.8),
    "pairs": ("accuracy", 0.7),
    "scores": ("pearson", 0.7),
    "squad": ("f1", 80),
    "squad_v2": ("f1", 80),
}
LABELS = {
    "sst2": ["negative", "positive"],
    "pairs": ["maybe", "no", "yes"],
    "scores": ["LABEL_0"],
}
PREDICTIONS = {
    "sst2": ["SST-2.tsv"],
    "pairs": ["predictions.tsv"],
    "scores": ["predictions.tsv"],
    "squad": ["nbest_predictions.json", "predictions.json"],
    "squad_v2": [
        "nbest_predictions.json",
        "null_odds.json",
        "predictions.json",
    ],
}


def zero_bits(tensor):
    """Where +0.0 is, bit by bit: -0.0 is none."""
    return tensor.view(np.uint32) == 0


def assert_zeros_stayed(start, end):
    """Every zero of the start is one of the end, and there are no others."""
    start, end = tiny.tensors(start), tiny.tensors(end)
    locked = 0
    for name, before in start.items():
        if not (before == 0).any() or before.ndim < 2:
            continue
        locked += 1
        np.testing.assert_array_equal(
            zero_bits(end[name]), zero_bits(before), name
        )
        moved = (end[name] != before)[before != 0]
        # Spans do without the pooler.
        used = "pooler" not in name or "classifier.weight" in end
        assert moved.mean() > 0.9 if used else not moved.any(), name
    # Query, key, value, two outputs, intermediate, pooler.
    assert locked == 7
    heads = [n for n in end if n.startswith(("classifier", "qa_outputs"))]
    assert len(heads) == 2
    for name in heads:
        assert (end[name] != 0).all(), name


@pytest.mark.parametrize("name", tiny.TASKS)
def test_sparse_model_learns_a_task_and_keeps_its_zeros(
    name, finished, tiny_model
):
    output = finished(name)
    assert_zeros_stayed(tiny_model, output / "model")
    report = json.loads((output / "report.json").read_text())
    metric, least = GOOD[name]
    assert report["metrics"]["validation"][metric] > least
    assert list(report["metrics"]["validation"])[0] == metric
    points = tiny.curve(output)
    assert [point["step"] for point in points] == list(range(8, 49, 8))
    assert points[-1]["loss"] < points[0]["loss"] / 2
    assert "hard" in points[0] and "distillation" not in points[0]
    found = sorted(os.listdir(output / "predictions"))
    assert found == PREDICTIONS[name]


@pytest.mark.parametrize("name", tiny.TASKS)
def test_model_folder_tells_labels_zeros_and_fine_tuning(
    name, finished, tiny_model
):
    folder = finished(name) / "model"
    config = json.loads((folder / "config.json").read_text())
    if name in LABELS:
        ids = {str(i): label for i, label in enumerate(LABELS[name])}
        assert config["id2label"] == ids
        assert config["tf_pof"]["labels"] == LABELS[name]
    told = json.loads((folder / "sparsity.json").read_text())
    # What pre-training told stays, today's zeros are counted.
    assert told["provenance"] == {"train_steps": 9}
    assert told["fine_tuning"]["learning_rate"] == 1e-2
    assert told["fine_tuning"]["model"] == tiny_model
    assert told["sparsity"] == tiny.SPARSITY
    query = told["tensors"]["layer_0_query/kernel"]
    assert query["zeros"] == 192 and query["size"] == 256
    assert query["threshold"] == 0.1
    assert (folder / "vocab.txt").read_text().split() == tiny.VOCABULARY


def test_predictions_are_the_official_files(finished):
    lines = (finished("sst2") / "predictions/SST-2.tsv").read_text()
    index, predicted = zip(*(x.split("\t") for x in lines.splitlines()))
    assert (index[0], predicted[0]) == ("index", "prediction")
    assert index[1:] == tuple(str(i) for i in range(48))
    assert set(predicted[1:]) == {"0", "1"}
    path = finished("squad") / "predictions/predictions.json"
    answers = json.loads(path.read_text())
    assert set(answers) == {f"validation{i}" for i in range(48)}
    assert list(answers.values()).count("x") > 40


@pytest.mark.parametrize(
    "name,precision",
    [
        ("sst2", "mixed_bfloat16"),
        ("pairs", "float32"),
        ("scores", "mixed_float16"),
        ("squad", "mixed_bfloat16"),
        ("squad_v2", "mixed_float16"),
    ],
)
def test_teacher_alone_teaches_whatever_the_labels_say(
    name, precision, finished, tiny_tasks, tiny_model, tmp_path
):
    """All labels of the train split are wrong, the teacher is right."""
    report, _ = tiny.run(
        tiny.settings(
            tiny_tasks["lie " + name],
            tiny_model,
            tmp_path / "run",
            teacher=str(finished(name) / "model"),
            hard_loss_weight=0.0,
            distillation_weight=1.0,
            precision=precision,
            seed=1,
        )
    )
    metric, least = GOOD[name]
    assert report["metrics"]["validation"][metric] > least
    assert_zeros_stayed(tiny_model, tmp_path / "run/model")
    assert "hard" not in tiny.curve(tmp_path / "run")[0]


def short(task, model, output, **changes):
    """Settings of a run of 4 steps."""
    fields = {
        "train_steps": 4,
        "warmup_fraction": 0.0,
        "log_every": 2,
        # Without it Adam makes large steps of small gradients, and so of
        # differences in rounding.
        "adam_epsilon": 1e-3,
    }
    return tiny.settings(task, model, output, **fields | changes)


def test_loss_weighs_labels_and_teacher_at_a_temperature(
    finished, tiny_tasks, tiny_model, tmp_path
):
    student = finished("sst2") / "model"
    teacher = finished("lie sst2") / "model"
    given = short(
        tiny_tasks["sst2"],
        str(student),
        tmp_path / "run",
        teacher=str(teacher),
        train_steps=1,
        batch_size=96,
        log_every=1,
        temperature=5.5,
        hard_loss_weight=0.25,
        distillation_weight=0.75,
    )
    tiny.run(given)
    path = pathlib.Path(given.task["raw_dir"], "SST-2/train.tsv")
    rows = [line.split("\t") for line in path.read_text().splitlines()[1:]]
    texts, labels = zip(*rows)
    labels = np.array(labels, int)
    tokenizer = WordPiece(str(student / "vocab.txt"))
    encoded = tokenizer.encode(list(texts), 24)
    s, t = (
        tf_pof.load(str(path))(encoded)["logits"].numpy().astype(np.float64)
        for path in (student, teacher)
    )

    def log_softmax(logits):
        return logits - np.log(np.exp(logits).sum(-1, keepdims=True))

    hard = -log_softmax(s)[np.arange(96), labels].mean()
    a, b = log_softmax(t / 5.5), log_softmax(s / 5.5)
    soft = 5.5**2 * (np.exp(a) * (a - b)).sum(-1).mean()
    (point,) = tiny.curve(given.output)
    np.testing.assert_allclose(point["hard"], hard, rtol=1e-4)
    np.testing.assert_allclose(point["distillation"], soft, rtol=1e-4)
    np.testing.assert_allclose(
        point["loss"], 0.25 * hard + 0.75 * soft, rtol=1e-4
    )


def reordered(folder, copy, order):
    """A copy of a classifier with its classes in another order."""
    shutil.copytree(folder, copy)
    path = copy / "model.safetensors"
    tensors = tiny.tensors(copy)
    for name in ("classifier.weight", "classifier.bias"):
        tensors[name] = np.ascontiguousarray(tensors[name][order])
    save_file(tensors, path)
    config = json.loads((copy / "config.json").read_text())
    labels = [config["tf_pof"]["labels"][i] for i in order]
    config["tf_pof"]["labels"] = labels
    config["id2label"] = {str(i): label for i, label in enumerate(labels)}
    (copy / "config.json").write_text(json.dumps(config))
    return str(copy)


def test_teacher_with_classes_in_another_order_teaches_the_same(
    finished, tiny_tasks, tiny_model, tmp_path
):
    folder = finished("pairs") / "model"
    # No order that undoes itself, which would hide a mapping the wrong way.
    other = reordered(folder, tmp_path / "other", [1, 2, 0])
    trained = []
    for name, teacher in (("a", str(folder)), ("b", other)):
        given = short(
            tiny_tasks["pairs"],
            tiny_model,
            tmp_path / name,
            teacher=teacher,
            hard_loss_weight=0.0,
            distillation_weight=1.0,
        )
        tiny.run(given)
        trained.append(tiny.tensors(tmp_path / name / "model"))
    for name, value in trained[0].items():
        np.testing.assert_allclose(trained[1][name], value, atol=1e-6)


@pytest.mark.parametrize(
    "changes,what",
    [
        ({}, "has no trained task head: fine-tune it with bin/finetune"),
        ({"head": "span"}, "was not fine-tuned for sst2"),
        (
            {"head": "classifier", "num_labels": 3},
            "was not fine-tuned for sst2",
        ),
        (
            {"head": "classifier", "vocabulary_size": 30},
            "a vocabulary of 30 tokens",
        ),
        (
            {"head": "classifier", "vocab": "other"},
            "another vocabulary",
        ),
        (
            {"head": "classifier", "max_sequence_length": 8},
            "teacher.*has 8 positions",
        ),
        (
            {"head": "classifier", "labels": ("up", "down")},
            '"up", "down" apart but the task "negative", "positive"',
        ),
    ],
    ids=str,
)
def test_teacher_that_does_not_fit_is_refused(
    changes, what, tiny_tasks, tiny_model, tiny_vocab, tmp_path
):
    vocab = tiny_vocab
    if "vocab" in changes:
        vocab = str(tmp_path / "vocab.txt")
        words = tiny.VOCABULARY[:-2] + tiny.VOCABULARY[:-3:-1]
        pathlib.Path(vocab).write_text("\n".join(words) + "\n")
    changes = {k: v for k, v in changes.items() if k != "vocab"}
    teacher = tiny.save_model(
        tmp_path / "teacher", vocab, sparse=False, **changes
    )
    given = short(
        tiny_tasks["sst2"], tiny_model, tmp_path / "run", teacher=teacher
    )
    with pytest.raises(ValueError, match=what):
        tiny.run(given)
    assert not (tmp_path / "run").exists()


def test_without_the_lock_zeros_move(tiny_tasks, tiny_model, tmp_path):
    given = short(tiny_tasks["sst2"], tiny_model, tmp_path / "run", lock=False)
    report, printed = tiny.run(given)
    name = "bert.encoder.layer.0.intermediate.dense.weight"
    before = tiny.tensors(tiny_model)[name]
    after = tiny.tensors(tmp_path / "run/model")[name]
    assert (after[before == 0] != 0).mean() > 0.9
    assert "sparsity" not in report and "Locked" not in printed


def test_dense_model_stays_dense(tiny_tasks, tiny_vocab, tmp_path):
    dense = tiny.save_model(tmp_path / "dense", tiny_vocab, sparse=False)
    given = short(tiny_tasks["sst2"], dense, tmp_path / "run")
    report, printed = tiny.run(given)
    assert "sparsity" not in report and "Locked" not in printed
    assert not (tmp_path / "run/model/sparsity.json").exists()


def test_frozen_embeddings_stay_as_they_are(tiny_tasks, tiny_model, tmp_path):
    given = short(
        tiny_tasks["sst2"],
        tiny_model,
        tmp_path / "run",
        freeze_embeddings=True,
        weight_decay=0.1,
    )
    tiny.run(given)
    before = tiny.tensors(tiny_model)
    after = tiny.tensors(tmp_path / "run/model")
    embeddings = [name for name in before if "_embeddings.weight" in name]
    assert len(embeddings) == 3
    for name in embeddings:
        np.testing.assert_array_equal(after[name], before[name])


@pytest.fixture(scope="module")
def plain(tiny_tasks, tiny_model, tmp_path_factory):
    """Output of a run of 4 steps in float32 on one device."""
    output = tmp_path_factory.mktemp("plain") / "run"
    tiny.run(short(tiny_tasks["squad"], tiny_model, output))
    return output


def assert_same_model(a, b):
    a, b = (tiny.tensors(output / "model") for output in (a, b))
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_allclose(b[name], a[name], atol=2e-5, err_msg=name)
        np.testing.assert_array_equal(b[name] == 0, a[name] == 0, name)


@pytest.mark.parametrize(
    "changes",
    [
        {"micro_batch_size": 4},
        {"jit_compile": True},
        pytest.param(
            {"jit_compile": True, "micro_batch_size": 8},
            marks=pytest.mark.slow,
        ),
    ],
    ids=str,
)
def test_how_a_step_is_computed_does_not_change_it(
    changes, plain, tiny_tasks, tiny_model, tmp_path
):
    given = short(tiny_tasks["squad"], tiny_model, tmp_path / "run", **changes)
    tiny.run(given)
    assert_same_model(plain, tmp_path / "run")


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


def test_two_devices_and_two_workers_equal_one(
    plain, tiny_tasks, tiny_model, tmp_path
):
    def start(log, before="", output="workers", **values):
        environment = {k: values.pop(k) for k in ["TF_CONFIG"] if k in values}
        return tiny.Command(
            "finetune",
            tiny.flags(
                tiny_tasks["squad"],
                model=tiny_model,
                output=tmp_path / output,
                train_steps=4,
                batch_size=16,
                learning_rate=1e-2,
                warmup_fraction=0,
                weight_decay=0,
                dropout=0,
                log_every=2,
                evaluate_every=2,
                adam_epsilon=1e-3,
                **values,
            ),
            tmp_path / log,
            before,
            **environment,
        )

    addresses = [f"localhost:{port}" for port in free_ports(2)]
    cluster = {"worker": addresses}
    commands = [
        start(
            f"worker{i}.log",
            strategy="multi_worker",
            TF_CONFIG=json.dumps(
                {"cluster": cluster, "task": {"type": "worker", "index": i}}
            ),
        )
        for i in range(2)
    ]
    commands.append(
        start("mirrored.log", TWO_DEVICES, "mirrored", strategy="mirrored")
    )
    for command in commands:
        assert command.wait() == 0, command.printed
    # One of the workers writes, and shows, the result.
    shown = ["Model: " in command.printed for command in commands]
    assert shown == [True, False, True]
    one = json.loads((plain / "report.json").read_text())
    for name in ("workers", "mirrored"):
        assert_same_model(plain, tmp_path / name)
        two = json.loads((tmp_path / name / "report.json").read_text())
        assert two["metrics"] == one["metrics"]
        points = tiny.curve(tmp_path / name)
        assert [point["step"] for point in points] == [2, 4]
        assert "validation_f1" in points[0]


def test_steps_that_float16_skips_count(tiny_tasks, tiny_model, tmp_path):
    """Gradients overflow until the loss scale has fallen from 2^15."""
    given = short(
        tiny_tasks["sst2"],
        tiny_model,
        tmp_path / "run",
        precision="mixed_float16",
        hard_loss_weight=1e4,
        train_steps=14,
        checkpoint_every=7,
    )
    tiny.run(given)
    steps = [point["step"] for point in tiny.curve(given.output)]
    assert steps == [2, 4, 6, 8, 10, 12, 14]
    found = tf.train.latest_checkpoint(os.path.join(given.output, "checkpoints"))
    assert os.path.basename(found) == "ckpt-14"
    reader = tf.train.load_checkpoint(found)
    scale = reader.get_tensor(
        "optimizer/loss_scale/current_loss_scale/.ATTRIBUTES/VARIABLE_VALUE"
    )
    assert scale < 2**14


def test_parameter_servers_are_refused(tiny_tasks, tiny_model, tmp_path):
    given = short(
        tiny_tasks["sst2"],
        tiny_model,
        tmp_path / "run",
        strategy="parameter_server",
    )
    with pytest.raises(ValueError, match="use multi_worker"):
        tiny.run(given)


def test_pruning_on_the_task_ends_at_its_sparsity(pruned):
    report = json.loads((pruned / "report.json").read_text())
    assert report["sparsity"]["sparsity"] == 0.75
    assert report["metrics"]["validation"]["accuracy"] > 0.8
    tensors = tiny.tensors(pruned / "model")
    for name, tensor in tensors.items():
        if name.endswith(("dense.weight", "query.weight")):
            assert (tensor == 0).sum() == tensor.size * 3 // 4, name
    assert (tensors["classifier.weight"] != 0).all()
    # 8 steps into the ramp of 24, zeros of a kernel rounded down.
    expected = 0.75 * (1 - (16 / 24) ** 3)
    at_8 = tiny.curve(pruned)[0]["sparsity"]
    assert expected - 0.004 < at_8 <= expected
    config = json.loads((pruned / "model/config.json").read_text())
    assert config["tf_pof"]["labels"] == LABELS["sst2"]
    told = json.loads((pruned / "model/sparsity.json").read_text())
    assert told["fine_tuning"]["schedule"]["config"]["ramp_end_step"] == 24
    assert told["tensors"]["pooler/kernel"]["selected_at_step"] == 38


def test_finished_run_is_shown_again_not_run_again(finished, tiny_tasks):
    output = finished("sst2")
    before = (output / "report.json").read_bytes()
    told = json.loads(before)
    given = tiny.settings(
        tiny_tasks["sst2"],
        told["settings"]["model"],
        output,
        checkpoint_every=24,
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
    task = tiny_tasks["sst2"] | changes.pop("task", {})
    given = tiny.settings(task, tiny_model, finished("sst2"), **changes)
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
    ],
    ids=str,
)
def test_a_command_that_failed_does_not_claim_the_output(
    changes, what, tiny_tasks, tiny_model, tmp_path, monkeypatch
):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    changes = dict(changes)
    task = tiny_tasks["sst2"] | changes.pop("task", {})
    given = short(task, tiny_model, tmp_path / "run")
    with pytest.raises((ValueError, OSError), match=what):
        tiny.run(dataclasses.replace(given, **changes))
    assert not (tmp_path / "run").exists()


def test_sequences_longer_than_the_model_are_refused(
    tiny_tasks, tiny_vocab, tmp_path
):
    model = tiny.save_model(
        tmp_path / "model", tiny_vocab, max_sequence_length=12
    )
    given = short(tiny_tasks["sst2"], model, tmp_path / "run")
    with pytest.raises(
        ValueError, match="12 positions.*up to 15 tokens.*--sequence_length"
    ):
        tiny.run(given)


# Where processes end themselves: the moment, and the step to go on from.
KILLED = {
    "after step 3, before any checkpoint": """
from tf_pof.training import callbacks
real = callbacks.SaveCheckpoints.on_train_batch_end
def kill(self, batch, logs=None):
    real(self, batch, logs)
    if int(self.model.optimizer.iterations.numpy()) == 3:
        os.kill(os.getpid(), 9)
callbacks.SaveCheckpoints.on_train_batch_end = kill
""",
    "while checkpoint 10 is written": """
import tensorflow as tf
real = tf.train.CheckpointManager._record_state
def kill(self):
    if "ckpt-10" in str(self._maybe_delete):
        os.kill(os.getpid(), 9)
    real(self)
tf.train.CheckpointManager._record_state = kill
""",
    "in the final evaluation": """
from tf_pof.tasks import scoring
def kill(model, features, batch_size, console):
    os.kill(os.getpid(), 9)
scoring.outputs_of = kill
""",
    "before the report": """
from tf_pof.training import report
real = report.write_json
def kill(path, value):
    if path.endswith("report.json"):
        os.kill(os.getpid(), 9)
    real(path, value)
report.write_json = kill
""",
}


def test_killed_runs_end_bit_identical(tiny_tasks, tiny_model, tmp_path):
    arguments = tiny.flags(
        tiny_tasks["sst2"],
        model=tiny_model,
        # 3.5 passes over 96 examples: 21 steps of 16.
        epochs=3.5,
        batch_size=16,
        learning_rate=1e-2,
        dropout=0.2,
        checkpoint_every=5,
        log_every=1,
    )

    def start(name, before=""):
        output = tmp_path / name
        return tiny.Command(
            "finetune",
            [*arguments, f"--output={output}"],
            f"{output}.log",
            before,
        )

    whole = start("whole")
    for moment, before in KILLED.items():
        broken = start("broken", before)
        assert broken.wait() == -9, (moment, broken.printed)
        assert not (tmp_path / "broken/report.json").exists(), moment
    broken = start("broken")
    assert broken.wait() == 0, broken.printed
    assert "Going on from step 21 of 21" in broken.printed
    assert whole.wait() == 0, whole.printed
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
