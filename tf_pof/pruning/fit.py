"""Mask selection inside model.fit: between training steps, not in the graph.

TF-MOT selects in the graph, behind a conditional that counts forward passes.
Here `make_train_function` calls the pruner in Python with the optimizer's
step, so the training step itself stays free of pruning ops.
"""

from tf_keras.src.engine import functional

from tf_pof.pruning.pruner import Pruner


class PruningMixin:
    """Makes fit and train_on_batch of a keras.Model prune by schedule.

    Put it before keras.Model in the bases and set `self.pruner` (None prunes
    nothing). Before optimizer step t, counted from 0 by
    `optimizer.iterations`, masks are what the schedule says at t; after the
    last step of a fit they are what it says at the next one, so that a
    selection at the very end of training is not missed. With
    steps_per_execution > 1 an execution is split at the selections, exactly.
    """

    pruner: Pruner | None = None

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
        step = int(self._model.optimizer.iterations.numpy())
        if step != self._selected_before:
            self._model.pruner.update(step)
            self._selected_before = step
        return step

    def __call__(self, iterator):
        step = self._select()
        per_execution = self._model._steps_per_execution
        rest = 1 if per_execution is None else int(per_execution.numpy())
        if rest == 1:
            logs = self._function(iterator)
            self._select()
            return logs
        total = rest
        try:
            while rest:
                run = self._model.pruner.steps_to_selection(step, rest)
                per_execution.assign(run)
                logs = self._function(iterator)
                rest -= run
                step = self._select()
        finally:
            per_execution.assign(total)
        return logs


class PrunedModel(PruningMixin, functional.Functional):
    """What `prune` returns: a functional model that prunes itself in fit."""

    @property
    def pruner(self) -> Pruner:
        """The `Pruner` over this model's wrappers."""
        if "_own_pruner" not in self.__dict__:
            # Past Keras' attribute tracking: a pruner owns no variable.
            object.__setattr__(self, "_own_pruner", Pruner(self))
        return self._own_pruner
