"""Pruned models: made by `prune`, made plain again by `strip`."""

from collections.abc import Callable, Sequence

from absl import logging
from tf_pof._keras import keras

import numpy as np
from tensorflow_model_optimization.python.core.sparsity.keras import (
    pruning_wrapper,
)

from tf_pof.models.task_model import TaskModel
from tf_pof.pruning import cloning, schedules
from tf_pof.pruning.fit import PrunedModel, PruningMixin
from tf_pof.pruning.layer import PruneOnce
from tf_pof.pruning.patterns import Pattern
from tf_pof.pruning.pruner import Pruner

__all__ = [
    "PruneOnce",
    "PrunedModel",
    "Pruner",
    "PruningMixin",
    "prune",
    "strip",
]


def prune(
    model: keras.Model,
    schedule: schedules.PruningSchedule,
    pattern: Pattern | str = "unstructured",
    budget: str = "uniform",
    prunable: str | Sequence[str] | Callable | None = None,
    keep_pruned_values: bool = True,
    saliency: str = "magnitude",
    keep_zeros: bool = False,
) -> PrunedModel:
    """A functional clone of a model whose kernels are pruned by schedule.

    The clone shares every variable with `model`; `model` itself stays dense.
    Compile it and call fit, and masks follow the schedule by the steps that
    were trained (see `tf_pof.pruning.fit`); a custom loop calls
    `Pruner(model)`. Encoders that are nested in the model, or called several
    times, are pruned once.

    Args:
        model: functional or built Sequential model.
        schedule: `PruneOnceSchedule` or any TF-MOT `PruningSchedule`.
        pattern: "unstructured", "RxC" (outputs x inputs) or "n:m".
        budget: "uniform", "global", "er" or "erk" over the pruned kernels.
        prunable: which layers: a regular expression searched for in their
            names, a list of names, or a predicate on layers. By default the
            encoder kernels and the pooler of a BERT; of other models every
            2-D Dense kernel but those of the outputs and of task heads.
        keep_pruned_values: whether a pruned weight keeps its value and may
            return at the next selection, as in the paper's implementation;
            False zeroes it for good, as TF-MOT does.
        saliency: score that weights are ranked by.
        keep_zeros: whether what is zero now stays zero, so that pruning goes
            on from a sparse model: the sparsity is what is there until the
            schedule is above it. Without it the zeros are ordinary small
            weights, which come back while the schedule is below; a warning
            says so.

    Returns:
        A model of the same inputs, outputs, name and config/head/vocab_file.

    Raises:
        ValueError: if no layer or an unsuitable one is chosen, an argument is
            unknown, the schedule is none or would prune nothing, or the model
            is no functional one of legacy Keras.
    """
    schedules.require(schedule)
    chosen = cloning.choose(model, prunable)

    def wrap(layer):
        if layer not in chosen:
            return layer
        return PruneOnce(
            layer,
            schedule,
            pattern=pattern,
            budget=budget,
            saliency=saliency,
            keep_pruned_values=keep_pruned_values,
            keep_zeros=keep_zeros,
        )

    with cloning.scope_of(model):
        pruned = cloning.clone(model, wrap, PrunedModel)
        if keep_zeros:
            pruned.pruner.mask_zeros()
    if not keep_zeros:
        _warn_of_zeros(pruned, schedule)
    return pruned


def _warn_of_zeros(model: PrunedModel, schedule) -> None:
    """Says that a sparse model is about to lose its zeros."""
    share, first = model.pruner.share_of_zeros(), schedules.first(schedule)
    # A few zeros are in many a dense model.
    if share > first + 0.01:
        logging.warning(
            "%.1f %% of what is pruned in %s is zero already, but the schedule "
            "begins at %.1f %%, so that zeros come back: call prune with "
            "keep_zeros=True to go on from what is there, and give the "
            "schedule initial_sparsity=%.3g for a ramp from there on.",
            100 * share,
            model.name,
            100 * first,
            share,
        )


def strip(model: keras.Model) -> keras.Model:
    """The plain functional model, with zeros in the kernels.

    Layers and variables are new, so the pruned model keeps its hidden values
    and can go on training.

    Args:
        model: a model made by `prune` (or holding TF-MOT's wrappers).

    Returns:
        A keras.Model without wrappers, of the same outputs and name. Its
        attribute `sparsity` is what `Pruner.report` says, and goes into
        sparsity.json. That the schedule is not at its end is logged as a
        warning.
    """
    pairs = []

    def unwrap(layer):
        inner = layer
        if isinstance(layer, pruning_wrapper.PruneLowMagnitude):
            inner = layer.layer
        new = type(inner).from_config(inner.get_config())
        pairs.append((layer, new))
        return new

    is_ours = getattr(model, "config", None) is not None
    with cloning.scope_of(model):
        stripped = cloning.clone(
            model, unwrap, TaskModel if is_ours else keras.Model
        )
    for layer, new in pairs:
        new.set_weights(_effective_weights(layer))
    if any(isinstance(layer, PruneOnce) for layer, _ in pairs):
        pruner = Pruner(model)
        pruner.warn_if_short()
        stripped.sparsity = pruner.report()
    return stripped


def _effective_weights(layer) -> list[np.ndarray]:
    """A layer's values as its forward pass sees them, without wrapper's."""
    if not isinstance(layer, pruning_wrapper.PruneLowMagnitude):
        return layer.get_weights()
    masks = {id(weight): mask for weight, mask, _ in layer.pruning_vars}
    values = []
    for weight in layer.layer.weights:
        value = weight.numpy()
        if id(weight) in masks:
            # Not a product: what is hidden may be infinite.
            value = np.where(masks[id(weight)].numpy(), value, 0)
        values.append(value.astype(weight.dtype.as_numpy_dtype))
    return values
