"""A training step of tf_pof, as bin/prune_pretrain takes it."""

import json
import sys

import tf_pof  # noqa: F401  (legacy Keras before TensorFlow)

import numpy as np
import tensorflow as tf

from benchmarks.training import worker
from tf_pof._keras import keras
from tf_pof.models import bert
from tf_pof.models.config import BertConfig
from tf_pof.pruning.schedules import PruneOnceSchedule
from tf_pof.pruning.wrapper import prune
from tf_pof.training import optimizer as optimizers
from tf_pof.training.pretraining import PretrainingDistiller


def make_step(spec):
    """Returns a function that takes one step of `Model.fit`'s and its loss."""
    threads = spec["threads"]
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    keras.utils.set_random_seed(0)
    keras.mixed_precision.set_global_policy(spec["precision"])
    config = BertConfig(**spec["config"])
    student = bert.build(config, "pretraining")
    teacher = bert.build(config, "pretraining") if spec["teacher"] else None
    if spec["pruned"]:
        # begin_step: the steps from 0 on cost a selection each `frequency`.
        student = prune(student, PruneOnceSchedule(**spec["schedule"]))
    rate = optimizers.learning_rate_schedule(
        "rewind", 5e-5, 100_000, 1000, 50_000
    )
    distiller = PretrainingDistiller(
        student,
        teacher,
        hard_loss_weight=0.5 if teacher else 1.0,
        micro_batch_size=spec.get("micro_batch_size", 0),
    )
    distiller.compile(
        optimizers.adamw(rate), jit_compile=spec.get("jit_compile", False)
    )
    rows, length, slots = spec["rows"], spec["length"], spec["slots"]
    tokens, positions, labels = (
        np.array(a, np.int32)
        for a in worker.batch(rows, length, slots, config.vocabulary_size)
    )
    x = {
        "token_ids": tokens,
        "segment_ids": np.zeros_like(tokens),
        "padding_mask": np.ones_like(tokens),
    }
    y = {
        "mlm_positions": positions,
        "mlm_labels": labels,
        "mlm_weights": np.ones(labels.shape, np.float32),
        "nsp_labels": np.zeros(rows, np.int32),
    }
    dataset = tf.data.Dataset.from_tensors((x, y)).repeat()
    iterator = iter(distiller.distribute_strategy.experimental_distribute_dataset(dataset))
    train = distiller.make_train_function()

    def step():
        distiller.reset_metrics()
        return float(train(iterator)["loss"])

    return step


if __name__ == "__main__":
    worker.serve(make_step(json.loads(sys.argv[1])))
