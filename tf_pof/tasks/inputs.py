"""Batches of a task's features for `model.fit`, under any strategy."""

import numpy as np
import tensorflow as tf

from tf_pof.tasks.features import (
    Features,
    padded_length,
    training_batches,
)
from tf_pof.training import strategy as strategies


def training_data(
    features: Features,
    strategy: tf.distribute.Strategy,
    batch_size: int,
    seed: int,
    start_step: int = 0,
    grouped: bool = True,
    length_multiple: int = 16,
):
    """A data set of (x, y) without end, shared by the strategy's replicas.

    The batches depend on features, batch size and seed only, so a run that
    goes on at a later step sees what the unbroken one would have seen, on any
    number of replicas.

    Args:
        features: with targets.
        strategy: replicas of one process take consecutive parts of a batch.
        batch_size: examples of a step, of all replicas.
        seed: of the order.
        start_step: step to begin with.
        grouped: whether a batch has sequences of similar length (see
            `features.epoch_batches`).
        length_multiple: a batch is padded to its longest sequence, rounded
            up to this; 0 pads all to the longest of the features, as XLA and
            TPUs want it.

    Returns:
        A data set of x, dict of [b, seq] int32, and y: an int32 [b], a
        float32 [b, 1], or a dict of them by the logits' names.

    Raises:
        ValueError: if the replicas cannot share a batch evenly.
    """
    size = strategies.per_replica_batch_size(strategy, batch_size)
    longest = int(features.lengths.max())

    def batches(first, count):
        """The parts of `count` replicas, the first of them `first`."""
        for rows in training_batches(
            features, batch_size, seed, start_step, grouped
        ):
            length = longest
            if length_multiple:
                length = padded_length(
                    int(features.lengths[rows].max()), length_multiple, longest
                )
            for replica in range(first, first + count):
                part = rows[replica * size : (replica + 1) * size]
                yield features.inputs(part, length), targets(features, part)

    def pipeline(context):
        count = strategy.num_replicas_in_sync // context.num_input_pipelines
        first = context.input_pipeline_id * count
        dataset = tf.data.Dataset.from_generator(
            lambda: batches(first, count),
            output_signature=_signature(
                features, size, None if length_multiple else longest
            ),
        )
        # Order and content are fixed by the generator: none is to be sharded.
        options = tf.data.Options()
        options.experimental_distribute.auto_shard_policy = (
            tf.data.experimental.AutoShardPolicy.OFF
        )
        return dataset.with_options(options).prefetch(4)

    return strategy.distribute_datasets_from_function(pipeline)


def targets(features: Features, rows: np.ndarray):
    """What a Keras loss takes as y_true for some rows."""
    y = {
        name: values[rows, None] if values.dtype == np.float32 else values[rows]
        for name, values in features.targets.items()
    }
    return y if len(y) > 1 else next(iter(y.values()))


def _signature(features, size, length):
    x = {
        name: tf.TensorSpec([size, length], tf.int32)
        for name in ("token_ids", "segment_ids", "padding_mask")
    }
    y = tf.nest.map_structure(
        lambda value: tf.TensorSpec([size, *value.shape[1:]], value.dtype),
        targets(features, np.zeros(1, np.int64)),
    )
    return x, y
