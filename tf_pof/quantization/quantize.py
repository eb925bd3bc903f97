"""Quantized models: made by `quantize`, trained by fit or a `Distiller`."""

from collections.abc import Callable, Iterable, Mapping, Sequence
import collections

from tf_pof._keras import keras

import numpy as np
import tensorflow as tf

from tf_pof.models.layers import (
    Activation,
    PositionEmbedding,
    register_model,
)
from tf_pof.models.task_model import TaskModel
from tf_pof.pruning import cloning
from tf_pof.quantization import fake_quant
from tf_pof.quantization.layers import (
    ActivationQuantizer,
    Phase,
    QuantizedDense,
    QuantizedEmbedding,
)

_EMBEDDINGS = (keras.layers.Embedding, PositionEmbedding)
_OURS = (QuantizedDense, QuantizedEmbedding, ActivationQuantizer)
_ATTRIBUTES = (
    "config",
    "head",
    "num_labels",
    "labels",
    "vocab_file",
    "tokenizer_settings",
    "sparsity",
    "new_weights",
)
# Of quantization.json.
VERSION = 2
_SCHEME = {
    "weights": "int8, symmetric, a scale per output channel",
    "embeddings": "int8, symmetric, a scale per table",
    "activations": "int8, asymmetric, a range per tensor",
    "residuals": "int8, symmetric, a range per channel",
}


@register_model
class QuantizedModel(TaskModel):
    """What `quantize` returns: a functional model on int8 grids.

    Its weights are float32 variables, and those of the model it was made of.
    """

    # With the base's arguments, so that Keras saves it as functional.
    def __init__(self, inputs, outputs, name=None, trainable=True, **kwargs):
        super().__init__(inputs, outputs, name, trainable, **kwargs)
        # int64, since int32 variables stay on the host of a GPU.
        self._phase = tf.Variable(
            Phase.QUANTIZE.value,
            dtype=tf.int64,
            trainable=False,
            name="phase",
            aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
        )
        for layer in cloning.leaves(self):
            if isinstance(layer, _OURS):
                layer.follow(self._phase)

    @property
    def phase(self) -> Phase:
        """What training does to ranges and values; QUANTIZE at first."""
        return Phase(int(self._phase.numpy()))

    @phase.setter
    def phase(self, phase: Phase) -> None:
        self._phase.assign(Phase(phase).value)

    @property
    def quantizers(self) -> dict[str, ActivationQuantizer]:
        """The `ActivationQuantizer` layers by name, in the model's order."""
        return dict(_quantizers(self))

    def ranges(self) -> dict[str, tuple]:
        """(minimum, maximum) of every quantizer; (0, 0) if it saw nothing.

        Both are floats, or tuples of one for every channel. Of the replicas of
        this process it is the mean.
        """
        return {
            name: (_local_mean(layer.minimum), _local_mean(layer.maximum))
            for name, layer in self.quantizers.items()
        }

    def synchronize(self) -> None:
        """Gives all replicas their mean ranges; call it on every worker."""
        if self.distribute_strategy.num_replicas_in_sync == 1:
            return
        for layer in self.quantizers.values():
            for variable in (layer.minimum, layer.maximum):
                variable.assign(variable.read_value())

    def set_ranges(self, ranges: Mapping[str, Sequence[float]]) -> None:
        """Takes ranges such as `ranges()` gives.

        Numbers may stand for those of all channels.

        Raises:
            ValueError: for a missing or unknown name, or a range that is not
                finite, lacks 0 or is of another number of channels.
        """
        quantizers = self.quantizers
        for name in [*quantizers, *ranges]:
            if name not in quantizers or name not in ranges:
                known = "no range" if name in quantizers else "no quantizer"
                raise ValueError(f"There is {known} {name!r} in {self.name}.")
            fake_quant.check_range(*ranges[name], name)
            given = np.shape(ranges[name])
            shape = tuple(quantizers[name].minimum.shape)
            if given[1:] not in ((), shape):
                raise ValueError(
                    f"The range of {name} must be (minimum, maximum), numbers "
                    f"or arrays of shape {shape}; got shape {given}."
                )
        for name, layer in quantizers.items():
            variables = layer.minimum, layer.maximum
            for variable, end in zip(variables, np.float32(ranges[name])):
                variable.assign(np.broadcast_to(end, variable.shape))

    def quantization_state(self) -> dict:
        """The contents of quantization.json, see `saved.restore`."""
        return {
            "version": VERSION,
            "scheme": _SCHEME,
            "layers": [
                layer.name
                for layer in cloning.leaves(self)
                if isinstance(layer, (QuantizedDense, QuantizedEmbedding))
            ],
            "ranges": {k: list(v) for k, v in self.ranges().items()},
        }


