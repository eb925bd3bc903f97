"""Cloning functional models with layers exchanged, and choosing layers."""

import contextlib
import re
from collections.abc import Callable, Sequence

from tf_pof._keras import keras

import tensorflow as tf

# Heads are task-specific: pruned never, in pre-training and transfer alike.
_HEADS = re.compile(r"(mlm_|nsp_|span_|classifier)")
_ATTRIBUTES = (
    "config",
    "head",
    "num_labels",
    "labels",
    "vocab_file",
    "tokenizer_settings",
)


def scope_of(model: keras.Model):
    """The scope of the strategy a model lives in, unless one is entered."""
    if tf.distribute.has_strategy():
        return contextlib.nullcontext()
    return model.distribute_strategy.scope()


def clone(
    model: keras.Model,
    replace: Callable[[keras.layers.Layer], keras.layers.Layer],
    model_class: type[keras.Model],
) -> keras.Model:
    """Rebuilds a functional model on `replace(layer)` for every layer.

    keras.models.clone_model loses the nesting of outputs (lists in dicts, and
    one-element lists), so the graph is cloned flat and nested again.

    Args:
        model: functional or built Sequential model, nested ones included.
        replace: returns the layer itself to share it.
        model_class: class of the result; nested models stay functional.

    Returns:
        The clone, with the model's name, config, head, num_labels and
        vocab_file.

    Raises:
        ValueError: if the model is a subclassed one or not built.
    """
    _check_functional(model)

    def replace_nested(layer):
        if not isinstance(layer, keras.Model):
            return replace(layer)
        return clone(layer, replace, keras.Model)

    flat = keras.Model(model.inputs, model.outputs, name=model.name)
    flat = keras.models.clone_model(flat, clone_function=replace_nested)
    nested = getattr(model, "_nested_inputs", model.inputs)
    inputs = tf.nest.pack_sequence_as(nested, flat.inputs)
    nested = getattr(model, "_nested_outputs", model.outputs)
    outputs = tf.nest.pack_sequence_as(nested, flat.outputs)
    result = model_class(inputs, outputs, name=model.name)
    for attribute in _ATTRIBUTES:
        if hasattr(model, attribute):
            setattr(result, attribute, getattr(model, attribute))
    return result


def choose(
    model: keras.Model,
    prunable: str | Sequence[str] | Callable | None,
    argument: str = "prunable",
    exchanges: bool = True,
) -> set[keras.layers.Layer]:
    """The layers of a model that are to be pruned (see `wrapper.prune`).

    Layers of models that are nested in it, or called several times, are there
    once. Without a choice nothing may stay behind unseen: a layer that holds
    Dense layers inside is refused where layers are exchanged, since only a
    graph's own layers can be, and taken whole where they are not.

    Args:
        model: functional or built Sequential model.
        prunable: the user's choice.
        argument: what the user knows that choice by.
        exchanges: whether the layers are to be exchanged for others.

    Raises:
        ValueError: if none is chosen, a listed name does not exist, a layer
            cannot be exchanged, or the model has wrappers already or is no
            functional one.
    """
    _check_functional(model)
    layers = leaves(model)
    holders = [x for x in layers if _holds_dense(x)]
    if any(hasattr(x, "pruning_vars") for x in layers):
        raise ValueError(
            f"{model.name} is pruned already: use tf_pof.strip(model) first."
        )
    if hasattr(model, "quantization_state") and exchanges:
        raise ValueError(
            f"{model.name} is quantized: prune before tf_pof.quantize."
        )
    if prunable in (None, ".*") and exchanges and holders:
        raise ValueError(
            f"{holders[0].name} in {model.name}, of the class "
            f"{type(holders[0]).__name__}, holds Dense layers, which cannot be "
            "exchanged there: call these layers, or a functional model of "
            f"them, in the graph itself, or choose others by `{argument}`."
        )
    if prunable is None:
        if getattr(model, "config", None) is not None:
            from tf_pof.models import bert

            prunable = bert.PRUNABLE
        else:
            prunable = _dense_but_outputs(model, holders)
    if isinstance(prunable, str):
        chosen = [x for x in layers if re.search(prunable, x.name)]
        wish = f"matches {prunable!r}"
    elif callable(prunable):
        chosen = [x for x in layers if prunable(x)]
        wish = f"is chosen by `{argument}`"
    else:
        names = {x.name for x in layers}
        missing = sorted(set(prunable) - names)
        if missing:
            raise ValueError(
                f"{model.name} has no layer {missing[0]!r}, which is listed "
                f"in `{argument}`."
            )
        chosen = [x for x in layers if x.name in set(prunable)]
        wish = f"is listed in `{argument}`"
    if not chosen:
        raise ValueError(
            f"No layer of {model.name} {wish}: name its kernels' layers."
        )
    return set(chosen)


def check_keras(model) -> None:
    """Raises ValueError for what is no model, or one of Keras 3."""
    if isinstance(model, keras.Model):
        return
    modules = [c.__module__.split(".")[0] for c in type(model).__mro__]
    if "keras" in modules:
        raise ValueError(
            f"{getattr(model, 'name', 'The model')} is a Keras 3 model, but "
            "TF-MOT needs legacy Keras: build it with tf.keras after `import "
            "tf_pof`, or with tf_keras, and copy its weights by "
            "set_weights(model.get_weights())."
        )
    raise ValueError(
        f"A model is needed, but it is {model!r:.80}: give a functional or "
        "Sequential model of tf.keras."
    )


def _check_functional(model: keras.Model, where: str = "") -> None:
    check_keras(model)
    if not getattr(model, "_is_graph_network", False):
        raise ValueError(
            f"{model.name}{where} is not a functional model, so its layers "
            "cannot be exchanged: build it with keras.Model(inputs, outputs)."
        )


def leaves(model: keras.Model) -> list[keras.layers.Layer]:
    """Layers of a model and of the models nested in it, each once.

    Raises:
        ValueError: if a nested model is a subclassed one or not built.
    """
    found = {}
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            _check_functional(layer, f", nested in {model.name},")
            found |= dict.fromkeys(leaves(layer))
        else:
            found[layer] = None
    return list(found)


def _holds_dense(layer: keras.layers.Layer) -> bool:
    """Whether kernels of Dense layers are inside a layer that is no Dense."""
    return not hasattr(layer, "pruning_vars") and any(
        isinstance(part, keras.layers.Dense)
        for part in layer.submodules
        if part is not layer
    )


def _dense_but_outputs(model: keras.Model, holders: list) -> Callable:
    """The default choice for models that are not ours."""
    outputs = {_last_weighted(tensor) for tensor in model.outputs}

    def prunable(layer):
        if layer in holders:
            return layer not in outputs
        return (
            isinstance(layer, keras.layers.Dense)
            and layer.kernel.shape.rank == 2
            and layer not in outputs
            and not _HEADS.match(layer.name)
        )

    return prunable


def _last_weighted(tensor) -> keras.layers.Layer:
    """The last layer with weights before an output: softmax has none."""
    layer, node_index, _ = tensor._keras_history
    while not layer.weights and isinstance(
        layer.inbound_nodes[node_index].keras_inputs, (list, tuple)
    ):
        parents = layer.inbound_nodes[node_index].keras_inputs
        if len(parents) != 1:
            break
        layer, node_index, _ = parents[0]._keras_history
    return layer
