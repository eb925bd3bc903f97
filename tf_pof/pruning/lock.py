"""Keeps the zeros of a sparse model while it is trained for a task.

The lock lies on the kernel variables, not on layers: a constraint, which every
Keras optimizer applies after its update, sets what was zero to zero again. So
it holds for all models that share the variables (a head of one's own, a
`Distiller`), whatever momentum or weight decay did, and neither the forward
pass, nor saved files, nor checkpoints know of it.
"""

import functools
import re
from collections.abc import Callable, Iterator, Sequence

from tf_pof._keras import keras

import numpy as np
import tensorflow as tf

from tf_pof.pruning import cloning

# "<..>/kernel:0", or a part of it that lives on one parameter server.
_KERNEL = re.compile(
    r"([^/]*(?:kernel|embeddings)[^/]*?(?:/part_\d+)?)(?::\d+)?$"
)


def lock(
    model: keras.Model,
    layers: str | Sequence[str] | Callable | None = None,
) -> keras.Model:
    """Fixes the zeros of a model's kernels: training leaves them exactly zero.

    Every weight that is zero now stays zero under any Keras optimizer,
    precision, jit_compile and tf.distribute strategy; the others are trained
    (Zafrir et al. 2021, section 3.3). Gradients of locked weights count
    neither in clipping nor in moments. A kernel without zeros, such as that of
    a new head, stays as free as it was. To lock again, after new weights were
    loaded, takes the zeros of that moment.

    Lock before the first `fit`: a training function of another model that was
    traced before has no lock. The lock is not saved: lock again after loading.
    Copies with variables of their own (`keras.models.clone_model`,
    `tf_pof.strip`) are not locked. Under ParameterServerStrategy workers do
    not wait for each other, so zeros hold whenever no step is under way.

    Args:
        model: functional or built Sequential model.
        layers: which to lock: a regular expression searched for in their
            names, a list of names, or a predicate on layers. By default the
            encoder kernels and the pooler of a BERT; of other models every
            2-D Dense kernel but those of the outputs and of task heads.

    Returns:
        The same model.

    Raises:
        ValueError: if there is no zero to lock, a kernel is all zero, a layer
            is unknown, or the model has pruning wrappers.
    """
    cloning.check_keras(model)
    if not getattr(model, "_is_graph_network", False):
        raise ValueError(
            f"{model.name} is not a functional model: lock the functional "
            "model in it, such as the student of a Distiller."
        )
    masks = []
    chosen = cloning.choose(model, layers, "layers", exchanges=False)
    for name, kernel in _kernels(model, chosen):
        mask = _plain(kernel)[0].numpy() != 0
        if not mask.any():
            raise ValueError(
                f"All weights of {name} are zero, so it could never learn: "
                "load weights before locking, or leave the layer out."
            )
        if not mask.all():
            masks.append((name, kernel, mask))
    if not masks:
        raise ValueError(
            f"No kernel of {model.name} has a zero to lock: load a sparse "
            "model, or name its layers by `layers`."
        )
    with cloning.scope_of(model):
        for name, kernel, mask in masks:
            _attach(name, kernel, mask)
    _teach_optimizers()
    # A function that was traced before does not know of the lock.
    model.train_function = None
    return model


def unlock(model: keras.Model) -> None:
    """Lets all weights of a model move again."""
    for _, held in _locks(model):
        # The constraint stays: traced functions hold it too.
        held.mask.assign(tf.ones_like(held.mask))


def locked(model: keras.Model) -> dict[str, dict]:
    """What is locked in a model, or in the models it shares variables with.

    Returns:
        {name: {"shape" [in, out], "size", "zeros", "sparsity"}}, in the words
        of `Pruner.report`; names are such as "layer_0_query/kernel".
    """
    found = {}
    for kernel, held in _locks(model):
        size = int(np.prod(kernel.shape))
        zeros = size - int(np.count_nonzero(held.mask.numpy()))
        if not zeros:
            continue
        name, count = held.name, 1
        while name in found:
            name, count = f"{held.name}_{count}", count + 1
        found[name] = {
            "shape": list(kernel.shape),
            "size": size,
            "zeros": zeros,
            "sparsity": zeros / size,
        }
    return found


def check(model: keras.Model) -> None:
    """Makes sure that no locked zero has moved; call it before saving.

    Raises:
        ValueError: naming the first kernel with a moved zero.
    """
    for kernel, held in _locks(model):
        mask = held.mask.numpy()
        for variable in _plain(kernel):
            moved = np.count_nonzero(variable.numpy()[~mask])
            if moved:
                raise ValueError(
                    f"{moved} locked zeros of {held.name} have moved: lock "
                    "the model before the first training step and after "
                    "loading weights."
                )


