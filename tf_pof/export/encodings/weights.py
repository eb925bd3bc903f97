"""Finds the weights of a .tflite file that an encoding may exchange."""

import collections
from collections.abc import Sequence
import dataclasses

from ai_edge_litert import schema_py_generated as schema
import numpy as np

from tf_pof.export import flatbuffer

_FULLY_CONNECTED = schema.BuiltinOperator.FULLY_CONNECTED


@dataclasses.dataclass(frozen=True)
class Weights:
    """An int8 matrix that only FULLY_CONNECTEDs multiply by.

    Attributes:
        values: int8 [out, in], a view of the buffer.
        buffer: its index.
        places: (subgraph, index of the tensor) of the tensors it is in, one
            at least, with one shape.
        name: of the first tensor.
    """

    values: np.ndarray
    buffer: int
    places: Sequence[tuple[schema.SubGraphT, int]]
    name: str


def find(model: schema.ModelT) -> list[Weights]:
    """The dense int8 weights of a model; each buffer comes once.

    A buffer that anything but the weights of FULLY_CONNECTEDs uses, such as a
    table that is looked up too, is left out.
    """
    places = collections.defaultdict(list)
    shared = {entry.buffer for entry in model.metadata or ()}
    for subgraph in model.subgraphs:
        multiplied = _multiplied(model, subgraph)
        for index, tensor in enumerate(subgraph.tensors):
            if index in multiplied and _is_matrix(model, tensor):
                places[tensor.buffer].append((subgraph, index))
            else:
                shared.add(tensor.buffer)
    found = []
    for buffer, users in places.items():
        tensors = [subgraph.tensors[index] for subgraph, index in users]
        shapes = {tuple(tensor.shape) for tensor in tensors}
        if buffer not in shared and len(shapes) == 1:
            data = np.asarray(model.buffers[buffer].data).view(np.int8)
            found.append(
                Weights(
                    data.reshape(shapes.pop()),
                    buffer,
                    users,
                    tensors[0].name.decode(),
                )
            )
    return found


def readers(
    subgraph: schema.SubGraphT, index: int
) -> list[schema.OperatorT]:
    """The operators that have the tensor at `index` as an input."""
    return [x for x in subgraph.operators if index in x.inputs]


def _multiplied(model, subgraph) -> set[int]:
    """Tensors that are the weights of FULLY_CONNECTEDs and nothing else."""
    weights, others = set(), {*subgraph.inputs, *subgraph.outputs}
    for operator in subgraph.operators:
        inputs = list(operator.inputs)
        if flatbuffer.is_operator(model, operator, _FULLY_CONNECTED):
            weights.add(inputs.pop(1))
        others.update(inputs, operator.outputs)
    return weights - others


def _is_matrix(model, tensor) -> bool:
    data = model.buffers[tensor.buffer].data
    return (
        tensor.type == schema.TensorType.INT8
        and tensor.sparsity is None
        and data is not None
        and len(tensor.shape) == 2
        and len(data) == np.prod(tensor.shape) > 0
    )
