import dataclasses

import tf_pof  # noqa: F401  (legacy Keras before TensorFlow)

import numpy as np
import pytest
import tensorflow as tf

from tf_pof._keras import keras
from tf_pof.models.bert import build
from tf_pof.models.config import BertConfig
from tf_pof.training.pretraining import PretrainingDistiller

BATCH, SEQ, SLOTS, VOCABULARY = 4, 12, 3, 60
CONFIG = BertConfig(
    vocabulary_size=VOCABULARY,
    num_layers=1,
    num_heads=2,
    hidden_dim=8,
    intermediate_dim=16,
    max_sequence_length=SEQ,
    dropout=0.0,
    attention_dropout=0.0,
)


def bert(seed, **changes):
    keras.utils.set_random_seed(seed)
    model = build(dataclasses.replace(CONFIG, **changes), "pretraining")
    for weight in model.weights:  # Beyond 0.02: losses must differ.
        weight.assign(weight + tf.random.normal(weight.shape, stddev=0.3))
    return model


def batch(seed=0):
    r = np.random.default_rng(seed)
    lengths = np.array([12, 9, 7, 12])
    mask = (np.arange(SEQ) < lengths[:, None]).astype(np.int32)
    positions = np.zeros((BATCH, SLOTS), np.int32)
    weights = np.zeros((BATCH, SLOTS), np.float32)
    for i, used in enumerate((3, 2, 1, 3)):
        chosen = 1 + r.permutation(lengths[i] - 1)[:used]
        positions[i, :used] = np.sort(chosen)
        weights[i, :used] = 1
    x = {
        "token_ids": r.integers(5, VOCABULARY, (BATCH, SEQ)).astype(np.int32)
        * mask,
        "segment_ids": (np.arange(SEQ) > 5) * mask,
        "padding_mask": mask,
    }
    y = {
        "mlm_positions": positions,
        "mlm_labels": r.integers(5, VOCABULARY, (BATCH, SLOTS)).astype(np.int32)
        * weights.astype(np.int32),
        "mlm_weights": weights,
        "nsp_labels": np.array([0, 1, 1, 0], np.int32),
    }
    x["segment_ids"] = x["segment_ids"].astype(np.int32)
    return x, y