def quantize(
    model: keras.Model,
    layers: str | Sequence[str] | Callable | None = None,
    range_decay: float = 0.99,
) -> QuantizedModel:
    """A functional clone of a model that computes as int8 inference will.

    Kernels of Dense layers are rounded to 255 levels with a scale for every
    output channel, tables of embeddings to as many of one scale, and the
    inputs and outputs of Dense layers to 256 levels of a range that training
    learns (Q8BERT, Zafrir et al. 2019; Zafrir et al. 2021, section 3.4); where
    only sums read an output, its channels have ranges of their own.
    Everything else stays float: residual sums, layer norm, softmax, GELU.

    The clone shares every variable with `model`, so that a lock on its kernels
    goes on holding, and zeros stay zero on the grid. Its layers keep their
    names; quantizers are called "<dense>_output_quantizer", and
    "<dense>_input_quantizer" after the first Dense that reads a tensor.

    Compile it and call fit, or give it to a `Distiller`, preferably with the
    callback `QuantizationSchedule`; or set its ranges by `calibrate`.

    Args:
        model: functional or built Sequential model, without pruning wrappers.
        layers: which Dense and embedding layers: a regular expression searched
            for in their names, a list of names, or a predicate on layers that
            chooses no others; all by default.
        range_decay: of the moving averages, in [0, 1).

    Returns:
        A model of the same name, inputs, outputs and attributes.

    Raises:
        ValueError: if the model is pruned (`tf_pof.strip` it first), quantized
            already or no functional one, or has no such layer.
    """
    chosen = _choose(model, layers)
    with cloning.scope_of(model):
        clone = _Cloner(chosen, range_decay).clone(model, QuantizedModel)
    for name in _ATTRIBUTES:
        if hasattr(model, name):
            setattr(clone, name, getattr(model, name))
    # What the losses of compile are called by.
    clone.output_names = list(model.output_names)
    return clone


def calibrate(model: QuantizedModel, batches: Iterable) -> QuantizedModel:
    """Sets the ranges of a model without training it.

    A range is the mean of those of the batches, all computed in float.

    Args:
        model: made by `quantize`.
        batches: inputs of the model, or tuples (inputs, labels, ..) as fit
            takes them.

    Returns:
        The model.

    Raises:
        ValueError: if there is no batch.
    """
    quantizers = model.quantizers.values()

    @tf.function(reduce_retracing=True)
    def extremes(inputs):
        for layer in quantizers:
            layer.collected = []
        try:
            model(inputs, training=False)
            # A layer of a shared model may have been called several times.
            return [
                (
                    tf.reduce_min([x[0] for x in layer.collected], 0),
                    tf.reduce_max([x[1] for x in layer.collected], 0),
                )
                for layer in quantizers
            ]
        finally:
            for layer in quantizers:
                layer.collected = None

    phase, found = model.phase, []
    model.phase = Phase.OBSERVE
    try:
        for batch in batches:
            inputs = batch[0] if isinstance(batch, tuple) else batch
            found.append(extremes(inputs))
    finally:
        model.phase = phase
    if not found:
        raise ValueError("There is no batch to calibrate with.")
    means = [
        [np.mean(end, 0, dtype=np.float64) for end in zip(*batches)]
        for batches in zip(*found)
    ]
    model.set_ranges(dict(zip(model.quantizers, means)))
    return model


def _local_mean(variable) -> float | tuple[float, ...]:
    """Without a word to other workers, who may not be asking."""
    copies = [variable]
    if isinstance(variable, tf.distribute.DistributedValues):
        copies = variable.values
    mean = np.mean([x.numpy() for x in copies], 0, dtype=np.float64)
    mean = np.float32(mean).tolist()
    return tuple(mean) if isinstance(mean, list) else mean


def _quantizers(model, prefix=""):
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _quantizers(layer, f"{prefix}{layer.name}/")
        elif isinstance(layer, ActivationQuantizer):
            yield prefix + layer.name, layer


