"""Mask selection inside model.fit: between training steps, not in the graph.

TF-MOT selects in the graph, behind a conditional that counts forward passes.
Here `make_train_function` calls the pruner in Python between the steps, so the
training step itself stays free of pruning ops.
"""

import tensorflow as tf

from tf_pof.models.layers import register_model
from tf_pof.models.task_model import TaskModel
from tf_pof.pruning import cloning
from tf_pof.pruning.layer import PruneOnce
from tf_pof.pruning.pruner import UNKNOWN, Pruner


# By how many steps a selection comes after the schedule's step.
_MASK_UPDATES = ("before_step", "after_step")


class PruningMixin:
    """Makes fit and train_on_batch of a keras.Model prune by schedule.

    Put it before keras.Model in the bases and set `self.pruner` (None prunes
    nothing). Before training step t masks are what the schedule says at t;
    after the last step of a fit they are what it says at the next one, so that
    a selection at the very end of training is not missed. With
    steps_per_execution > 1 an execution is split at the selections, exactly.

    That is what `mask_update` "before_step" means. With "after_step" a
    selection comes one step later: after training step t masks become what the
    schedule says at t, so that the first step is always dense, as in the
    paper's own code.

    Steps are those of the optimizer, counted by `pruner.step`, which belongs to
    the pruned model: it goes on where it is, whatever optimizer comes. Assign
    0 to it to begin the schedule anew. A fit that ends before the schedule's
    final sparsity logs a warning.
    """

    pruner: Pruner | None = None
    _mask_lag = 0

    @property
    def mask_update(self) -> str:
        """When masks are selected: "before_step" or "after_step"."""
        return _MASK_UPDATES[self._mask_lag]

    @mask_update.setter
    def mask_update(self, value: str) -> None:
        if value not in _MASK_UPDATES:
            raise ValueError(
                f"mask_update must be one of {', '.join(_MASK_UPDATES)}, not "
                f"{value}."
            )
        self._mask_lag = _MASK_UPDATES.index(value)

    def fit(self, *args, **kwargs):
        history = super().fit(*args, **kwargs)
        if self.pruner is not None:
            # After the callbacks: EarlyStopping may restore an epoch's masks.
            self.pruner.warn_if_short()
        return history

    def make_train_function(self, force=False):
        function = super().make_train_function(force)
        if getattr(function, "selects_masks", False):
            function.start()
            return function
        if self.pruner is None:
            return function
        if self._cluster_coordinator:
            raise ValueError(
                "Pruning needs the optimizer's steps in order, which "
                "ParameterServerStrategy does not keep: use a mirrored or "
                "multi-worker strategy."
            )
        self.train_function = _PruningTrainFunction(self, function)
        return self.train_function


class _PruningTrainFunction:
    """Runs Keras' train function with mask selections around it."""

    selects_masks = True

    def __init__(self, model, function):
        self._model = model
        self._function = function
        self._selected_before = None

    def start(self):
        """Forgets what was selected: weights may have been changed since."""
        self._selected_before = None

    def _select(self) -> int:
        pruner = self._model.pruner
        # Before the first step nothing is due with a lag.
        lag = self._model._mask_lag
        step = pruner.step - lag
        if step >= 0 and step != self._selected_before:
            pruner.update(step)
            # It counts training steps; `update` notes the schedule's.
            pruner.step = step + lag
            self._selected_before = step
        return step

    def _run(self, iterator):
        """Runs Keras' function, and counts the steps that it took."""
        iterations = self._model.optimizer.iterations
        pruner = self._model.pruner
        step, before = pruner.step, int(iterations.numpy())
        try:
            return self._function(iterator)
        finally:
            # Data may end inside an execution, with an error.
            pruner.step = step + int(iterations.numpy()) - before

    def __call__(self, iterator):
        step = self._select()
        per_execution = self._model._steps_per_execution
        rest = 1 if per_execution is None else int(per_execution.numpy())
        if rest == 1:
            logs = self._run(iterator)
            self._select()
            return logs
        total = rest
        try:
            while rest:
                run = self._model.pruner.steps_to_selection(step, rest)
                per_execution.assign(run)
                logs = self._run(iterator)
                rest -= run
                step = self._select()
        finally:
            per_execution.assign(total)
        return logs


def pruner_of(model) -> Pruner | None:
    """The pruner of a pruned model, or of one that was built on one."""
    pruner = getattr(model, "pruner", None)
    if pruner is None and any(
        isinstance(layer, PruneOnce) for layer in model.submodules
    ):
        pruner = Pruner(model)
    return pruner


@register_model
class PrunedModel(PruningMixin, TaskModel):
    """What `prune` returns: a functional model that prunes itself in fit.

    Its weights are those of the layers, their masks, and the step that the
    schedule has reached, in all formats that Keras saves.
    """

    # With the base's arguments, so that Keras saves it as functional.
    def __init__(self, inputs, outputs, name=None, trainable=True, **kwargs):
        super().__init__(inputs, outputs, name, trainable, **kwargs)
        self._schedule_step = tf.Variable(
            UNKNOWN,
            dtype=tf.int64,
            trainable=False,
            name="schedule_step",
            aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
        )
        for layer in cloning.leaves(self):
            if isinstance(layer, PruneOnce):
                layer.follow(self._schedule_step)

    @property
    def pruner(self) -> Pruner:
        """The `Pruner` over this model's wrappers."""
        if "_own_pruner" not in self.__dict__:
            # Past Keras' attribute tracking: a pruner owns no variable.
            object.__setattr__(self, "_own_pruner", Pruner(self))
        return self._own_pruner

    def sparsity_report(self) -> dict:
        """The contents of sparsity.json, see `Pruner.report`.

        Saving asks for it, so it logs a warning if masks lack zeros that the
        schedule aims at.
        """
        self.pruner.warn_if_short()
        return self.pruner.report()

    def save(self, filepath, *args, **kwargs):
        self.pruner.warn_if_short()
        super().save(filepath, *args, **kwargs)

    def load_own_variables(self, store):
        # Files that were written before the model had a step of its own.
        if len(store.keys()):
            super().load_own_variables(store)
