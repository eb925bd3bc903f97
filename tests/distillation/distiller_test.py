import subprocess
import sys
import textwrap

import tf_pof  # noqa: F401  (legacy Keras before TensorFlow)

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_model_optimization.sparsity import keras as tfmot

from tf_pof._keras import keras
from tf_pof.distillation import Distiller
from tf_pof.distillation.distiller import soft_divergence
from tf_pof.models.bert import build
from tf_pof.models.config import BertConfig
from tf_pof.pruning.schedules import PruneOnceSchedule
from tf_pof.pruning.wrapper import prune

CROSS_ENTROPY = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def mlp(seed, width=5, policy=None):
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((4,))
    hidden = keras.layers.Dense(width, "relu", name="hidden", dtype=policy)(
        inputs
    )
    outputs = keras.layers.Dense(3, name="out", dtype="float32")(hidden)
    return keras.Model(inputs, outputs)


def data(rows=16):
    r = np.random.default_rng(0)
    x = r.normal(size=(rows, 4)).astype(np.float32)
    return x, r.integers(0, 3, rows)


def log_softmax(logits):
    logits = logits - logits.max(-1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def expected_loss(student, teacher, x, y, temperature, hard, soft):
    s = student.predict(x, verbose=0).astype(np.float64)
    t = teacher.predict(x, verbose=0).astype(np.float64)
    cross_entropy = -log_softmax(s)[np.arange(len(y)), y].mean()
    a, b = log_softmax(t / temperature), log_softmax(s / temperature)
    divergence = (np.exp(a) * (a - b)).sum(-1).mean() * temperature**2
    return hard * cross_entropy + soft * divergence


def test_loss_is_the_weighted_sum_of_cross_entropy_and_divergence():
    student, teacher = mlp(1), mlp(2)
    x, y = data()
    distiller = Distiller(student, teacher, 0.3, 0.7, temperature=3.0)
    distiller.compile("sgd", CROSS_ENTROPY, metrics=["accuracy"])
    got = distiller.evaluate(x, y, batch_size=5, verbose=0, return_dict=True)
    expected = expected_loss(student, teacher, x, y, 3.0, 0.3, 0.7)
    np.testing.assert_allclose(got["loss"], expected, rtol=1e-5)
    hits = (student.predict(x, verbose=0).argmax(-1) == y).mean()
    np.testing.assert_allclose(got["accuracy"], hits, rtol=1e-5)


def test_step_follows_the_gradient_of_that_loss():
    student, teacher = mlp(1), mlp(2)
    x, y = data()
    kernel = student.get_layer("out").kernel
    bias = student.get_layer("out").bias
    before = bias.numpy()
    shifted = []
    for i in range(3):
        values = []
        for delta in (1e-2, -1e-2):
            bias.assign(before + delta * np.eye(3)[i])
            values.append(
                expected_loss(student, teacher, x, y, 2.0, 0.5, 0.5)
            )
        shifted.append((values[0] - values[1]) / 2e-2)
    bias.assign(before)
    distiller = Distiller(student, teacher)
    distiller.compile(keras.optimizers.SGD(1.0), CROSS_ENTROPY)
    distiller.fit(x, y, batch_size=16, epochs=1, verbose=0)
    np.testing.assert_allclose(bias - before, -np.array(shifted), atol=1e-4)
    assert kernel.shape == (5, 3)


def test_teacher_is_neither_trained_nor_part_of_the_model(tmp_path):
    student, teacher = mlp(1), mlp(2)
    before = teacher.get_weights()
    distiller = Distiller(student, teacher)
    distiller.compile("adam", CROSS_ENTROPY)
    distiller.fit(*data(), epochs=2, verbose=0)
    for a, b in zip(before, teacher.get_weights()):
        np.testing.assert_array_equal(a, b)
    theirs = {v.ref() for v in teacher.variables}
    assert not theirs & {v.ref() for v in distiller.variables}
    assert len(distiller.trainable_variables) == len(student.weights)
    tf.train.Checkpoint(model=distiller).write(str(tmp_path / "c"))
    saved = tf.train.list_variables(str(tmp_path / "c"))
    assert sum("kernel" in n and "OPTIMIZER" not in n for n, _ in saved) == 2


@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize("micro", [1, 4, 8])
def test_micro_batches_do_not_change_the_step(micro, jit):
    x, y = data()
    results = []
    for size in (0, micro):
        student = mlp(1)
        distiller = Distiller(student, mlp(2), micro_batch_size=size)
        distiller.compile(
            keras.optimizers.SGD(0.5), CROSS_ENTROPY, jit_compile=jit
        )
        dataset = tf.data.Dataset.from_tensor_slices((x, y)).batch(
            16, drop_remainder=True
        )
        history = distiller.fit(dataset.repeat(3), verbose=0)
        results.append((student.get_weights(), history.history["loss"]))
    for a, b in zip(results[0][0], results[1][0]):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(results[0][1], results[1][1], rtol=1e-5)


def test_last_smaller_batch_is_split_too():
    x, y = data(11)
    results = []
    for size in (0, 4):
        student = mlp(1)
        distiller = Distiller(student, mlp(2), micro_batch_size=size)
        distiller.compile(keras.optimizers.SGD(0.5), CROSS_ENTROPY)
        distiller.fit(x, y, batch_size=11, verbose=0)
        results.append(student.get_weights())
    for a, b in zip(*results):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_micro_batch_that_does_not_divide_is_refused_under_xla():
    distiller = Distiller(mlp(1), mlp(2), micro_batch_size=5)
    distiller.compile("sgd", CROSS_ENTROPY, jit_compile=True)
    dataset = tf.data.Dataset.from_tensor_slices(data()).batch(
        16, drop_remainder=True
    )
    with pytest.raises(ValueError, match="micro_batch_size 5 does not divide"):
        distiller.fit(dataset, verbose=0)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_trains(policy):
    x, y = data()
    student = mlp(1, policy=policy)
    optimizer = keras.optimizers.Adam(1e-2)
    if policy == "mixed_float16":
        optimizer = keras.mixed_precision.LossScaleOptimizer(optimizer)
    distiller = Distiller(student, mlp(2))
    distiller.compile(optimizer, CROSS_ENTROPY)
    losses = distiller.fit(x, y, epochs=20, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    assert all(w.dtype == np.float32 for w in student.get_weights())


def test_pruned_student_is_pruned_by_its_schedule_in_fit():
    schedule = PruneOnceSchedule(
        0.0, 0.75, begin_step=0, ramp_end_step=4, end_step=6, frequency=2
    )
    student = prune(mlp(1), schedule, prunable=["hidden"])
    distiller = Distiller(student, mlp(2))
    distiller.compile("adam", CROSS_ENTROPY)
    distiller.fit(*data(), batch_size=2, epochs=1, verbose=0)
    assert list(student.pruner.sparsity().values()) == [0.75]


def test_tf_mot_s_callbacks_work_on_the_distiller(tmp_path):
    schedule = tfmot.PolynomialDecay(0.0, 0.5, 0, 6, frequency=2)
    student = prune(mlp(1), schedule, prunable=["hidden"])
    distiller = Distiller(student, mlp(2))
    distiller.compile("adam", CROSS_ENTROPY)
    callbacks = [
        tfmot.UpdatePruningStep(),
        tfmot.PruningSummaries(str(tmp_path)),
    ]
    distiller.fit(
        *data(), batch_size=4, epochs=2, verbose=0, callbacks=callbacks
    )
    assert list(student.pruner.sparsity().values()) == [0.5]
    logged = set()
    for path in (tmp_path / "metrics").iterdir():
        for event in tf.compat.v1.train.summary_iterator(str(path)):
            logged |= {value.tag for value in event.summary.value}
    assert any(tag.endswith("mask:0/sparsity") for tag in logged)


def test_shared_variables_are_refused():
    model = mlp(1)
    with pytest.raises(ValueError, match="share variables"):
        Distiller(model, model)


@pytest.mark.parametrize(
    "kwargs", [{"temperature": 0.0}, {"hard_loss_weight": -1.0}]
)
def test_settings_out_of_range_are_refused(kwargs):
    with pytest.raises(ValueError, match="must be"):
        Distiller(mlp(1), mlp(2), **kwargs)


def test_divergence_averages_over_axes_and_outputs():
    r = np.random.default_rng(0)
    t, s = r.normal(size=(2, 4, 6, 5))
    a, b = log_softmax(t / 2), log_softmax(s / 2)
    expected = (np.exp(a) * (a - b)).sum(-1).mean(1).sum() * 4
    got = soft_divergence({"start": t, "end": t}, {"start": s, "end": s}, 2.0)
    np.testing.assert_allclose(got, expected, rtol=1e-5)


def small_bert(layers, width, seed):
    keras.utils.set_random_seed(seed)
    config = BertConfig(
        vocabulary_size=40,
        num_layers=layers,
        num_heads=2,
        hidden_dim=width,
        intermediate_dim=16,
        max_sequence_length=6,
        dropout=0.0,
        attention_dropout=0.0,
    )
    return build(config, "classifier", num_labels=3)


def tokens(rows=4):
    r = np.random.default_rng(0)
    lengths = np.array([6, 4, 3, 6])[:rows]
    mask = (np.arange(6) < lengths[:, None]).astype(np.int32)
    return {
        "token_ids": r.integers(1, 40, (rows, 6)).astype(np.int32) * mask,
        "segment_ids": np.zeros((rows, 6), np.int32),
        "padding_mask": mask,
    }, r.integers(0, 3, rows)


def test_scores_are_compared_by_squared_difference():
    teacher, student = [[1.0], [2.0]], [[4.0], [0.0]]
    got = soft_divergence(tf.constant(teacher), tf.constant(student), 3.0)
    assert float(got) == 3.0**2 + 2.0**2


def test_hidden_and_attention_losses_against_numpy():
    from tf_pof.models.bert import with_internals

    student, teacher = small_bert(1, 8, 1), small_bert(2, 8, 2)
    x, y = tokens()
    distiller = Distiller(
        student,
        teacher,
        hidden_loss_weight=1.0,
        attention_loss_weight=1.0,
    )
    distiller.compile("sgd", CROSS_ENTROPY)
    got = distiller.test_on_batch(x, y, return_dict=True)
    s, t = with_internals(student)(x), with_internals(teacher)(x)
    mask = x["padding_mask"].astype(np.float64)
    count = mask.sum()
    hidden = 0.0
    for i, j in ((0, 0), (1, 2)):
        error = (s["hidden_states"][i] - t["hidden_states"][j]) ** 2
        hidden += (np.mean(error, -1) * mask).sum() / count / 2
    np.testing.assert_allclose(got["hidden"], hidden, rtol=1e-4)
    error = np.asarray(
        (s["attention_scores"][0] - t["attention_scores"][1]) ** 2
    ).mean(1)
    attention = 0.0
    for b in range(4):
        n = int(mask[b].sum())
        attention += error[b, :n, :n].sum() / n
    np.testing.assert_allclose(got["attention"], attention / count, rtol=1e-4)


def test_narrower_student_learns_projections():
    student, teacher = small_bert(2, 8, 1), small_bert(2, 12, 2)
    x, y = tokens()
    distiller = Distiller(student, teacher, hidden_loss_weight=1.0)
    distiller.compile(keras.optimizers.Adam(1e-2), CROSS_ENTROPY)
    assert len(distiller.projections) == 3
    before = [p.kernel.numpy() for p in distiller.projections]
    first = distiller.train_on_batch(x, y, return_dict=True)["hidden"]
    for _ in range(10):
        distiller.reset_metrics()
        last = distiller.train_on_batch(x, y, return_dict=True)["hidden"]
    assert last < first
    for p, kernel in zip(distiller.projections, before):
        assert np.abs(p.kernel.numpy() - kernel).max() > 0


@pytest.mark.parametrize(
    "student,teacher,what",
    [((2, 8), (3, 8), "multiple"), (None, (2, 8), "tf_pof.build")],
)
def test_models_that_cannot_be_paired_are_refused(student, teacher, what):
    student = small_bert(*student, 1) if student else mlp(1)
    with pytest.raises(ValueError, match=what):
        Distiller(student, small_bert(*teacher, 2), hidden_loss_weight=1.0)


def test_mirrored_replicas_equal_one_device():
    # Logical devices must be set before TensorFlow starts: a new process.
    script = """
        import tf_pof, numpy as np, tensorflow as tf
        from tests.distillation.distiller_test import *
        cpu = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(
            cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
        results = []
        for strategy in (
            tf.distribute.get_strategy(),
            tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]),
        ):
            with strategy.scope():
                student = mlp(1)
                d = Distiller(student, mlp(2), micro_batch_size=4)
                d.compile(keras.optimizers.SGD(.5, global_clipnorm=.1),
                          CROSS_ENTROPY)
            ds = tf.data.Dataset.from_tensor_slices(data()).batch(
                16, drop_remainder=True)
            history = d.fit(ds.repeat(3), verbose=0).history
            results.append(student.get_weights() + [history["loss"]])
        for a, b in zip(*results):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
        print("equal")
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
    )
    assert "equal" in done.stdout, done.stderr[-2000:]