class _Lock(keras.constraints.Constraint):
    """Constraint that sets the locked weights of a kernel to zero.

    Attributes:
        name: of the kernel, "<layer>/<weight>".
        mask: bool variable of the kernel's shape, True where a weight lives.
            A variable, since as constants the masks of a BERT-Large would
            not fit into a graph.
        before: the constraint that the kernel had, or None.
    """

    def __init__(self, name, mask, before):
        self.name = name
        self.mask = mask
        self.before = before

    def __call__(self, w):
        if self.before is not None:
            w = self.before(w)
        return self.live(tf.convert_to_tensor(w))

    def live(self, values):
        """Values, zero where weights are locked."""
        if isinstance(values, tf.IndexedSlices):
            mask = tf.gather(self.mask, values.indices)
            rows = tf.where(mask, values.values, 0)
            return tf.IndexedSlices(rows, values.indices, values.dense_shape)
        # Not a product: an infinite weight would leave NaN.
        return tf.where(self.mask, values, tf.zeros([], values.dtype))


@functools.cache
def _teach_optimizers() -> None:
    """Makes Keras' optimizers see gradients of live weights only.

    A locked weight does not move in any case; this keeps it out of gradient
    clipping and of second moments that weights share. Keras lets nobody change
    gradients before they are clipped, whatever the model and the optimizer, so
    the base classes are told here; to variables without a lock nothing changes.
    """
    for base in (keras.optimizers.Optimizer, keras.optimizers.legacy.Optimizer):
        base.apply_gradients = _with_live_gradients(base.apply_gradients)


def _with_live_gradients(apply_gradients):
    @functools.wraps(apply_gradients)
    def wrapped(self, grads_and_vars, *args, **kwargs):
        pairs = [
            (variable.constraint.live(gradient), variable)
            if gradient is not None and _is_locked(variable)
            else (gradient, variable)
            for gradient, variable in grads_and_vars
        ]
        return apply_gradients(self, pairs, *args, **kwargs)

    return wrapped


def _is_locked(variable) -> bool:
    return isinstance(getattr(variable, "constraint", None), _Lock)


def _attach(name: str, kernel, mask: np.ndarray) -> None:
    """Gives a kernel its lock, or a new mask to the lock it has."""
    held = kernel.constraint
    if isinstance(held, _Lock):
        held.mask.assign(mask)
        return
    variable = tf.Variable(
        mask,
        trainable=False,
        name=f"{name}/lock",
        aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
    )
    held = _Lock(name, variable, held)
    for part in _plain(kernel):
        part._constraint = held
        _lock_averages(part, held)


def _lock_averages(variable, held: _Lock) -> None:
    """Applies a lock to moving averages that are written into a variable.

    An optimizer with use_ema averages its updates, which the constraint has
    not seen yet, and at the end of fit writes the averages back without
    applying constraints. It assigns variables; everything else that assigns
    to a kernel (loading, the constraint) gives tensors or arrays.
    """
    assign = variable.assign

    def locked_assign(value, *args, **kwargs):
        if isinstance(value, tf.Variable):
            value = held(value)
        return assign(value, *args, **kwargs)

    variable.assign = locked_assign


def _plain(variable) -> list[tf.Variable]:
    """The resource variables under those of mixed precision and strategies."""
    variable = getattr(variable, "_variable", variable)
    if isinstance(variable, tf.distribute.DistributedValues):
        return list(variable.values)
    return [getattr(variable, "_v", variable)]


def _locks(model: keras.Model) -> Iterator[tuple[tf.Variable, _Lock]]:
    """Yields the locked variables of a model, each once."""
    seen = set()
    for variable in model.variables:
        held = getattr(variable, "constraint", None)
        if isinstance(held, _Lock) and id(held) not in seen:
            seen.add(id(held))
            yield variable, held


def _kernels(model, chosen) -> Iterator[tuple[str, tf.Variable]]:
    """Yields ("<layer>/<weight>", kernel) of chosen layers, in model order."""
    for layer in cloning.leaves(model):
        if layer not in chosen:
            continue
        for owner in (layer, *layer.submodules):
            prefix = layer.name
            # A wrapper may have the name of what it wraps.
            if owner.name != layer.name:
                prefix += f"/{owner.name}"
            for weight in getattr(owner, "_trainable_weights", ()):
                found = _KERNEL.search(weight.name)
                if found:
                    yield f"{prefix}/{found[1]}", weight