def _choose(model, layers) -> set[keras.layers.Layer]:
    """The layers to quantize."""
    cloning.check_keras(model)
    if any(isinstance(x, _OURS) for x in cloning.leaves(model)):
        raise ValueError(
            f"{model.name} is quantized already: train or save it as it is."
        )

    def suits(layer):
        return isinstance(layer, (keras.layers.Dense, *_EMBEDDINGS))

    # Says also that a model is pruned, or no functional one.
    chosen = cloning.choose(model, ".*" if layers is None else layers, "layers")
    if layers is None or isinstance(layers, str):
        chosen = set(filter(suits, chosen))
    for layer in sorted(chosen, key=lambda x: x.name):
        if not suits(layer):
            raise ValueError(
                f"{layer.name} is a {type(layer).__name__}, but only Dense and "
                "embedding layers can be quantized: leave it out of `layers`."
            )
    if not any(isinstance(x, keras.layers.Dense) for x in chosen):
        raise ValueError(
            f"{model.name} has no Dense layer to quantize, and embeddings "
            "alone are not worth it."
        )
    return chosen


class _Cloner:
    """Builds a model's graph anew, with quantizers around Dense layers.

    `pruning.cloning` exchanges layers; here layers come in between.
    """

    def __init__(self, chosen, range_decay):
        self._chosen, self._range_decay = chosen, range_decay
        # New layers by old ones, so that shared layers stay shared.
        self._layers: dict[keras.layers.Layer, keras.layers.Layer] = {}

    def clone(self, model, model_class):
        """The model's layers on new inputs, in a model of `model_class`."""
        nested_inputs = getattr(model, "_nested_inputs", model.inputs)
        nested_outputs = getattr(model, "_nested_outputs", model.outputs)
        # Tensors by the old ones' identity, and the rounded ones by theirs.
        tensors, rounded, names = {}, {}, collections.Counter()
        # Deepest nodes come first; of a depth, in the order of creation.
        for depth in sorted(model._nodes_by_depth, reverse=True):
            for node in model._nodes_by_depth[depth]:
                if node.is_input:
                    new = _new_input(node)
                else:
                    args, kwargs = tf.nest.map_structure(
                        lambda x: tensors.get(id(x), x),
                        (node.call_args, node.call_kwargs),
                    )
                    new = self._call(node.layer, args, kwargs, rounded, names)
                for old, tensor in zip(
                    tf.nest.flatten(node.outputs), tf.nest.flatten(new)
                ):
                    tensors[id(old)] = tensor
        inputs, outputs = tf.nest.map_structure(
            lambda x: tensors[id(x)], (nested_inputs, nested_outputs)
        )
        return model_class(inputs, outputs, name=model.name)

    def _call(self, layer, args, kwargs, rounded, names):
        """Outputs of the layer's counterpart."""
        new = self._counterpart(layer)
        if not isinstance(new, QuantizedDense):
            return new(*args, **kwargs)

        def quantizer(where, per_channel=False):
            name = f"{layer.name}_{where}_quantizer"
            count = names[name]
            names[name] += 1
            return ActivationQuantizer(
                self._range_decay,
                per_channel,
                dtype=new.dtype_policy,
                # A shared layer's calls differ in their ranges.
                name=f"{name}_{count}" if count else name,
            )

        (inputs,) = args
        if id(inputs) not in rounded:
            # With the tensor itself, so that no other gets its identity.
            rounded[id(inputs)] = quantizer("input")(inputs), inputs
        outputs = new(rounded[id(inputs)][0], **kwargs)
        outputs = quantizer("output", _is_summed(layer))(outputs)
        if layer.activation in (None, keras.activations.linear):
            return outputs
        return Activation(
            layer.activation,
            dtype=new.dtype_policy,
            name=outputs.node.layer.name.replace(
                "_output_quantizer", "_activation"
            ),
        )(outputs)

    def _counterpart(self, layer):
        """What stands for a layer: a wrapper, a clone or the layer itself."""
        if layer not in self._layers:
            if isinstance(layer, keras.Model):
                new = self.clone(layer, keras.Model)
            elif layer not in self._chosen:
                new = layer
            elif isinstance(layer, _EMBEDDINGS):
                new = QuantizedEmbedding(layer)
            else:
                new = QuantizedDense(layer)
            self._layers[layer] = new
        return self._layers[layer]


def _is_summed(layer: keras.layers.Dense) -> bool:
    """Whether only sums read a Dense, which is called once."""

    def readers(layer):
        for node in layer._outbound_nodes:
            if isinstance(node.layer, keras.layers.Dropout):
                yield from readers(node.layer)
            else:
                yield node.layer

    return (
        layer.activation in (None, keras.activations.linear)
        and len(layer._inbound_nodes) == 1
        and {type(x) for x in readers(layer)} == {keras.layers.Add}
    )


def _new_input(node):
    config = node.layer.get_config()
    return keras.layers.InputLayer.from_config(config).output
