"""Tidies what TFLite's converter writes: a model's flatbuffer, in place.

Objects are those of `ai_edge_litert.schema_py_generated`.
"""

import hashlib
import re

from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils

from tf_pof.export import graph

OPERATORS = {
    value: name
    for name, value in vars(schema.BuiltinOperator).items()
    if isinstance(value, int)
}
# How the constants of our layers are called, numbered from the second subgraph
# on, and what of theirs they are.
_CONSTANTS = (
    (re.compile(r"(?:^|/)(\w+)/MatMul\d*$"), "kernel"),
    (re.compile(r"(?:^|/)(\w+)/add\d*$"), "bias"),
    (re.compile(r"(?:^|/)(\w+_embedding)/FakeQuant\w*$"), "embeddings"),
)


def clean(model: schema.ModelT) -> None:
    """Removes barriers, shares equal constants, and gives short names.

    Inputs and outputs are called as in the signatures, since several runtimes
    know no signatures; constants as in `tf_pof.models.weights`.
    """
    for subgraph in model.subgraphs:
        _remove_barriers(model, subgraph)
        _drop_unused_tensors(model, subgraph)
    _name_constants(model)
    for signature in model.signatureDefs:
        tensors = model.subgraphs[signature.subgraphIndex].tensors
        for entry in [*signature.inputs, *signature.outputs]:
            tensors[entry.tensorIndex].name = entry.name
    _share_buffers(model)


def operator_name(model: schema.ModelT, operator: schema.OperatorT) -> str:
    """Such as "FULLY_CONNECTED"; "CUSTOM" for every custom one."""
    code = model.operatorCodes[operator.opcodeIndex]
    number = flatbuffer_utils.get_builtin_code_from_operator_code(code)
    return OPERATORS.get(number, str(number))


def _remove_barriers(model, subgraph):
    """Takes out what `graph.FloatIsland` put in."""
    stands_for, operators = {}, []
    for operator in subgraph.operators:
        if operator_name(model, operator) == graph.BARRIER:
            (values,) = operator.inputs
            stands_for[operator.outputs[0]] = stands_for.get(values, values)
        else:
            operators.append(operator)
    subgraph.operators = operators
    _renumber(model, subgraph, lambda i: stands_for.get(i, i))


def _drop_unused_tensors(model, subgraph):
    used = {*subgraph.inputs, *subgraph.outputs}
    for operator in subgraph.operators:
        used.update(operator.inputs, operator.outputs)
        used.update(operator.intermediates or ())
    used = sorted(used - {-1})
    subgraph.tensors = [subgraph.tensors[i] for i in used]
    new = {old: i for i, old in enumerate(used)} | {-1: -1}
    _renumber(model, subgraph, new.__getitem__)


def _renumber(model, subgraph, new):
    """Exchanges the indices of tensors wherever they stand."""

    def exchange(indices):
        return None if indices is None else [new(i) for i in indices]

    subgraph.inputs = exchange(subgraph.inputs)
    subgraph.outputs = exchange(subgraph.outputs)
    for operator in subgraph.operators:
        operator.inputs = exchange(operator.inputs)
        operator.outputs = exchange(operator.outputs)
        operator.intermediates = exchange(operator.intermediates)
    for signature in model.signatureDefs:
        if model.subgraphs[signature.subgraphIndex] is subgraph:
            for entry in [*signature.inputs, *signature.outputs]:
                entry.tensorIndex = new(entry.tensorIndex)


def _name_constants(model):
    for subgraph in model.subgraphs:
        for tensor in subgraph.tensors:
            if model.buffers[tensor.buffer].data is None:
                continue
            for pattern, weight in _CONSTANTS:
                match = pattern.search(tensor.name.decode())
                if match:
                    tensor.name = f"{match[1]}/{weight}".encode()


def _share_buffers(model):
    """Leaves one buffer of each content, and none that nothing refers to."""
    users = [t for subgraph in model.subgraphs for t in subgraph.tensors]
    users += model.metadata or []
    # Buffer 0 is empty: that of tensors which are computed.
    buffers, new = [model.buffers[0]], {None: 0}
    for user in users:
        data = model.buffers[user.buffer].data
        key = None if data is None else hashlib.sha256(data).digest()
        if key not in new:
            new[key] = len(buffers)
            buffers.append(model.buffers[user.buffer])
        user.buffer = new[key]
    model.buffers = buffers
