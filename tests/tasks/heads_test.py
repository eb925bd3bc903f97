"""Heads of other models are put into the order of a task."""

import json
import logging
import pathlib

import tf_pof

import numpy as np
import pytest

from tests.tasks import tiny
from tf_pof.data.tokenizer import WordPiece
from tf_pof.models import bert
from tf_pof.tasks import evaluation, heads, program, registry

# No order that undoes itself, which would hide a mapping the wrong way.
OTHER = ("maybe", "yes", "no")
LABELS = ("no", "maybe", "yes")
ORDER = [OTHER.index(label) for label in LABELS]
X = {
    "token_ids": np.array([[2, 6, 9, 3], [2, 12, 8, 3]]),
    "segment_ids": np.zeros((2, 4), int),
    "padding_mask": np.ones((2, 4), int),
}


@pytest.fixture
def model_of(tiny_vocab, tmp_path):
    def make(labels, **changes):
        return tiny.save_model(
            tmp_path / "model",
            tiny_vocab,
            head="classifier",
            num_labels=len(labels),
            labels=labels,
            **changes,
        )

    return make


def _task(tiny_tasks, labels=LABELS):
    return tiny_tasks["pairs"] | {"labels": list(labels)}


def _logits(model):
    return model(X)["logits"].numpy()


@pytest.mark.parametrize("qat", [False, True])
def test_a_student_begins_with_its_classes_in_the_task_s_order(
    qat, model_of, tiny_tasks, tmp_path
):
    path = model_of(OTHER)
    options = _task(tiny_tasks)
    task = registry.create(**options)
    given = tiny.settings(
        options, path, tmp_path / "run", qat=qat, **tiny.SHORT
    )
    student = program.load_student(given, task)
    expected = _logits(tf_pof.load(path))[:, ORDER]
    np.testing.assert_array_equal(_logits(student), expected)
    assert student.labels == LABELS
    assert task.notes() == [
        f'{path} has the classes in the order "maybe", "yes", "no": they '
        "were matched by name."
    ]


def test_a_step_that_changes_nothing_leaves_every_answer(
    finished, tiny_tasks, tmp_path
):
    """Plain fine-tuning once ended with the answers of other classes."""
    output = finished("pairs")
    options = tiny_tasks["pairs"]
    before = tf_pof.load(output / "model")
    order = [1, 2, 0]
    model = tf_pof.load(output / "model")
    classifier = model.get_layer("classifier")
    kernel, bias = classifier.get_weights()
    classifier.set_weights([kernel[:, order], bias[order]])
    model.labels = tuple(before.labels[i] for i in order)
    tf_pof.save(model, tmp_path / "other")
    values = tiny.SHORT | {"train_steps": 1, "learning_rate": 1e-9}
    given = tiny.settings(
        options, str(tmp_path / "other"), tmp_path / "run", **values
    )
    report, printed = tiny.run(given)
    stored = json.loads((output / "report.json").read_text())
    metric = report["metrics"]["validation"]["accuracy"]
    assert metric == stored["metrics"]["validation"]["accuracy"] > 0.7
    assert "were matched by name" in " ".join(printed.split())


def test_classes_without_names_are_assumed_and_it_is_said(
    model_of, tiny_tasks, tmp_path
):
    path = model_of(("LABEL_0", "LABEL_1", "LABEL_2"))
    options = _task(tiny_tasks)
    task = registry.create(**options)
    given = tiny.settings(options, path, tmp_path / "run", **tiny.SHORT)
    student = program.load_student(given, task)
    np.testing.assert_array_equal(_logits(student), _logits(tf_pof.load(path)))
    (note,) = task.notes()
    assert "are assumed to be in the order of the task's" in note


@pytest.mark.parametrize("labels", [("a", "b", "c"), ("yes", "b", "maybe")])
def test_a_head_of_other_classes_gets_new_weights(
    labels, model_of, tiny_tasks, tmp_path, caplog
):
    path = model_of(labels)
    options = _task(tiny_tasks)
    task = registry.create(**options)
    given = tiny.settings(options, path, tmp_path / "run", **tiny.SHORT)
    with caplog.at_level(logging.WARNING):
        student = program.load_student(given, task)
    assert "its head gets new weights" in caplog.text
    old = tf_pof.load(path)
    kernel, bias = student.get_layer("classifier").get_weights()
    assert (kernel != old.get_layer("classifier").get_weights()[0]).all()
    assert 0 < np.abs(kernel).max() < 3 * 0.3 and not bias.any()
    assert student.labels == LABELS
    assert not heads.is_trained(student) and heads.is_trained(old)
    pooler = [m.get_layer("pooler").get_weights()[0] for m in (student, old)]
    np.testing.assert_array_equal(*pooler)
    # What is quantized or taught from must be of the task.
    given = tiny.settings(
        options, path, tmp_path / "run", qat=True, **tiny.SHORT
    )
    with pytest.raises(ValueError, match='apart but the task "no", "maybe"'):
        program.load_student(given, task)


@pytest.mark.parametrize("quantized", [False, True])
@pytest.mark.parametrize(
    "labels, order",
    [
        (("1", "0", "2"), [1, 0, 2]),
        (("LABEL_0", "LABEL_1", "LABEL_2"), [0, 1, 2]),
        (("bad", "fair", "good"), [0, 1, 2]),
    ],
)
def test_a_teacher_of_numbered_classes(
    quantized, labels, order, model_of, tiny_tasks, tiny_vocab, tmp_path
):
    path = model_of(labels)
    teacher = tf_pof.load(path)
    if quantized:
        teacher = tf_pof.quantize(teacher)
        path = str(tmp_path / "quantized")
        tf_pof.save(teacher, path, vocab_file=tiny_vocab)
        teacher = tf_pof.load(path)
    expected = _logits(teacher)[:, order]
    task = registry.create(**_task(tiny_tasks, ("0", "1", "2")))
    student = tf_pof.load(path)
    found = program.load_teacher(path, task, student)
    np.testing.assert_allclose(_logits(found), expected, atol=1e-6)
    (note,) = task.notes()
    assert note.startswith(f"The teacher {path} ")
    assert ("by name" in note) == (order[0] == 1)


def test_labels_of_the_data_name_a_model_s_numbered_classes(
    tiny_tasks, tmp_path
):
    options = {**tiny_tasks["pairs"]}
    model = bert.build(tiny.config(), "classifier", 3)
    model.labels = ("LABEL_0", "LABEL_1", "LABEL_2")
    found = evaluation.task_for(model, "m", options)
    assert found.labels == ("maybe", "no", "yes")
    # Predictions of a test file need no names.
    path = pathlib.Path(options["validation_file"])
    del options["train_file"], options["validation_file"]
    options["test_file"] = str(path)
    assert evaluation.task_for(model, "m", options).labels == model.labels


def test_evaluation_tells_what_it_assumes(
    model_of, tiny_tasks, tiny_vocab
):
    task = registry.create(**_task(tiny_tasks))
    splits = evaluation.Splits(task, WordPiece(tiny_vocab), 16)
    splits.score(tf_pof.load(model_of(("0", "1", "2"))), "validation")
    assert [n for n in task.notes() if "The model" in n] == [
        'The model tells "0", "1", "2" apart: they are assumed to be in the '
        'order of the task\'s, "no", "maybe", "yes".'
    ]
