"""The losses of each head, against numpy."""

import tf_pof  # noqa: F401  (legacy Keras before TensorFlow)

import numpy as np
import pytest

from tests.tasks import tiny
from tf_pof._keras import keras
from tf_pof.models import bert
from tf_pof.tasks import distillers
from tf_pof.tasks.glue import Glue
from tf_pof.tasks.squad import Squad
from tf_pof.tasks.table_files import Table

LENGTHS = np.array([5, 8, 3, 8])


def make(task, student, teacher, rate=0.0, **weights):
    distiller = distillers.make(
        task, student, teacher, keras.optimizers.SGD(rate), **weights
    )
    # Nothing to trace: each is used once.
    distiller.run_eagerly = True
    return distiller


def model(seed, head, num_labels=2):
    keras.utils.set_random_seed(seed)
    return bert.build(
        tiny.config(dropout=0.0, attention_dropout=0.0), head, num_labels
    )


def batch(padded_to=8):
    draw = np.random.default_rng(0)
    mask = (np.arange(padded_to) < LENGTHS[:, None]).astype(np.int32)
    tokens = np.zeros_like(mask)
    tokens[:, :8] = draw.integers(6, 20, (4, 8))
    return {
        "token_ids": tokens * mask,
        "segment_ids": (np.arange(padded_to) >= 2) * mask,
        "padding_mask": mask,
    }


STARTS = {
    "start_logits": np.array([2, 0, 1, 7], np.int32),
    "end_logits": np.array([4, 0, 2, 7], np.int32),
}


def log_softmax(logits):
    logits = logits.astype(np.float64)
    logits = logits - logits.max(-1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def rows(logits):
    """The logits of each sequence's tokens alone."""
    return [logits[i, :n] for i, n in enumerate(LENGTHS)]


def span_terms(student, teacher, temperature):
    """Cross-entropy and divergence, start and end weighing .5 each."""
    s, t = student(batch()), teacher(batch())
    hard = soft = 0.0
    for name, targets in STARTS.items():
        for i, (mine, other) in enumerate(
            zip(rows(s[name].numpy()), rows(t[name].numpy()))
        ):
            hard += 0.5 * -log_softmax(mine)[targets[i]] / 4
            a = log_softmax(other / temperature)
            b = log_softmax(mine / temperature)
            kl = (np.exp(a) * (a - b)).sum()
            soft += 0.5 * temperature**2 * kl / 4
    return hard, soft


@pytest.mark.parametrize("padded_to", [8, 11, 32])
def test_span_loss_is_of_tokens_alone_however_far_a_batch_is_padded(padded_to):
    student, teacher = model(1, "span"), model(2, "span")
    distiller = make(
        Squad(),
        student,
        teacher,
        hard_loss_weight=0.3,
        distillation_weight=0.7,
        temperature=3.0,
    )
    found = distiller.test_on_batch(
        batch(padded_to), STARTS, return_dict=True
    )
    hard, soft = span_terms(student, teacher, 3.0)
    np.testing.assert_allclose(found["hard"], hard, rtol=1e-5)
    np.testing.assert_allclose(found["distillation"], soft, rtol=1e-5)
    np.testing.assert_allclose(
        found["loss"], 0.3 * hard + 0.7 * soft, rtol=1e-5
    )


@pytest.mark.parametrize("weights", [(1.0, 0.0), (0.0, 1.0)])
def test_span_steps_do_not_depend_on_padding(weights):
    trained = []
    for padded_to in (8, 20):
        student = model(1, "span")
        distiller = make(
            Squad(),
            student,
            model(2, "span"),
            rate=0.1,
            hard_loss_weight=weights[0],
            distillation_weight=weights[1],
        )
        distiller.train_on_batch(batch(padded_to), STARTS)
        trained.append(student.get_weights())
    for a, b in zip(*trained):
        np.testing.assert_allclose(a, b, atol=1e-6)
    untrained = model(1, "span").get_layer("span_logits").kernel.numpy()
    kernel = student.get_layer("span_logits").kernel.numpy()
    assert np.abs(kernel - untrained).max() > 1e-3


def test_span_distillation_takes_hidden_losses_too():
    student, teacher = model(1, "span"), model(2, "span")
    found = []
    for padded_to in (8, 20):
        distiller = make(
            Squad(),
            student,
            teacher,
                hidden_loss_weight=0.5,
            attention_loss_weight=0.5,
        )
        found.append(
            distiller.test_on_batch(
                batch(padded_to), STARTS, return_dict=True
            )
        )
    assert {"hidden", "attention", "hard", "distillation"} < found[0].keys()
    for name, value in found[0].items():
        np.testing.assert_allclose(found[1][name], value, rtol=1e-4)


def test_masked_logits_are_finite_in_float16():
    student, teacher = model(1, "span"), model(2, "span")
    distiller = make(Squad(), student, teacher)
    outputs = distiller.run(batch(10), training=False)
    for output in outputs:
        for name in STARTS:
            value = output[name].numpy().astype(np.float16)
            assert np.isfinite(value).all()
            pad = batch(10)["padding_mask"] == 0
            assert (value[pad] < -1000).all() and pad.any()
            assert (np.abs(value[~pad]) < 100).all()


def test_classes_are_learned_by_cross_entropy_and_divergence():
    student, teacher = model(1, "classifier", 3), model(2, "classifier", 3)
    distiller = make(
        Glue("mnli"),
        student,
        teacher,
        hard_loss_weight=0.25,
        distillation_weight=0.75,
        temperature=2.0,
    )
    labels = np.array([2, 0, 1, 2], np.int32)
    found = distiller.test_on_batch(batch(), labels, return_dict=True)
    s, t = (m(batch())["logits"].numpy() for m in (student, teacher))
    hard = -log_softmax(s)[np.arange(4), labels].mean()
    a, b = log_softmax(t / 2), log_softmax(s / 2)
    soft = 4 * (np.exp(a) * (a - b)).sum(-1).mean()
    np.testing.assert_allclose(found["hard"], hard, rtol=1e-5)
    np.testing.assert_allclose(found["distillation"], soft, rtol=1e-5)
    expected = 0.25 * hard + 0.75 * soft
    np.testing.assert_allclose(found["loss"], expected, rtol=1e-5)


def test_scores_are_learned_by_squared_error():
    student, teacher = model(1, "classifier", 1), model(2, "classifier", 1)
    distiller = make(
        Table("t.csv", None, "text", regression=True),
        student,
        teacher,
        hard_loss_weight=0.25,
        distillation_weight=0.75,
    )
    scores = np.array([[0.0], [5.0], [-1.0], [2.0]], np.float32)
    found = distiller.test_on_batch(batch(), scores, return_dict=True)
    s, t = (m(batch())["logits"].numpy() for m in (student, teacher))
    hard, soft = np.square(s - scores).mean(), np.square(s - t).mean()
    np.testing.assert_allclose(found["hard"], hard, rtol=1e-5)
    np.testing.assert_allclose(found["distillation"], soft, rtol=1e-5)


def test_without_a_teacher_labels_alone_are_learned():
    student = model(1, "span")
    distiller = make(Squad(), student, None, hard_loss_weight=1.0)
    found = distiller.test_on_batch(batch(), STARTS, return_dict=True)
    hard, _ = span_terms(student, student, 1.0)
    np.testing.assert_allclose(found["loss"], hard, rtol=1e-5)
    assert "distillation" not in found
