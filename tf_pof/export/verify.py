"""Checks a converted file against the quantized model that it was made of."""

import re

from ai_edge_litert import schema_py_generated as schema
import numpy as np

from tf_pof._keras import keras
from tf_pof.export import cleanup, graph
from tf_pof.quantization import fake_quant
from tf_pof.quantization.layers import QuantizedDense, QuantizedEmbedding

_INT8 = schema.TensorType.INT8


def verify(contents: schema.ModelT, model: keras.Model) -> None:
    """Raises ValueError unless a file computes with the model's integers.

    That is: only builtin operators, every Dense an int8 FULLY_CONNECTED with
    exactly the kernel of `fake_quant.int8`, [out, in], its scales and an int32
    bias, and every table int8, in each subgraph.

    Args:
        contents: of the file, cleaned.
        model: the QuantizedModel.
    """
    for subgraph in contents.subgraphs:
        for operator in subgraph.operators:
            name = cleanup.operator_name(contents, operator)
            if name == "CUSTOM":
                output = subgraph.tensors[operator.outputs[0]].name.decode()
                raise ValueError(
                    f"{output} is computed by an operator that is none of "
                    "TFLite's own: use layers of tf_pof.models only."
                )
    for layer in _exported_layers(model):
        for subgraph in contents.subgraphs:
            if isinstance(layer, QuantizedDense):
                quantizer = model.get_layer(f"{layer.name}_output_quantizer")
                magnitudes = quantizer.channel_magnitudes()
                _check_dense(contents, subgraph, layer, magnitudes)
            elif isinstance(layer, QuantizedEmbedding):
                _check_table(contents, subgraph, layer)


def _exported_layers(model):
    outputs = [model.output[name] for name in graph.output_names(model)]
    return keras.Model(model.input, outputs).layers


def _check_dense(contents, subgraph, layer, magnitudes):
    def complain(what):
        raise ValueError(
            f"The layer {layer.name} {what} in the TFLite file, so that it "
            "would not compute what was trained."
        )

    operators = [
        operator
        for operator in subgraph.operators
        if cleanup.operator_name(contents, operator) == "FULLY_CONNECTED"
        and _is_of(operator, subgraph, layer.name)
    ]
    if len(operators) != 1:
        complain(f"is {len(operators)} FULLY_CONNECTED instead of one")
    inputs, weights, bias = (
        subgraph.tensors[i] if i >= 0 else None for i in operators[0].inputs
    )
    outputs = subgraph.tensors[operators[0].outputs[0]]
    if {inputs.type, weights.type, outputs.type} != {_INT8}:
        complain("is not int8")
    kernel = layer.kernel.numpy()
    scales = fake_quant.weight_scales(kernel, per_channel=True)
    expected = fake_quant.int8(kernel, scales).T
    if not np.array_equal(_values(contents, weights, np.int8), expected):
        complain("has other weights")
    scales = scales / magnitudes
    # Of a channel of zeros any scale is right.
    some = expected.any(axis=1)
    found = np.broadcast_to(weights.quantization.scale, scales.shape)
    if not np.allclose(found[some], scales[some], rtol=1e-6, atol=0):
        complain("has other scales")
    if bias is None:
        # The converter leaves out a bias of zeros.
        if layer.bias is not None and layer.bias.numpy().any():
            complain("has no bias")
    elif bias.type != schema.TensorType.INT32:
        complain("has no int32 bias")


def _is_of(operator, subgraph, name):
    """Whether a FULLY_CONNECTED is the Dense of that name.

    Equal kernels of two layers are one tensor, with the name of the first, so
    that bias and output count.
    """
    output = subgraph.tensors[operator.outputs[0]].name.decode()
    if re.search(rf"(^|[/;]){name}/", output):
        return True
    bias = operator.inputs[2]
    return bias >= 0 and subgraph.tensors[bias].name.decode() == f"{name}/bias"


def _check_table(contents, subgraph, layer):
    tensors = [
        tensor
        for tensor in subgraph.tensors
        if tensor.name.decode() == f"{layer.name}/embeddings"
    ]
    table = layer.embeddings.numpy()
    scale = fake_quant.weight_scales(table, per_channel=False)
    expected = fake_quant.int8(table, scale)
    if (
        len(tensors) != 1
        or tensors[0].type != _INT8
        or not np.array_equal(_values(contents, tensors[0], np.int8), expected)
    ):
        raise ValueError(
            f"The table of {layer.name} is not its int8 one in the TFLite "
            "file, so that it would not compute what was trained."
        )


def _values(contents, tensor, dtype):
    data = contents.buffers[tensor.buffer].data
    if data is None:
        return None
    return np.frombuffer(bytes(data), dtype).reshape(tensor.shape)
