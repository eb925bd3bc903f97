import tf_pof  # noqa: F401  (legacy Keras before TensorFlow)

import numpy as np
import pytest
import tensorflow as tf

from tf_pof.distillation.vocabulary_loss import Decoder, chunked_loss

ROWS, WIDTH, VOCABULARY, T = 11, 8, 50, 2.0


def softmax(logits):
    e = np.exp(logits - logits.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def problem(seed=0, teacher_width=6):
    r = np.random.default_rng(seed)

    def draw(*shape):
        return r.normal(size=shape)

    return {
        "student": (
            draw(ROWS, WIDTH),
            draw(VOCABULARY, WIDTH),
            draw(VOCABULARY),
        ),
        "teacher": (
            draw(ROWS, teacher_width),
            draw(VOCABULARY, teacher_width),
            draw(VOCABULARY),
        ),
        "labels": r.integers(0, VOCABULARY, ROWS),
        "hard": (r.random(ROWS) < 0.5) * 0.3,
        "soft": (r.random(ROWS) < 0.8) * 0.1,
    }


def reference(p, weights, labels=True, teacher=True):
    """float64 loss, sums and gradients from the formulas."""
    hidden, kernel, bias = p["student"]
    logits = hidden @ kernel.T + bias
    hard = soft = 0.0
    d_logits = np.zeros_like(logits)
    if labels:
        probabilities = softmax(logits)
        picked = probabilities[np.arange(ROWS), p["labels"]]
        hard = -(p["hard"] * np.log(picked)).sum()
        onehot = np.eye(VOCABULARY)[p["labels"]]
        d_logits += weights[0] * p["hard"][:, None] * (probabilities - onehot)
    if teacher:
        other, table, offset = p["teacher"]
        target = softmax((other @ table.T + offset) / T)
        own = softmax(logits / T)
        divergence = (target * (np.log(target) - np.log(own))).sum(-1)
        soft = (p["soft"] * divergence).sum() * T**2
        d_logits += weights[1] * T * p["soft"][:, None] * (own - target)
    gradients = (d_logits @ kernel, d_logits.T @ hidden, d_logits.sum(0))
    return weights[0] * hard + weights[1] * soft, hard, soft, gradients


def computed(p, weights, labels=True, teacher=True, chunk=4, **kwargs):
    def decoder(arrays):
        return Decoder(*(tf.constant(a, tf.float32) for a in arrays))

    student = decoder(p["student"])
    with tf.GradientTape() as tape:
        tape.watch(list(student))
        loss, sums = chunked_loss(
            student,
            decoder(p["teacher"]) if teacher else None,
            tf.constant(p["labels"], tf.int32) if labels else None,
            tf.constant(p["hard"], tf.float32) if labels else None,
            tf.constant(p["soft"], tf.float32) if teacher else None,
            weights=weights,
            temperature=T,
            chunk_size=chunk,
            **kwargs,
        )
    return loss, sums, tape.gradient(loss, list(student))


@pytest.mark.parametrize("chunk", [1, 4, 11, 100])
@pytest.mark.parametrize(
    "labels,teacher", [(True, True), (True, False), (False, True)]
)
def test_loss_and_gradients_follow_the_formulas(chunk, labels, teacher):
    p = problem()
    weights = (0.5, 0.25)
    loss, hard, soft, gradients = reference(p, weights, labels, teacher)
    got, sums, got_gradients = computed(p, weights, labels, teacher, chunk)
    np.testing.assert_allclose(got, loss, rtol=1e-5)
    np.testing.assert_allclose(sums["hard"], hard, rtol=1e-5)
    np.testing.assert_allclose(sums["distillation"], soft, rtol=1e-4, atol=1e-6)
    for a, b in zip(got_gradients, gradients):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_rows_past_num_rows_are_not_looked_at():
    p = problem()
    p["hard"][5:] = 0
    p["soft"][5:] = 0
    loss, *_ = reference(p, (1.0, 1.0))
    p["student"][0][8:] = np.nan  # In chunks that must not be touched.
    got, _, gradients = computed(p, (1.0, 1.0), num_rows=tf.constant(5))
    np.testing.assert_allclose(got, loss, rtol=1e-5)
    assert np.isfinite(gradients[1]).all()
    np.testing.assert_array_equal(gradients[0][8:], 0)


def test_correct_counts_labelled_hits_only():
    p = problem()
    hidden, kernel, bias = p["student"]
    best = (hidden @ kernel.T + bias).argmax(-1)
    p["labels"] = best
    p["hard"] = np.array([1.0] * 3 + [0.0] * 8)
    p["labels"][2] = (best[2] + 1) % VOCABULARY
    _, sums, _ = computed(p, (1.0, 1.0))
    assert sums["correct"] == 2


def test_equal_distributions_have_no_divergence_and_no_gradient():
    p = problem(teacher_width=WIDTH)
    p["teacher"] = p["student"]
    _, sums, gradients = computed(p, (1.0, 1.0), labels=False)
    np.testing.assert_allclose(sums["distillation"], 0, atol=1e-5)
    for gradient in gradients:
        np.testing.assert_allclose(gradient, 0, atol=1e-5)


def test_float16_holds_the_gradient_of_a_large_batch():
    # 1 / 30,000 tokens times a probability of 1 / 50 underflows in float16.
    p = problem()
    p["hard"] *= 1e-5
    p["soft"] *= 1e-5
    *_, exact = reference(p, (0.5, 0.5))
    *_, got = computed(p, (0.5, 0.5), compute_dtype=tf.float16)
    for a, b in zip(got, exact):
        np.testing.assert_allclose(a, b, rtol=0.05, atol=np.abs(b).max() / 50)


def test_dynamic_rows_and_xla_agree_with_eager():
    p = problem()
    expected, _, gradients = computed(p, (1.0, 1.0))
    for options in ({"jit_compile": True}, {}):
        got, _, got_gradients = tf.function(
            lambda: computed(p, (1.0, 1.0)), **options
        )()
        np.testing.assert_allclose(got, expected, rtol=1e-5)
        for a, b in zip(got_gradients, gradients):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)

    @tf.function(input_signature=[tf.TensorSpec([None, WIDTH])])
    def dynamic(hidden):
        student = [tf.constant(a, tf.float32) for a in p["student"][1:]]
        return chunked_loss(
            Decoder(hidden, *student),
            labels=tf.constant(p["labels"], tf.int32),
            hard_scale=tf.constant(p["hard"], tf.float32),
            chunk_size=4,
        )[0]

    loss, *_ = reference(p, (1.0, 0.0), teacher=False)
    got = dynamic(tf.constant(p["student"][0], tf.float32))
    np.testing.assert_allclose(got, loss, rtol=1e-5)
