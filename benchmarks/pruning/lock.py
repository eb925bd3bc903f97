"""Times a fine-tuning step with locked zeros against one without the lock.

    python -m benchmarks.pruning.lock [--steps=15]

Two classifiers of MiniLM-L6 size with 90 % zeros, of which one is locked, take
a step each in turn, as bin/finetune does, so that what else the machine does
hits both alike. Prints the medians, the median and middle half of the pairs'
ratios, and the ratio of the processor time, which a busy machine spoils least.
"""

import statistics
import time

from absl import app, flags
import numpy as np

_STEPS = flags.DEFINE_integer("steps", 15, "Timed steps of each model.")
_ROWS = flags.DEFINE_integer("rows", 32, "Examples of a step.")
_LENGTH = flags.DEFINE_integer("length", 128, "Tokens of an example.")
_THREADS = flags.DEFINE_integer("threads", 2, "Threads of a step.")
_SPARSITY = 0.9


def make_step(precision: str, locked: bool):
    """A function that takes one training step."""
    import tf_pof
    import tensorflow as tf

    from tf_pof.training import optimizer

    config = tf_pof.BertConfig.preset("minilm_l6")
    model = tf_pof.build(config, "classifier", dtype=precision)
    draw = np.random.default_rng(0)
    for layer in model.layers:
        if layer.name.startswith("layer_") and hasattr(layer, "kernel"):
            kernel = layer.kernel.numpy()
            kernel[draw.random(kernel.shape) < _SPARSITY] = 0
            layer.kernel.assign(kernel)
    if locked:
        tf_pof.lock(model)
    loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    distiller = tf_pof.Distiller(model, hard_loss_weight=1.0)
    distiller.compile(optimizer.adamw(1e-5), loss)
    shape = _ROWS.value, _LENGTH.value
    x = {
        "token_ids": draw.integers(0, config.vocabulary_size, shape, np.int32),
        "segment_ids": np.zeros(shape, np.int32),
        "padding_mask": np.ones(shape, np.int32),
    }
    y = draw.integers(0, 2, _ROWS.value, np.int32)
    iterator = iter(tf.data.Dataset.from_tensors((x, y)).repeat())
    train = distiller.make_train_function()
    return lambda: train(iterator)["loss"].numpy()


def cost(step) -> tuple[float, float]:
    """Seconds of a step, and of all its threads on the processor."""
    began, used = time.perf_counter(), time.process_time()
    step()
    return time.perf_counter() - began, time.process_time() - used


def compare(precision: str) -> str:
    """A line on the steps with and without the lock."""
    steps = [make_step(precision, locked) for locked in (True, False)]
    for step in steps * 2:
        step()  # Tracing and first touch of memory are not timed.
    costs = [], []
    order = [0, 1]
    for _ in range(_STEPS.value):
        for which in order:
            costs[which].append(cost(steps[which]))
        order.reverse()  # What runs after what must not matter.
    (locked, locked_cpu), (free, free_cpu) = (
        map(statistics.median, zip(*taken)) for taken in costs
    )
    ratios = sorted(a[0] / b[0] for a, b in zip(*costs))
    low, high = ratios[len(ratios) // 4], ratios[-1 - len(ratios) // 4]
    return (
        f"{precision}: locked {locked:.3f} s, not locked {free:.3f} s, ratio "
        f"{statistics.median(ratios):.3f} (middle half of the pairs "
        f"{low:.3f} to {high:.3f}), of processor time "
        f"{locked_cpu / free_cpu:.3f}"
    )


def main(argv):
    del argv
    from tf_pof._keras import keras  # noqa: F401  (before TensorFlow)

    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(_THREADS.value)
    print(
        f"MiniLM-L6, {_ROWS.value} x {_LENGTH.value} tokens, "
        f"{_THREADS.value} threads",
        flush=True,
    )
    for precision in ("float32", "mixed_bfloat16"):
        print(compare(precision), flush=True)


if __name__ == "__main__":
    app.run(main)
