"""Finds a fine-tuned model: a folder, a run, or one of its checkpoints."""

import json
import os

from tf_pof._keras import keras

import tensorflow as tf

from tf_pof.models import resolve as models
from tf_pof.pruning import schedules
from tf_pof.pruning.wrapper import prune
from tf_pof.tasks import registry

_SETTINGS = "settings.json"


def load(spec: str) -> keras.Model:
    """A fine-tuned model.

    Args:
        spec: the output of bin/finetune (its model, or its last checkpoint
            while it is not finished), the prefix of one of its checkpoints,
            or what `models.resolve` takes.

    Raises:
        ValueError: if it is none of them, or has no trained task head.
    """
    spec = os.path.expanduser(spec)
    prefix = None
    if os.path.exists(os.path.join(spec, _SETTINGS)):
        finished = os.path.join(spec, "model")
        prefix = tf.train.latest_checkpoint(os.path.join(spec, "checkpoints"))
        if os.path.isdir(finished):
            spec, prefix = finished, None
        elif prefix is None:
            raise ValueError(
                f"{spec} has neither a model nor a checkpoint yet: let "
                "bin/finetune go on."
            )
    elif os.path.exists(spec + ".index") and os.path.exists(_run_of(spec)):
        prefix = spec
    if prefix is not None:
        return _restore(prefix)
    model = models.resolve(spec, head="auto")
    if model.head not in ("classifier", "span") or model.new_weights:
        raise ValueError(
            f"{spec} has no trained task head: fine-tune it with "
            "bin/finetune, and give the folder of the run."
        )
    return model


def _run_of(prefix: str) -> str:
    """The settings of the run that a checkpoint belongs to."""
    run = os.path.dirname(os.path.dirname(os.path.abspath(prefix)))
    return os.path.join(run, _SETTINGS)


def _restore(prefix: str) -> keras.Model:
    with open(_run_of(prefix), encoding="utf-8") as file:
        settings = json.load(file)
    if "task" not in settings:
        raise ValueError(
            f"{prefix} is a checkpoint of pre-training: only those of "
            "bin/finetune can be scored on a task."
        )
    task = registry.create(**settings["task"])
    model = models.resolve(
        settings["model"], head=task.head, num_labels=task.num_labels
    )
    model.labels = task.labels
    model.vocab_file = settings["vocab"] or model.vocab_file
    if settings["lowercase"] is not None:
        model.lowercase = settings["lowercase"]
    restored = model
    if settings["schedule"]:
        restored = prune(
            model,
            schedules.deserialize(settings["schedule"]),
            **settings["pruning"],
        )
    checkpoint = tf.train.Checkpoint(student=restored)
    try:
        status = checkpoint.restore(prefix)
        status.assert_existing_objects_matched().expect_partial()
    except (AssertionError, ValueError, tf.errors.OpError) as error:
        first = str(error).strip().splitlines()[0]
        raise ValueError(
            f"The checkpoint {prefix} cannot be restored ({first}): choose "
            "another of the run."
        ) from error
    return restored
