"""Selects the masks of a model's pruning wrappers between training steps."""

import dataclasses
import json

from absl import logging
from tf_pof._keras import keras

import numpy as np
import tensorflow as tf

from tf_pof.pruning import budgets, saliency, schedules, selection
from tf_pof.pruning.layer import PruneOnce
from tf_pof.pruning.patterns import Pattern


# A step that nobody has counted yet, or that a file does not have.
UNKNOWN = -1


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

    The step that a schedule has reached is `step`. It belongs to the pruned
    model, not to an optimizer: compiling again, another `Distiller` and loading
    into a new model leave it where it is, so that a finished schedule stays
    finished.

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
        groups, names = {}, set()
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
                name = _unused(name, names)
                group.tensors.append(_Tensor(name, wrapper, *variables))
        self._groups = list(groups.values())
        self._wrappers = wrappers
        self._name = model.name
        steps = [w.schedule_step for w in wrappers]
        # By identity, each once: a variable has no truth of its own.
        self._steps = list({id(s): s for s in steps if s is not None}.values())
        # For wrappers that are in no `PrunedModel`, which has the variable.
        self._own_step = UNKNOWN

    @property
    def step(self) -> int:
        """Training step that masks are for, from 0; may be assigned to.

        A model of a file without it is where it selected masks last.
        """
        step = max((int(s.numpy()) for s in self._steps), default=UNKNOWN)
        step = max(step, self._own_step)
        if step == UNKNOWN:
            step = max(0, self._last_selection())
        return step

    @step.setter
    def step(self, step: int) -> None:
        for variable in self._steps:
            variable.assign(step)
        self._own_step = UNKNOWN if self._steps else int(step)

    def _last_selection(self) -> int:
        return max(int(w.pruning_step.numpy()) for w in self._wrappers)

    def update(self, step: int) -> bool:
        """Brings masks to what they must be before optimizer step `step`.

        Calling it again at the same step and weights changes nothing, so a
        run restored from a checkpoint may begin with it. `self.step` is the
        given step from then on.

        Args:
            step: training step, from 0.

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
        self.step = step
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

    def mask_zeros(self) -> None:
        """Masks what is zero now, before anything is selected."""
        for group in self._groups:
            for tensor in group.tensors:
                tensor.mask.assign(tensor.weight.numpy() != 0)

    def share_of_zeros(self) -> float:
        """The share of exact zeros among the weights that are pruned."""
        values = [t.weight.numpy() for g in self._groups for t in g.tensors]
        size = sum(value.size for value in values)
        return 1 - sum(map(np.count_nonzero, values)) / size

    def warn_if_short(self) -> bool:
        """Logs a warning if masks lack zeros that the schedule aims at.

        Returns:
            Whether some are lacking.
        """
        for group in self._groups:
            target = schedules.target_sparsity(group.schedule)
            if target is None:
                continue
            wanted = _num_wanted(group, target)
            pruned = sum(
                np.count_nonzero(
                    group.pattern.pool(t.mask.numpy().astype(np.float32)) == 0
                )
                for t in group.tensors
            )
            if pruned >= wanted:
                continue
            units = sum(
                group.pattern.num_units(t.mask.shape) for t in group.tensors
            )
            logging.warning(
                "%s has a sparsity of %.2f %%, but its schedule ends at "
                "%.2f %%: masks are those of step %d, and the schedule's "
                "step is %d of %s. Train on, as the step goes on counting "
                "after compile and load_weights too, or shorten the schedule.",
                self._name,
                100 * pruned / units,
                100 * target,
                self._last_selection(),
                self.step,
                getattr(group.schedule, "end_step", "unknown"),
            )
            return True
        return False

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
            "keep_zeros", "threshold", "schedule", "selected_at_step"}}}; a
            step of -1 means that nothing was selected yet.
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
                    "keep_zeros": tensor.wrapper.keep_zeros,
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


def _unused(name: str, names: set[str]) -> str:
    """A name that is not in the set, and is then: models may share names."""
    unused, count = name, 1
    while unused in names:
        unused, count = f"{name}_{count}", count + 1
    names.add(unused)
    return unused


def _num_wanted(group: _Group, sparsity: float) -> int:
    """Units that a selection at this sparsity prunes in a group."""
    pattern = group.pattern
    shapes = [tuple(tensor.mask.shape) for tensor in group.tensors]
    if pattern.kind == "n:m":
        zeros = pattern.group_zeros(sparsity)
        return sum(
            outputs
            * (
                inputs // pattern.m * zeros
                + max(0, inputs % pattern.m - (pattern.m - zeros))
            )
            for inputs, outputs in shapes
        )
    units = [pattern.num_units(shape) for shape in shapes]
    if group.budget == "uniform":
        return sum(budgets.uniform(sparsity, units))
    return selection.num_pruned(sparsity, sum(units))


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
    mask = group.pattern.expand(live, tuple(tensor.mask.shape))
    if tensor.wrapper.keep_zeros:
        # A masked zero stays exactly zero: neither a gradient, nor momentum,
        # nor weight decay moves it.
        mask = mask & (tensor.weight.numpy() != 0)
    tensor.mask.assign(mask)
    tensor.threshold.assign(max(threshold, 0.0))
