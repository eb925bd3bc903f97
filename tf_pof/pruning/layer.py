"""The layer wrapper that masks kernels."""

import contextlib
import inspect

from tf_pof._keras import keras

import tensorflow as tf
from tensorflow_model_optimization.python.core.sparsity.keras import (
    prunable_layer,
    prune_registry,
    pruning_wrapper,
)

from tf_pof.models.layers import config_of_wrapper
from tf_pof.pruning import budgets, saliency as saliencies, schedules
from tf_pof.pruning.patterns import Pattern


@keras.utils.register_keras_serializable(package="tf_pof")
class PruneOnce(pruning_wrapper.PruneLowMagnitude):
    """TF-MOT's wrapper with masks that do not destroy what they hide.

    TF-MOT assigns weight * mask to the variable in every forward pass. Here
    the forward pass reads `where(mask, kernel, 0)` and the variable is left
    alone, so a pruned weight keeps its value and may return at the next
    selection (Zafrir et al. 2021), float32 master weights are never rounded,
    and the graph has no conditional, assignment or update op: jit_compile,
    mixed precision, gradient accumulation and every tf.distribute strategy
    see an ordinary layer. A pruned weight's gradient is zero; an optimizer's
    momentum and weight decay still move the hidden value.

    Masks are selected by `tf_pof.pruning.pruner.Pruner`, between steps.
    TF-MOT's UpdatePruningStep, PruningSummaries and collect_prunable_layers
    accept this class. TF-MOT's strip_pruning returns the inner layers, which
    hold the hidden values too: use `tf_pof.strip` instead.

    Args:
        layer: the layer to prune; its kernels are those TF-MOT's registry or
            its own get_prunable_weights names, or `kernel` of a Dense.
        pruning_schedule: any TF-MOT schedule.
        pattern: "unstructured", "RxC" (outputs x inputs) or "n:m".
        budget: "uniform", "global", "er" or "erk".
        saliency: name of the score that weights are ranked by.
        keep_pruned_values: False zeroes a pruned weight for good, as TF-MOT
            does; `Pruner.update` before every step keeps it zero.
        keep_zeros: masks weights that are exactly zero at any sparsity.
        **kwargs: Keras' own.

    Raises:
        ValueError: if a name is unknown, the layer has no prunable kernel or
            the pattern does not suit it, or the schedule would prune nothing.
    """

    def __init__(
        self,
        layer,
        pruning_schedule,
        pattern="unstructured",
        budget="uniform",
        saliency="magnitude",
        keep_pruned_values=True,
        keep_zeros=False,
        **kwargs,
    ):
        self.pattern = Pattern.parse(pattern)
        budgets.check(budget)
        saliencies.get(saliency)
        schedules.check(pruning_schedule)
        _check_group_pattern(self.pattern, budget, pruning_schedule)
        self.budget = budget
        self.saliency = saliency
        self.keep_pruned_values = keep_pruned_values
        self.keep_zeros = keep_zeros
        if _needs_kernel_rule(layer):
            # TF-MOT's registry knows exact classes only, not subclasses.
            layer.get_prunable_weights = lambda: [layer.kernel]
        elif not _says_what_is_prunable(layer):
            raise ValueError(
                f"{layer.name} is a {type(layer).__name__}, which names no "
                "weights to prune: leave it out of `prunable`, or give it a "
                "method get_prunable_weights."
            )
        # The wrapper casts inputs and opens the autocast scope, so it must
        # have the precision the layer was built with, not today's global one.
        kwargs.setdefault("dtype", layer.dtype_policy)
        super().__init__(layer, pruning_schedule, **kwargs)
        self.schedule_step = None
        self.supports_masking = layer.supports_masking
        self._activity_regularizer = layer.activity_regularizer

    def build(self, input_shape):
        keras.layers.Wrapper.build(self, input_shape)
        self.prunable_weights = self.layer.get_prunable_weights()
        self.pruning_vars = []
        self._kernel_owners = []
        for weight in self.prunable_weights:
            owner, attribute = _find_owner(self.layer, weight)
            self._kernel_owners.append((owner, attribute))
            self.pattern.check(weight.shape, f"{self.layer.name}/{attribute}")
            mask = self.add_weight(
                "mask",
                shape=weight.shape,
                initializer="ones",
                # A quarter of TF-MOT's float32 mask, and never rounded.
                dtype=tf.bool,
                trainable=False,
                aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
            )
            threshold = self.add_weight(
                "threshold",
                shape=[],
                initializer="zeros",
                dtype=tf.float32,
                trainable=False,
                experimental_autocast=False,
                aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
            )
            self.pruning_vars.append((weight, mask, threshold))
        self.pruning_step = self.add_weight(
            "pruning_step",
            shape=[],
            initializer=keras.initializers.Constant(-1),
            dtype=tf.int64,
            trainable=False,
            aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
        )
        self.pruning_obj = _PruningOps(self)

    def follow(self, step: tf.Variable) -> None:
        """Takes the schedule's step from a variable of the pruned model."""
        # Past Keras' tracking: it is the model's, and saved once.
        object.__setattr__(self, "schedule_step", step)

    @property
    def weight_names(self) -> list[str]:
        """A name for each of `pruning_vars`, such as "pooler/kernel"."""
        names = []
        for owner, attribute in self._kernel_owners:
            prefix = self.layer.name
            if owner is not self.layer:
                prefix += f"/{owner.name}"
            names.append(f"{prefix}/{attribute}")
        return names

    def call(self, inputs, training=None, mask=None, **kwargs):
        # The class's own call: SavedModel export replaces the instance's by a
        # traced function, which keeps the kernel it was first traced with.
        call = type(self.layer).call
        accepted = inspect.signature(call).parameters
        for name, value in (("training", training), ("mask", mask)):
            if name in accepted:
                kwargs[name] = value
        with self._masked_kernels():
            return call(self.layer, inputs, **kwargs)

    @contextlib.contextmanager
    def _masked_kernels(self):
        """Lets the inner layer read masked kernels while it is called."""
        owned = zip(self._kernel_owners, self.pruning_vars)
        try:
            for (owner, attribute), (weight, mask, _) in owned:
                kernel = tf.convert_to_tensor(weight)
                masked = tf.where(mask, kernel, tf.zeros([], kernel.dtype))
                # Past Keras' __setattr__, which would track the tensor.
                object.__setattr__(owner, attribute, masked)
            yield
        finally:
            for (owner, attribute), weight in zip(
                self._kernel_owners, self.prunable_weights
            ):
                object.__setattr__(owner, attribute, weight)

    def compute_mask(self, inputs, mask=None):
        return self.layer.compute_mask(inputs, mask)

    def get_config(self):
        config = config_of_wrapper(self)
        config.update(
            pruning_schedule=self.pruning_schedule.get_config(),
            pattern=str(self.pattern),
            budget=self.budget,
            saliency=self.saliency,
            keep_pruned_values=self.keep_pruned_values,
            keep_zeros=self.keep_zeros,
        )
        return config

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        config["pruning_schedule"] = schedules.deserialize(
            config["pruning_schedule"]
        )
        config["layer"] = keras.layers.deserialize(config["layer"])
        return cls(**config)


