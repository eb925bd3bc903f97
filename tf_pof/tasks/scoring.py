"""Runs a model over features, and scores what comes out."""

from collections.abc import Callable

from tf_pof._keras import keras

import numpy as np
import rich.console
import rich.progress
import tensorflow as tf

from tf_pof.tasks.features import Features, padded_length

# Sequences are padded to a multiple of it: few shapes, little padding.
LENGTH_MULTIPLE = 16


def outputs_of(
    model: keras.Model | Callable,
    features: Features,
    batch_size: int = 32,
    console: rich.console.Console | None = None,
) -> dict[str, np.ndarray]:
    """A model's logits for all features.

    Sequences are batched by length, so that little padding is computed.

    Args:
        model: with the head of the task; a Keras model, or another function
            from inputs to float32 logits by name.
        features: n sequences.
        batch_size: sequences computed together.
        console: shows progress on it, with an ETA; None shows nothing.

    Returns:
        float32 arrays by the logits' names: [n, num_labels], or [n, S] with S
        the longest sequence, 0 beyond a sequence's length.
    """
    if not isinstance(model, keras.Model):
        return run(model, features, batch_size, console)
    names = [n for n in model.output if n.endswith("logits")]

    @tf.function(reduce_retracing=True)
    def forward(inputs):
        outputs = model(inputs, training=False)
        return {n: tf.cast(outputs[n], tf.float32) for n in names}

    return run(forward, features, batch_size, console)


def run(
    forward: Callable,
    features: Features,
    batch_size: int,
    console: rich.console.Console | None = None,
) -> dict[str, np.ndarray]:
    """Like `outputs_of`, of any function from inputs to logits by name."""
    order = np.argsort(-features.lengths, kind="stable")
    longest = int(features.lengths.max(initial=0))
    results = {}
    steps = range(0, len(order), batch_size)
    if console is not None:
        steps = rich.progress.track(
            steps,
            "Evaluating",
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
    for i in steps:
        rows = order[i : i + batch_size]
        length = padded_length(
            int(features.lengths[rows].max()), LENGTH_MULTIPLE, longest
        )
        inputs = features.inputs(rows, length)
        outputs = forward({k: tf.constant(v) for k, v in inputs.items()})
        for name, value in outputs.items():
            value = np.asarray(value)
            is_span = name != "logits"
            if name not in results:
                width = longest if is_span else value.shape[1]
                results[name] = np.zeros((len(order), width), np.float32)
            if is_span:
                value = np.where(
                    np.arange(length) < features.lengths[rows, None], value, 0
                )
            results[name][rows, : value.shape[1]] = value
    return results
