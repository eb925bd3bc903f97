"""Finds a fine-tuned model: a folder, a run, or one of its checkpoints."""

import os
from typing import Any

from tf_pof._keras import keras

import tensorflow as tf

from tf_pof import untrusted
from tf_pof.data import tokenizer_files
from tf_pof.models import resolve as models
from tf_pof.pruning import schedules
from tf_pof.pruning.fit import PrunedModel
from tf_pof.pruning.wrapper import prune, strip
from tf_pof.quantization import Phase, quantize, saved
from tf_pof.tasks import registry
from tf_pof.training import checkpoint

_SETTINGS = "settings.json"
# Runs that begin with a checkpoint of another run.
_MOST_RUNS = 20


class RunSettings(untrusted.Schema):
    """What settings.json of a run of bin/finetune says of its model."""

    model: str
    task: dict[str, Any]
    vocab: str | None = None
    lowercase: bool | None = None
    schedule: dict[str, Any] | None = None
    pruning: dict[str, Any] | None = None
    qat: bool = False


def load(spec: str) -> keras.Model:
    """A fine-tuned model; a `QuantizedModel` if it was trained as one.

    Args:
        spec: the output of bin/finetune (its model, or its last checkpoint
            while it is not finished), the prefix of one of its checkpoints,
            or what `models.resolve` takes.

    Raises:
        ValueError: if it is none of them, or has no trained task head.
    """
    spec, is_checkpoint = _find(spec)
    if is_checkpoint:
        return _restore(spec)[1]
    model = models.resolve(spec, head="auto")
    if model.head not in ("classifier", "span") or model.new_weights:
        raise ValueError(
            f"{spec} has no trained task head: fine-tune it with "
            "bin/finetune, and give the folder of the run."
        )
    return saved.restore(model, spec)


def load_float(
    spec: str, head: str, num_labels: int, **overrides
) -> keras.Model:
    """A model to train on, as float whatever it was trained as.

    Args:
        spec: as of `load`, but it may lack a trained head: `new_weights` says.
        head, num_labels: of the task.
        **overrides: fields of BertConfig, such as dropout.

    Raises:
        ValueError: if there is no such model.
    """
    return _load_float(spec, head, num_labels, overrides)


def _load_float(spec, head, num_labels, overrides, depth=0):
    spec, is_checkpoint = _find(spec)
    if not is_checkpoint:
        return models.resolve(
            spec, head=head, num_labels=num_labels, **overrides
        )
    model, restored = _restore(spec, overrides, depth)
    if (model.head, model.num_labels) != (head, num_labels):
        raise ValueError(
            f"{spec} has a {model.head} head of {model.num_labels} outputs, "
            f"but the task needs a {head} of {num_labels}: let that run end, "
            "and give its folder."
        )
    if isinstance(restored, PrunedModel):
        # Without what the masks hide.
        model = strip(restored)
        model.new_weights = ()
    return model


def locate(spec: str) -> str:
    """The model that a spec of `load` means: a folder, prefix or name.

    Raises:
        ValueError: for a run without a model or checkpoint.
    """
    return _find(spec)[0]


def _find(spec: str) -> tuple[str, bool]:
    """The path of a model, and whether it is a checkpoint of a run."""
    spec = models.locate(spec)
    if os.path.exists(os.path.join(spec, _SETTINGS)):
        prefixes = checkpoint.prefixes(os.path.join(spec, "checkpoints"))
        if not prefixes:
            raise ValueError(
                f"{spec} has neither a model nor a checkpoint yet: let "
                "bin/finetune go on."
            )
        return prefixes[0], True
    is_prefix = os.path.exists(spec + ".index")
    return spec, is_prefix and os.path.exists(_run_of(spec))


def _run_of(prefix: str) -> str:
    """The settings of the run that a checkpoint belongs to."""
    run = os.path.dirname(os.path.dirname(os.path.abspath(prefix)))
    return os.path.join(run, _SETTINGS)


def _restore(
    prefix: str, overrides: dict[str, Any] | None = None, depth: int = 0
) -> tuple[keras.Model, keras.Model]:
    """The float model of a checkpoint, and it as the run trained it."""
    path = _run_of(prefix)
    if depth == _MOST_RUNS:
        raise ValueError(
            f"{path} is of a run that began with a checkpoint of a run that "
            f"did so too, {depth} times: give a model folder."
        )
    told = untrusted.read_json(path)
    if "task" not in told:
        raise ValueError(
            f"{prefix} is a checkpoint of pre-training: only those of "
            "bin/finetune can be scored on a task."
        )
    settings = untrusted.fit(told, RunSettings, path)
    try:
        task = registry.create(**_named(settings.task))
    except ValueError as error:
        raise ValueError(f"{path} names a task that is none: {error}") from None
    model = _load_float(
        settings.model, task.head, task.num_labels, overrides or {}, depth + 1
    )
    model.labels = task.labels
    tokenizer_files.override(model, settings.vocab, settings.lowercase)
    restored = model
    if settings.schedule:
        restored = _pruned(model, settings, path)
    elif settings.qat:
        restored = quantize(model)
    reader = tf.train.Checkpoint(student=restored)
    try:
        with checkpoint.without_glob(prefix) as plain:
            status = reader.restore(plain)
            status.assert_existing_objects_matched().expect_partial()
    except (AssertionError, ValueError, tf.errors.OpError) as error:
        first = str(error).strip().splitlines()[0]
        raise ValueError(
            f"The checkpoint {prefix} cannot be restored ({first}): choose "
            "another of the run."
        ) from error
    model.new_weights = ()
    if settings.qat:
        # Also of a run that has not begun to round.
        restored.phase = Phase.QUANTIZE
    return model, restored


def _named(task: dict[str, Any]) -> dict[str, Any]:
    """The task's options, if its name is among them."""
    if not isinstance(task.get("name"), str):
        raise ValueError("it has no name.")
    return task


def _pruned(model, settings, path):
    """The model as the run's schedule and arguments prune it."""
    try:
        schedule = schedules.deserialize(settings.schedule)
        if not isinstance(schedule, schedules.PruningSchedule):
            raise ValueError(f"{type(schedule).__name__} is no schedule")
        return prune(model, schedule, **(settings.pruning or {}))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} has a schedule that no model can be pruned by "
            f"({' '.join(str(error).split()).rstrip('.')}): give the model "
            "folder of the run."
        ) from None
