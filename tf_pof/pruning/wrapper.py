"""Pruned models: made by `prune`, made plain again by `strip`."""

from collections.abc import Callable, Sequence

from tf_pof._keras import keras

import numpy as np
from tensorflow_model_optimization.python.core.sparsity.keras import (
    pruning_wrapper,
)

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
) -> PrunedModel:
    """A functional clone of a model whose kernels are pruned by schedule.

    The clone shares every variable with `model`; `model` itself stays dense.
    Compile it and call fit, and masks follow the schedule by the optimizer's
    step (see `tf_pof.pruning.fit`); a custom loop calls `Pruner(model)`.

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

    Returns:
        A model of the same inputs, outputs, name and config/head/vocab_file.

    Raises:
        ValueError: if no layer or an unsuitable one is chosen, an argument is
            unknown, or the schedule would prune nothing.
    """
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
        )

    with cloning.scope_of(model):
        return cloning.clone(model, wrap, PrunedModel)


def strip(model: keras.Model) -> keras.Model:
    """The plain functional model, with zeros in the kernels.

    Layers and variables are new, so the pruned model keeps its hidden values
    and can go on training.

    Args:
        model: a model made by `prune` (or holding TF-MOT's wrappers).

    Returns:
        A keras.Model without wrappers, of the same outputs and name.
    """
    pairs = []

    def unwrap(layer):
        inner = layer
        if isinstance(layer, pruning_wrapper.PruneLowMagnitude):
            inner = layer.layer
        new = type(inner).from_config(inner.get_config())
        pairs.append((layer, new))
        return new

    with cloning.scope_of(model):
        stripped = cloning.clone(model, unwrap, keras.Model)
    for layer, new in pairs:
        new.set_weights(_effective_weights(layer))
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
