"""A training step of tf_pof, as bin/prune_pretrain takes it."""

import json
import sys
import time

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
    """A function that takes one of fit's steps and returns the loss, and the
    pruner (None if dense)."""
    threads = spec["threads"]
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    keras.utils.set_random_seed(0)
    keras.mixed_precision.set_global_policy(spec["precision"])
    config = BertConfig(**spec["config"])
    student = bert.build(config, "pretraining")
    teacher = bert.build(config, "pretraining") if spec["teacher"] else None
    if spec["pruned"]:
        student = prune(student, PruneOnceSchedule(**spec["schedule"]))
    rate = optimizers.learning_rate_schedule(
        "flat_then_linear", 5e-5, 100_000, 1000, 50_000
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
    iterator = iter(dataset)
    train = distiller.make_train_function()

    def step():
        distiller.reset_metrics()
        return float(train(iterator)["loss"])

    return step, distiller.pruner


def selection_seconds(pruner):
    """Time of one selection of all masks; 0 without pruning."""
    if pruner is None:
        return 0.0
    began = time.perf_counter()
    pruner.update(0)
    return time.perf_counter() - began


if __name__ == "__main__":
    step, pruner = make_step(json.loads(sys.argv[1]))
    step()
    worker.serve(step, selection_seconds=selection_seconds(pruner))
