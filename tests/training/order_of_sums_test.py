"""Equal commands end in equal bits, whatever other threads do."""

import contextlib
import dataclasses
import subprocess
import sys

import tf_pof  # noqa: F401  (legacy Keras before TensorFlow)

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.eager import context

from tests.tasks import tiny
from tests.training import program_test
from tf_pof._keras import keras
from tf_pof.distillation import sums

settings = program_test.settings
FLOATS = (tf.float32, tf.bfloat16, tf.float16)


@contextlib.contextmanager
def executed():
    """A list of the nodes of all graphs that were run, as they were run."""
    nodes = []
    context.context().enable_run_metadata()
    try:
        yield nodes
        metadata = context.context().export_run_metadata()
        for function in metadata.function_graphs:
            for graph in function.partition_graphs:
                nodes += graph.node
                for inner in graph.library.function:
                    nodes += inner.node_def
    finally:
        context.context().disable_run_metadata()
        tf.config.optimizer.set_experimental_options(
            {"arithmetic_optimization": True}
        )


def long_sums(nodes):
    """Sums of three and more floats: their order is no one's choice."""
    return {
        node.name: node.attr["N"].i
        for node in nodes
        if node.op == "AddN"
        and node.attr["N"].i > 2
        and tf.as_dtype(node.attr["T"].type) in FLOATS
    }


def assert_pairs(nodes):
    assert any("gradient_sum" in node.name for node in nodes)
    assert not long_sums(nodes)


@pytest.mark.parametrize(
    "changes",
    [
        {"precision": "float32", "hidden_loss_weight": 0.1},
        {
            "precision": "mixed_bfloat16",
            "attention_loss_weight": 0.1,
            "micro_batch_size": 4,
        },
        {"teacher": None, "schedule": None, "distillation_weight": 0.0},
    ],
    ids=["prune", "prune in bfloat16 and parts", "teacher"],
)
def test_pretraining_adds_in_pairs(settings, changes):
    with executed() as nodes:
        program_test.run(dataclasses.replace(settings, **changes))
    assert_pairs(nodes)


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """Flags of a fine-tuning run: model, teacher and task."""
    root = tmp_path_factory.mktemp("tuned")
    vocab = tiny.write_vocabulary(root / "vocab.txt")
    return {
        "task": tiny.write_sst2(root / "glue"),
        "model": tiny.save_model(root / "model", vocab),
        "teacher": tiny.save_model(root / "t", vocab, 8, False, "classifier"),
    }


@pytest.mark.parametrize("qat", [False, True])
@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
def test_fine_tuning_adds_in_pairs(tuned, tmp_path, qat, precision):
    values = tuned | tiny.SHORT | {"dropout": 0.1}
    values |= {"hard_loss_weight": 0.5, "distillation_weight": 0.5}
    given = tiny.settings(
        output=tmp_path / "run", precision=precision, qat=qat, **values
    )
    with executed() as nodes:
        tiny.run(given)
    assert_pairs(nodes)


def test_gradients_are_those_of_a_tape():
    kernel = tf.Variable(tf.random.normal([5, 5]))
    unused = tf.Variable([1.0])
    table = tf.Variable(tf.random.normal([7, 5]))
    rows = tf.constant([1, 3, 3, 6])

    def forward():
        x = tf.gather(table, rows)
        y = tf.add_n([tf.matmul(x, kernel) * i for i in (1.0, 2.0, 3.0)])
        loss = tf.reduce_sum(tf.tanh(y)) + tf.reduce_sum(table**2)
        return loss, {"loss": loss}

    variables = [kernel, unused, table]
    with tf.GradientTape() as tape:
        expected = tape.gradient(forward()[0], variables)
    expected[1] = tf.zeros([1])
    eager, _ = sums.ordered_gradients(forward, variables)
    graph, more = tf.function(sums.ordered_gradients)(forward, variables)
    for got in (eager, graph):
        for one, other in zip(got, expected, strict=True):
            np.testing.assert_allclose(
                one, tf.convert_to_tensor(other), rtol=1e-5, atol=1e-6
            )
    np.testing.assert_allclose(more["loss"], forward()[0], rtol=1e-6)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_gradients_of_biases_are_not_rounded_on_the_way(policy):
    """A sum of 4,096 rows, in the values that the half precision gives."""
    rows, units = 4096, 16
    r = np.random.default_rng(0)
    upstream = tf.cast(r.normal(size=(rows, units)) / 8, policy[6:])
    layer = keras.layers.Dense(units, dtype=policy)
    layer.build([None, 3])

    def forward():
        y = layer(tf.zeros([rows, 3]))
        return tf.reduce_sum(tf.cast(y * upstream, tf.float32)), ()

    gradients, _ = tf.function(sums.ordered_gradients)(
        forward, layer.trainable_variables
    )
    exact = upstream.numpy().astype(np.float64).sum(0)
    error = np.linalg.norm(gradients[1] - exact) / np.linalg.norm(exact)
    # Half a last place of bfloat16's 8 bits.
    assert error < 2**-8, error


THREADS = """
import tensorflow as tf
tf.config.threading.set_intra_op_parallelism_threads({0})
tf.config.threading.set_inter_op_parallelism_threads({0})
"""


@contextlib.contextmanager
def busy(count):
    """Other processes that never rest."""
    script = [sys.executable, "-c", "while True: pass"]
    processes = [subprocess.Popen(script) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 2, 4])
@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
def test_disturbed_threads_change_no_bit(
    tuned, data, vocab_file, tmp_path, precision, threads
):
    """Each command runs three times at once, between busy processes."""
    keras.utils.set_random_seed(3)
    model = tf_pof.build(
        tiny.config(vocabulary_size=22, num_layers=2, hidden_dim=128),
        "pretraining",
    )
    start = tf_pof.save(model, tmp_path / "start", vocab_file=vocab_file)
    shared = {"train_steps": 6, "batch_size": 16, "checkpoint_every": 100}
    shared |= {"log_every": 1, "precision": precision, "warmup_fraction": 0}
    text = [f"--data={data}", f"--model={start}", "--pruning_frequency=1"]
    steps = ["--pruning_ramp_end_step=4", "--pruning_end_step=5"]
    flags = [f"--{k}={v}" for k, v in shared.items()]
    task = tiny.flags(**tuned)
    commands = {
        "prepare_teacher": ("prepare_teacher", text[:2]),
        "prune_pretrain": ("prune_pretrain", [*text, *steps]),
        "finetune": ("finetune", task),
        "qat": ("finetune", [*task, "--qat"]),
    }
    for name, (module, own) in commands.items():
        outputs = [tmp_path / f"{name}_{i}" for i in range(3)]
        with busy(2):
            runs = [
                tiny.Command(
                    module,
                    [*flags, *own, f"--output={output}"],
                    f"{output}.log",
                    THREADS.format(threads),
                )
                for output in outputs
            ]
            for run in runs:
                run.finish()
        first, *others = (
            (output / "model" / "model.safetensors").read_bytes()
            for output in outputs
        )
        assert others == [first, first], name
        losses = [[p["loss"] for p in tiny.curve(o)] for o in outputs]
        assert losses[1:] == [losses[0]] * 2, name
