"""Compares a .tflite with its quantized model Dense by Dense.

Differences are counted in steps, the distances of the int8 levels of the
tensor that is compared. Of each Dense three are told apart:

  input: between what it is given in the file and in the model; what comes
    before it is to blame.
  output: between what it returns in both, from these different inputs.
  own: between what it returns in the file and what the model's layer makes of
    the file's input: this layer alone is to blame. TFLite adds integers and
    an int32 bias, the model floats, and where a sum falls half-way between
    two levels each may take another one: 1 is right, 2 is not.
"""

from collections.abc import Sequence
import dataclasses

from tf_pof._keras import keras

from ai_edge_litert import interpreter as litert
from ai_edge_litert import schema_py_generated as schema
import numpy as np
import tensorflow as tf

from tf_pof.export import flatbuffer
from tf_pof.quiet import quiet
from tf_pof.quantization.layers import QuantizedDense

# Below it a difference of inputs is one of rounding, in mean steps.
_ROUNDING = 0.25


@dataclasses.dataclass(frozen=True)
class LayerDifference:
    """How far a Dense of a .tflite is from the model's, in steps.

    Attributes:
        layer: its name.
        input_mean, output_mean: mean absolute differences of what it is given
            and returns.
        output_max: largest difference of what it returns.
        own_max: largest difference on equal inputs.
    """

    layer: str
    input_mean: float
    output_mean: float
    output_max: float
    own_max: float


def compare(
    model: keras.Model, contents: bytes, inputs: dict[str, np.ndarray]
) -> list[LayerDifference]:
    """Differences of all Dense layers, in the order of the file.

    Args:
        model: the QuantizedModel that was exported.
        contents: of the .tflite, in the dense encoding.
        inputs: int32 [b, seq] by name, with the length of a signature and,
            if the file has a fixed batch, a multiple of it as b.

    Raises:
        ValueError: if the file does not have the Dense layers of a model.
    """
    found = _run(contents, inputs)
    nodes = dense_nodes(model)
    if not found or not found.keys() <= nodes.keys():
        raise ValueError(
            "The .tflite has other Dense layers than the model: compare a "
            "file in the dense encoding with the model that it was made of."
        )
    expected = _expected(model, {name: nodes[name] for name in found}, inputs)
    differences = []
    for name, ((given, given_step), (returned, step)) in found.items():
        quantizer = model.get_layer(f"{name}_output_quantizer")
        # The file multiplies by them only behind the Dense.
        magnitudes = quantizer.channel_magnitudes()
        returned, step = returned * magnitudes, step * magnitudes
        given_apart = np.abs(given - expected[name][0]) / given_step
        returned_apart = np.abs(returned - expected[name][1]) / step
        own = np.abs(returned - _apply(model, name, given)) / step
        differences.append(
            LayerDifference(
                name,
                float(given_apart.mean()),
                float(returned_apart.mean()),
                float(returned_apart.max()),
                float(own.max()),
            )
        )
    return differences


def blame(
    differences: Sequence[LayerDifference], own_steps: float
) -> tuple[str, str]:
    """The layer where a file begins to compute otherwise, and how.

    It is the Dense that is furthest from the model's on equal inputs. If none
    is more than `own_steps` off, it is the one before which the differences
    grow most.

    Returns:
        The layer's name, and a clause to say after "because".
    """
    worst = max(differences, key=lambda d: d.own_max)
    if worst.own_max > own_steps:
        return worst.layer, (
            f"{worst.layer} makes of the same input something up to "
            f"{worst.own_max:.0f} quantization steps away"
        )
    before, growth = 0.0, {}
    for difference in differences:
        growth[difference] = difference.input_mean / max(before, _ROUNDING)
        before = max(before, difference.output_mean)
    worst = max(growth, key=growth.get)
    return worst.layer, (
        "every Dense is right by itself, but something before "
        f"{worst.layer} is not: its input is {worst.input_mean:.2f} "
        "quantization steps away in the mean"
    )


def dense_nodes(model):
    """The node of each quantized Dense of a model: its place in the graph."""
    return {
        node.layer.name: node
        for nodes in model._nodes_by_depth.values()
        for node in nodes
        if isinstance(node.layer, QuantizedDense)
    }


def _expected(model, nodes, inputs):
    """(input, output) of each Dense of a model, float32."""
    tensors = {}
    for name, node in nodes.items():
        quantizer = model.get_layer(f"{name}_output_quantizer")
        tensors[name] = node.keras_inputs[0], _output_in(model, quantizer)
    values = keras.Model(model.input, tensors)(inputs, training=False)
    return {k: tuple(x.numpy() for x in pair) for k, pair in values.items()}


def _output_in(model, layer):
    """A layer's output in this model; clones may share the layer."""
    return next(
        node.outputs
        for nodes in model._nodes_by_depth.values()
        for node in nodes
        if node.layer is layer
    )


def _apply(model, name, inputs):
    outputs = model.get_layer(name)(tf.constant(inputs))
    quantizer = model.get_layer(f"{name}_output_quantizer")
    return quantizer(outputs, training=False).numpy()


def _run(contents, inputs):
    """((input, step), (output, step)) of each Dense of a file, float32.

    Without XNNPACK, in which tensors between operators cannot be read.
    """
    file = flatbuffer.read(contents)
    length = inputs["token_ids"].shape[1]
    index, key, size = _signature(file, length)
    tensors = file.subgraphs[index].tensors
    operators = _dense_operators(file, file.subgraphs[index])
    with quiet():
        interpreter = litert.Interpreter(
            model_content=contents,
            experimental_op_resolver_type=(
                litert.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
            ),
            experimental_preserve_all_tensors=True,
        )
        runner = interpreter.get_signature_runner(key)
    names = runner.get_input_details()
    rows = len(inputs["token_ids"])
    parts = {name: ([], []) for name in operators}
    for i in range(0, rows, size or rows):
        end = i + (size or rows)
        runner(**{name: inputs[name][i:end] for name in names})
        for name, places in operators.items():
            for part, place in zip(parts[name], places):
                grid = tensors[place].quantization
                levels = interpreter.get_tensor(place, index).astype(np.float32)
                part.append(
                    (levels - grid.zeroPoint[0]) * np.float32(grid.scale[0])
                )
    return {
        name: tuple(
            (np.concatenate(part), tensors[place].quantization.scale[0])
            for part, place in zip(parts[name], operators[name])
        )
        for name in operators
    }


def _signature(file, length):
    """(subgraph, key, fixed batch or 0) of the signature of a length."""
    for signature in file.signatureDefs:
        tensors = file.subgraphs[signature.subgraphIndex].tensors
        tensor = tensors[signature.inputs[0].tensorIndex]
        shape = tensor.shape
        if tensor.shapeSignature is not None:
            shape = tensor.shapeSignature
        if shape[1] == length:
            key = signature.signatureKey.decode()
            return signature.subgraphIndex, key, max(0, int(shape[0]))
    raise ValueError(f"The .tflite has no signature of {length} tokens.")


def _dense_operators(file, subgraph) -> dict[str, tuple[int, int]]:
    """Input and output tensor of each Dense.

    Bias and kernel have its name. Equal kernels are one tensor, and biases of
    zeros are left out.
    """
    found = {}
    for operator in subgraph.operators:
        if flatbuffer.is_operator(
            file, operator, schema.BuiltinOperator.FULLY_CONNECTED
        ):
            named = next(i for i in operator.inputs[:0:-1] if i >= 0)
            name = subgraph.tensors[named].name.decode().partition("/")[0]
            found[name] = int(operator.inputs[0]), int(operator.outputs[0])
    return found