def log_softmax(logits):
    logits = logits.astype(np.float64)
    logits = logits - logits.max(-1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def expected_terms(student, teacher, x, y, temperature):
    """The recipe's losses from the full logits, in float64."""
    s = {k: v.numpy() for k, v in student(x).items()}
    t = {k: v.numpy() for k, v in teacher(x).items()}
    mlm, hits, count = 0.0, 0, 0
    log_p = log_softmax(s["mlm_logits"])
    for b in range(BATCH):
        for k in range(SLOTS):
            if y["mlm_weights"][b, k]:
                position = y["mlm_positions"][b, k]
                label = y["mlm_labels"][b, k]
                mlm -= log_p[b, position, label]
                hits += log_p[b, position].argmax() == label
                count += 1
    tokens = x["padding_mask"] > 0
    a = log_softmax(t["mlm_logits"] / temperature)
    b = log_softmax(s["mlm_logits"] / temperature)
    divergence = (np.exp(a) * (a - b)).sum(-1)
    nsp = log_softmax(s["nsp_logits"])
    c = log_softmax(t["nsp_logits"] / temperature)
    d = log_softmax(s["nsp_logits"] / temperature)
    labels = y["nsp_labels"]
    return {
        "mlm": mlm / count,
        "mlm_accuracy": hits / count,
        "mlm_distillation": divergence[tokens].mean() * temperature**2,
        "nsp": -nsp[np.arange(BATCH), labels].mean(),
        "nsp_accuracy": (nsp.argmax(-1) == labels).mean(),
        "nsp_distillation": (np.exp(c) * (c - d)).sum(-1).mean()
        * temperature**2,
    }


@pytest.mark.parametrize("chunk_size", [5, 512])
def test_terms_are_the_recipe_s(chunk_size):
    student, teacher = bert(1), bert(2)
    x, y = batch()
    distiller = PretrainingDistiller(
        student, teacher, 0.4, 0.6, temperature=2.0, chunk_size=chunk_size
    )
    distiller.compile("sgd")
    got = distiller.test_on_batch(x, y, return_dict=True)
    expected = expected_terms(student, teacher, x, y, 2.0)
    expected["loss"] = 0.4 * (expected["mlm"] + expected["nsp"]) + 0.6 * (
        expected["mlm_distillation"] + expected["nsp_distillation"]
    )
    assert set(expected) == set(got)
    for name, value in expected.items():
        np.testing.assert_allclose(got[name], value, rtol=1e-4, err_msg=name)


def test_gradients_equal_those_of_the_plain_formula():
    student, teacher = bert(1), bert(2)
    x, y = batch()
    with tf.GradientTape() as tape:
        s, t = student(x), teacher(x)
        logits = tf.gather(
            s["mlm_logits"], y["mlm_positions"], batch_dims=1
        )
        mlm = tf.nn.sparse_softmax_cross_entropy_with_logits(
            y["mlm_labels"], logits
        )
        weights = y["mlm_weights"]
        loss = tf.reduce_sum(mlm * weights) / weights.sum()
        loss += tf.reduce_mean(
            tf.nn.sparse_softmax_cross_entropy_with_logits(
                y["nsp_labels"], s["nsp_logits"]
            )
        )
        mask = tf.cast(x["padding_mask"], tf.float32)
        for key, w in (("mlm_logits", mask), ("nsp_logits", tf.ones(BATCH))):
            a, b = tf.nn.log_softmax(t[key] / 2), tf.nn.log_softmax(s[key] / 2)
            divergence = tf.reduce_sum(tf.exp(a) * (a - b), -1)
            loss += 4 * tf.reduce_sum(divergence * w) / tf.reduce_sum(w)
        loss *= 0.5
    variables = student.trainable_variables
    expected = tape.gradient(loss, variables)
    before = [v.numpy() for v in variables]
    distiller = PretrainingDistiller(student, teacher, chunk_size=7)
    distiller.compile(keras.optimizers.SGD(1.0))
    distiller.train_on_batch(x, y)
    for old, new, gradient in zip(before, variables, expected):
        np.testing.assert_allclose(
            old - new.numpy(),
            tf.convert_to_tensor(gradient),
            rtol=1e-3,
            atol=2e-6,
            err_msg=new.name,
        )


def test_vocabulary_logits_of_all_positions_never_exist():
    student, teacher = bert(1), bert(2)
    distiller = PretrainingDistiller(student, teacher, chunk_size=5)
    distiller.compile("sgd")
    x, y = batch()
    distiller.fit(
        tf.data.Dataset.from_tensors((x, y)), steps_per_epoch=1, verbose=0
    )
    graph = distiller.train_function._concrete_variable_creation_fn.graph
    graphs = [graph] + [
        f.graph for f in graph._functions.values() if hasattr(f, "graph")
    ]
    biggest = 0
    names = []
    for g in graphs + [
        sub for g in graphs for sub in getattr(g, "_sub_graphs", [])
    ]:
        for op in g.get_operations():
            for out in op.outputs:
                shape = out.shape
                if shape.rank == 2 and shape[-1] == VOCABULARY and shape[0]:
                    biggest = max(biggest, shape[0])
                    names.append(op.name)
                assert not (shape.rank == 3 and shape[-1] == VOCABULARY)
    assert biggest <= BATCH * SLOTS, names


def test_teacher_preparation_has_labels_only():
    model = bert(1)
    x, y = batch()
    distiller = PretrainingDistiller(model, hard_loss_weight=1.0)
    distiller.compile("sgd")
    got = distiller.test_on_batch(x, y, return_dict=True)
    expected = expected_terms(model, model, x, y, 2.0)
    np.testing.assert_allclose(
        got["loss"], expected["mlm"] + expected["nsp"], rtol=1e-5
    )
    assert "mlm_distillation" not in got


def test_distilbert_has_no_next_sentence_terms():
    changes = {"num_segments": 0, "pooler": False}
    distiller = PretrainingDistiller(bert(1, **changes), bert(2, **changes))
    distiller.compile("sgd")
    got = distiller.test_on_batch(*batch(), return_dict=True)
    assert not [name for name in got if "nsp" in name]
    np.testing.assert_allclose(
        got["loss"], 0.5 * (got["mlm"] + got["mlm_distillation"]), rtol=1e-5
    )


def test_terms_without_weight_are_still_reported():
    student, teacher = bert(1), bert(2)
    x, y = batch()
    distiller = PretrainingDistiller(student, teacher, 1.0, 0.0)
    distiller.compile("sgd")
    got = distiller.test_on_batch(x, y, return_dict=True)
    expected = expected_terms(student, teacher, x, y, 2.0)
    np.testing.assert_allclose(
        got["mlm_distillation"], expected["mlm_distillation"], rtol=1e-4
    )
    np.testing.assert_allclose(
        got["loss"], expected["mlm"] + expected["nsp"], rtol=1e-4
    )


@pytest.mark.parametrize("jit", [False, True])
def test_micro_batches_do_not_change_the_step(jit):
    # Examples of unequal length: means of means would differ.
    x, y = batch()
    results = []
    for size in (0, 1, 2):
        student = bert(1)
        distiller = PretrainingDistiller(
            student, bert(2), micro_batch_size=size, chunk_size=5
        )
        distiller.compile(keras.optimizers.SGD(0.1), jit_compile=jit)
        history = distiller.fit(
            tf.data.Dataset.from_tensors((x, y)).repeat(2), verbose=0
        )
        results.append(student.get_weights() + [history.history["loss"]])
    for other in results[1:]:
        for a, b in zip(results[0], other):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_stays_near_float32(policy):
    x, y = batch()
    exact = expected_terms(bert(1), bert(2), x, y, 2.0)
    keras.mixed_precision.set_global_policy(policy)
    distiller = PretrainingDistiller(bert(1), bert(2))
    optimizer = keras.optimizers.SGD(0.0)
    if policy == "mixed_float16":
        optimizer = keras.mixed_precision.LossScaleOptimizer(optimizer)
    distiller.compile(optimizer)
    got = distiller.train_on_batch(x, y, return_dict=True)
    for name in ("mlm", "mlm_distillation", "nsp"):
        np.testing.assert_allclose(got[name], exact[name], rtol=0.05)


@pytest.mark.parametrize("micro", [0, 2])
@pytest.mark.parametrize("taught", [False, True])
def test_without_a_masked_token_the_mlm_terms_are_0(micro, taught):
    x, y = batch()
    for name in ("mlm_positions", "mlm_labels", "mlm_weights"):
        y[name] = np.zeros_like(y[name])
    student, teacher = bert(1), bert(2) if taught else None
    # The MLM's own, of a slot that is not there, is not read.
    one = y | {"mlm_weights": np.eye(1, SLOTS).repeat(BATCH, 0)}
    expected = expected_terms(student, teacher or student, x, one, 2.0)
    hard = 0.5 if taught else 1.0
    distiller = PretrainingDistiller(
        student, teacher, hard, 0.5, micro_batch_size=micro
    )
    distiller.compile(keras.optimizers.SGD(0.1))
    loss = hard * expected["nsp"]
    if taught:
        loss += 0.5 * expected["mlm_distillation"]
        loss += 0.5 * expected["nsp_distillation"]
    for got in (
        distiller.test_on_batch(x, y, return_dict=True),
        distiller.train_on_batch(x, y, return_dict=True),
    ):
        assert got["mlm"] == 0 and got["mlm_accuracy"] == 0
        np.testing.assert_allclose(got["loss"], loss, rtol=1e-4)
    for weight in student.weights:
        assert np.isfinite(weight.numpy()).all(), weight.name


def test_a_batch_without_a_masked_token_does_not_count_in_the_mean():
    x, y = batch()
    none = y | {"mlm_weights": np.zeros_like(y["mlm_weights"])}
    none |= {"mlm_labels": np.zeros_like(y["mlm_labels"])}
    distiller = PretrainingDistiller(bert(1), hard_loss_weight=1.0)
    distiller.compile("sgd")
    alone = distiller.test_on_batch(x, y, return_dict=True)["mlm"]
    data = tf.data.Dataset.from_tensors((x, y)).concatenate(
        tf.data.Dataset.from_tensors((x, none))
    )
    both = distiller.evaluate(data, verbose=0, return_dict=True)["mlm"]
    np.testing.assert_allclose(both, alone, rtol=1e-6)


def test_vocabularies_of_unequal_size_are_refused():
    with pytest.raises(ValueError, match="60 tokens and the teacher's 61"):
        PretrainingDistiller(bert(1), bert(2, vocabulary_size=61))


def test_a_teacher_without_a_pooler_says_nothing_of_sentences():
    distiller = PretrainingDistiller(
        bert(0),
        bert(1, pooler=False),
        hard_loss_weight=0.25,
        distillation_weight=0.75,
    )
    distiller.compile(keras.optimizers.SGD(0.0))
    found = distiller.evaluate(*batch(), verbose=0, return_dict=True)
    assert "nsp_distillation" not in found
    hard = found["mlm"] + found["nsp"]
    np.testing.assert_allclose(
        found["loss"], 0.25 * hard + 0.75 * found["mlm_distillation"], 1e-5
    )
