"""Selects the masks of a model's pruning wrappers between training steps."""

import dataclasses
import json

from tf_pof._keras import keras

import numpy as np
import tensorflow as tf

from tf_pof.pruning import budgets, saliency, schedules, selection
from tf_pof.pruning.layer import PruneOnce
from tf_pof.pruning.patterns import Pattern


@dataclasses.dataclass(frozen=True)
class _Tensor:
    """One prunable kernel and the variables that belong to it."""

    name: str
    wrapper: keras.layers.Layer
    weight: tf.Variable
    mask: tf.Variable
    threshold: tf.Variable


@dataclasses.dataclass(frozen=True)
class _Group:
    """Kernels that one schedule and one budget rule over."""

    schedule: schedules.PruningSchedule
    pattern: Pattern
    budget: str
    saliency: str
    tensors: list[_Tensor]


class Pruner:
    """Drives the `PruneOnce` wrappers of a model by their schedules.

    Selection runs eagerly and in numpy, on variables of any strategy from its
    cross-replica context; every worker of a multi-worker strategy computes
    the same masks from the same weights.

    Args:
        model: a model made by `prune`, or one derived from it or holding it.

    Raises:
        ValueError: if the model has no wrapper.
    """

    def __init__(self, model: keras.Model):
        wrappers = _collect(model)
        if not wrappers:
            raise ValueError(
                f"{model.name} has no pruned layer: make it with "
                "tf_pof.prune(model, schedule) first."
            )
        groups = {}
        for wrapper in wrappers:
            settings = (wrapper.pattern, wrapper.budget, wrapper.saliency)
            # A reloaded model has one schedule object a wrapper, all alike.
            schedule = wrapper.pruning_schedule
            config = json.dumps(schedule.get_config(), default=str)
            group = groups.setdefault(
                (type(schedule), config, settings),
                _Group(schedule, *settings, []),
            )
            for name, variables in zip(
                wrapper.weight_names, wrapper.pruning_vars
            ):
                group.tensors.append(_Tensor(name, wrapper, *variables))
        self._groups = list(groups.values())
        self._wrappers = wrappers

    def update(self, step: int) -> bool:
        """Brings masks to what they must be before optimizer step `step`.

        Calling it again at the same step and weights changes nothing, so a
        run restored from a checkpoint may begin with it.

        Args:
            step: optimizer step, from 0.

        Returns:
            Whether masks were selected.

        Raises:
            ValueError: if a kernel to be selected from holds NaN.
            RuntimeError: if called inside a tf.function.
        """
        if not tf.executing_eagerly():
            raise RuntimeError(
                "Pruner.update must be called between training steps, not "
                "inside a tf.function."
            )
        selected = False
        for group in self._groups:
            selects, sparsity = schedules.evaluate(group.schedule, step)
            if selects:
                _select(group, sparsity)
                for tensor in group.tensors:
                    tensor.wrapper.pruning_step.assign(step)
                selected = True
        for wrapper in self._wrappers:
            wrapper.pruning_obj.weight_mask_op()
        return selected

    def steps_to_selection(self, step: int, limit: int) -> int:
        """Steps that may run from `step` on before masks must be selected.

        Returns:
            The least d >= 1 with a selection at step + d, at most `limit`.
        """
        for distance in range(1, limit):
            if any(
                schedules.evaluate(group.schedule, step + distance)[0]
                for group in self._groups
            ):
                return distance
        return limit

    def sparsity(self) -> dict[str, float]:
        """The share of masked weights of every kernel, by its name."""
        return {
            tensor.name: 1 - float(np.mean(tensor.mask.numpy()))
            for group in self._groups
            for tensor in group.tensors
        }

    def report(self) -> dict:
        """Everything sparsity.json says of the masks, ready for JSON.

        Returns:
            {"sparsity": over all pruned kernels, "zeros", "size", "tensors":
            {name: {"shape" [in, out], "size", "zeros", "sparsity",
            "pattern", "budget", "saliency", "keep_pruned_values",
            "threshold", "schedule", "selected_at_step"}}}; a step of -1 means
            that nothing was selected yet.
        """
        tensors = {}
        for group in self._groups:
            for tensor in group.tensors:
                mask = tensor.mask.numpy()
                zeros = int(mask.size - np.count_nonzero(mask))
                tensors[tensor.name] = {
                    "shape": list(mask.shape),
                    "size": mask.size,
                    "zeros": zeros,
                    "sparsity": zeros / mask.size,
                    "pattern": str(group.pattern),
                    "budget": group.budget,
                    "saliency": group.saliency,
                    "keep_pruned_values": tensor.wrapper.keep_pruned_values,
                    "threshold": float(tensor.threshold.numpy()),
                    "schedule": group.schedule.get_config(),
                    "selected_at_step": int(
                        tensor.wrapper.pruning_step.numpy()
                    ),
                }
        zeros = sum(tensor["zeros"] for tensor in tensors.values())
        size = sum(tensor["size"] for tensor in tensors.values())
        return {
            "sparsity": zeros / size,
            "zeros": zeros,
            "size": size,
            "tensors": tensors,
        }