class _PruningOps:
    """What TF-MOT's callbacks ask of a wrapper's `pruning_obj`."""

    def __init__(self, wrapper: PruneOnce):
        self._wrapper = wrapper

    def weight_mask_op(self) -> None:
        """Zeroes pruned weights, unless they are to keep their values."""
        if self._wrapper.keep_pruned_values:
            return
        for weight, mask, _ in self._wrapper.pruning_vars:
            weight.assign(tf.where(mask, weight, tf.zeros([], weight.dtype)))


def _says_what_is_prunable(layer) -> bool:
    """Whether TF-MOT knows which of a layer's weights to prune."""
    return (
        isinstance(layer, prunable_layer.PrunableLayer)
        or hasattr(layer, "get_prunable_weights")
        or prune_registry.PruneRegistry.supports(layer)
    )


def _needs_kernel_rule(layer) -> bool:
    """Whether a Dense subclass must be told which of its weights prune."""
    return isinstance(
        layer, keras.layers.Dense
    ) and not _says_what_is_prunable(layer)


def _check_group_pattern(pattern: Pattern, budget: str, schedule) -> None:
    """n:m fixes the sparsity of every tensor: other wishes contradict it."""
    if pattern.kind != "n:m":
        return
    if budget != "uniform":
        raise ValueError(
            f"The pattern {pattern} gives every tensor the same sparsity, so "
            f"the budget must be uniform instead of {budget}."
        )
    target = schedules.target_sparsity(schedule)
    if target is not None and pattern.group_zeros(target) < (
        pattern.m - pattern.n
    ):
        raise ValueError(
            f"The schedule ends at sparsity {target}, but the pattern "
            f"{pattern} needs {1 - pattern.n / pattern.m:g}: raise it."
        )


def _find_owner(layer, weight):
    """(owner, attribute) through which `layer` reads a weight."""
    for owner in (layer, *layer.submodules):
        for attribute, value in vars(owner).items():
            if value is weight:
                return owner, attribute
    raise ValueError(
        f"{layer.name} does not hold {weight.name} as an attribute, so it "
        "cannot be masked: leave the layer out of `prunable`."
    )
