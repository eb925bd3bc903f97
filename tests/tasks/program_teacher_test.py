"""Fine-tuning from a teacher: what is learned, and who may teach."""

import json
import pathlib
import shutil

import tf_pof

import numpy as np
import pytest
from safetensors.numpy import save_file

from tests.tasks import tiny
from tf_pof.data.tokenizer import WordPiece
from tf_pof.tasks import program, registry

WAYS = {
    "sst2": {"precision": "mixed_bfloat16"},
    "pairs": {"micro_batch_size": 5},
    "scores": {"precision": "mixed_float16"},
    "squad": {"precision": "mixed_bfloat16", "micro_batch_size": 8},
    "squad_v2": {"jit_compile": True},
}


@pytest.fixture(scope="module")
def taught(finished, tiny_tasks, tiny_model, tmp_path_factory):
    """Maps a task's name to a run whose labels lie, but not its teacher."""
    root = tmp_path_factory.mktemp("taught")
    started = {
        name: tiny.finetune(
            tiny_tasks["lie " + name],
            tiny_model,
            root / name,
            teacher=finished(name) / "model",
            seed=1,
            **tiny.RUN,
            **ways,
        )
        for name, ways in WAYS.items()
    }

    def output(name):
        started[name].finish()
        return root / name

    return output


@pytest.mark.parametrize("name", tiny.TASKS)
def test_teacher_alone_teaches_whatever_the_labels_say(
    name, taught, tiny_model
):
    """All labels of the train split are wrong, the teacher is right."""
    report = json.loads((taught(name) / "report.json").read_text())
    metric, least = tiny.GOOD[name]
    assert report["metrics"]["validation"][metric] > least
    tiny.assert_zeros_stayed(tiny_model, taught(name) / "model")
    assert "hard" not in tiny.curve(taught(name))[0]


def test_loss_weighs_labels_and_teacher_and_nothing_is_locked_unasked(
    tiny_tasks, tiny_vocab, tmp_path
):
    student, teacher = (
        tiny.save_model(tmp_path / str(i), tiny_vocab, i, head="classifier")
        for i in range(2)
    )
    values = {"train_steps": 1, "batch_size": 96, "log_every": 1}
    given = tiny.settings(
        tiny_tasks["sst2"],
        student,
        tmp_path / "run",
        teacher=teacher,
        temperature=5.5,
        hard_loss_weight=0.25,
        distillation_weight=0.75,
        lock=False,
        **tiny.SHORT | values,
    )
    report, printed = tiny.run(given)
    path = pathlib.Path(given.task["raw_dir"], "SST-2/train.tsv")
    rows = [line.split("\t") for line in path.read_text().splitlines()[1:]]
    texts, labels = zip(*rows)
    labels = np.array(labels, int)
    tokenizer = WordPiece(tiny_vocab)
    encoded = tokenizer.encode(list(texts), 24)
    s, t = (
        tf_pof.load(path)(encoded)["logits"].numpy().astype(np.float64)
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
    # Without the lock one step moves all zeros.
    name = "bert.encoder.layer.0.intermediate.dense.weight"
    before = tiny.tensors(student)[name]
    after = tiny.tensors(tmp_path / "run/model")[name]
    assert (after[before == 0] != 0).mean() > 0.9
    assert "sparsity" not in report and "Locked" not in printed


def test_a_teacher_of_another_case_is_refused(
    finished, tiny_tasks, tiny_model, tmp_path
):
    folder = shutil.copytree(finished("sst2") / "model", tmp_path / "teacher")
    told = {"do_lower_case": False}
    (folder / "tokenizer_config.json").write_text(json.dumps(told))
    task = registry.create(**tiny_tasks["sst2"])
    with pytest.raises(ValueError, match="teacher reads cased text and"):
        program.load_teacher(str(folder), task, tf_pof.load(tiny_model))


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


@pytest.fixture(scope="module")
def student(tiny_model):
    return tf_pof.load(tiny_model)


def test_teacher_with_classes_in_another_order_teaches_the_same(
    finished, tiny_tasks, student, tmp_path
):
    folder = finished("pairs") / "model"
    # No order that undoes itself, which would hide a mapping the wrong way.
    other = reordered(folder, tmp_path / "other", [1, 2, 0])
    task = registry.create(**tiny_tasks["pairs"])
    x = task.features(
        task.examples("validation"), WordPiece(student.vocab_file), False
    ).inputs(np.arange(8), tiny.POSITIONS)
    logits, same = (
        program.load_teacher(str(path), task, student)(x)["logits"].numpy()
        for path in (folder, other)
    )
    np.testing.assert_allclose(same, logits, atol=1e-6)
    expected = tf_pof.load(folder)(x)["logits"].numpy()
    np.testing.assert_allclose(logits, expected, atol=1e-6)


def test_a_teacher_may_be_the_output_of_its_run(
    finished, tiny_tasks, student
):
    task = registry.create(**tiny_tasks["squad"])
    output = finished("squad")
    teacher = program.load_teacher(str(output), task, student)
    expected = tf_pof.load(output / "model").get_weights()
    for value, other in zip(teacher.get_weights(), expected, strict=True):
        np.testing.assert_array_equal(value, other)


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
            {"head": "classifier", "vocabulary_size": 30, "vocab": "none"},
            "a vocabulary of 30 tokens",
        ),
        (
            {"head": "classifier", "vocab": "other"},
            "another vocabulary",
        ),
        (
            {"head": "classifier", "labels": ("up", "down")},
            '"up", "down" apart but the task "negative", "positive"',
        ),
    ],
    ids=str,
)
def test_teacher_that_does_not_fit_is_refused(
    changes, what, tiny_tasks, student, tiny_vocab, tmp_path
):
    vocab, changes = tiny_vocab, dict(changes)
    wanted = changes.pop("vocab", None)
    if wanted == "none":
        vocab = None
    elif wanted:
        vocab = str(tmp_path / "vocab.txt")
        words = tiny.VOCABULARY[:-2] + tiny.VOCABULARY[:-3:-1]
        pathlib.Path(vocab).write_text("\n".join(words) + "\n")
    teacher = tiny.save_model(
        tmp_path / "teacher", vocab, sparse=False, **changes
    )
    task = registry.create(**tiny_tasks["sst2"])
    with pytest.raises(ValueError, match=what):
        program.load_teacher(teacher, task, student)