def _collect(model: keras.Model) -> list:
    """The model's `PruneOnce` wrappers, each once, nested models included."""
    found = {}
    for layer in model.submodules:
        if isinstance(layer, PruneOnce):
            found[id(layer)] = layer
    return list(found.values())


def _select(group: _Group, sparsity: float) -> None:
    """Assigns new masks and thresholds to a group's kernels."""
    if group.budget == "global":
        _select_jointly(group, sparsity)
        return
    pattern = group.pattern
    if group.budget == "uniform":
        counts = None
    else:
        sizes = [pattern.num_units(t.weight.shape) for t in group.tensors]
        counts = budgets.erdos_renyi(
            sparsity,
            sizes,
            [tuple(t.weight.shape) for t in group.tensors],
            kernel=group.budget == "erk",
        )
    for index, tensor in enumerate(group.tensors):
        scores, dead = _scores(group, tensor)
        if pattern.kind == "n:m":
            selection.reject_nan(scores, tensor.name)
            zeros = pattern.group_zeros(sparsity)
            live, threshold = pattern.keep_in_groups(scores, zeros), 0.0
            if dead is not None:
                live &= ~dead
        else:
            pruned = (
                selection.num_pruned(sparsity, scores.size)
                if counts is None
                else counts[index]
            )
            if dead is not None:
                pruned = max(pruned, np.count_nonzero(dead))
            live, threshold = selection.keep_largest(
                scores, pruned, tensor.name
            )
        _assign(group, tensor, live, threshold)


def _select_jointly(group: _Group, sparsity: float) -> None:
    scored = [_scores(group, tensor) for tensor in group.tensors]
    scores = [score for score, _ in scored]
    pruned = selection.num_pruned(sparsity, sum(s.size for s in scores))
    dead = sum(np.count_nonzero(d) for _, d in scored if d is not None)
    names = [tensor.name for tensor in group.tensors]
    lives, threshold = budgets.keep_largest_jointly(
        scores, max(pruned, dead), names
    )
    for tensor, live in zip(group.tensors, lives):
        _assign(group, tensor, live, threshold)


def _scores(group: _Group, tensor: _Tensor):
    """Scores of a kernel's units, and which must not return (or None)."""
    values = tensor.weight.numpy()
    scores = saliency.get(group.saliency)(values.astype(np.float32))
    scores = group.pattern.pool(scores, tensor.name)
    if tensor.wrapper.keep_pruned_values:
        return scores, None
    mask = tensor.mask.numpy().astype(np.float32)
    dead = group.pattern.pool(mask, tensor.name) == 0
    # Below every saliency, so that they are pruned before any live weight.
    return np.where(dead, np.float32(-1), scores), dead


def _assign(group, tensor, live, threshold) -> None:
    shape = tuple(tensor.mask.shape)
    tensor.mask.assign(group.pattern.expand(live, shape))
    tensor.threshold.assign(max(threshold, 0.0))
