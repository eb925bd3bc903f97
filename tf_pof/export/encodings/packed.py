"""The encoding "packed": weights in a form of our own, for our delegate.

A FULLY_CONNECTED's weights become the output of a custom operator that has
the packed bytes (see `packed_format`) as its one input, uint8. The tf_pof
delegate takes both operators together. A runtime without it knows no such
operator and refuses the file; the operator's name says what to do.
"""

from ai_edge_litert import schema_py_generated as schema
import numpy as np

from tf_pof.export import flatbuffer
from tf_pof.export.encodings import (
    packed_decoder,
    packed_encoder,
    packed_format,
    weights,
)

CUSTOM_CODE = "TF_POF_PACKED_WEIGHTS (load the tf_pof delegate)"
# Packed weights have to be worth an operator.
_MAX_SHARE = 0.75


def pack(contents: bytes) -> bytes:
    """Packs every FULLY_CONNECTED's int8 weights that shrink by a quarter.

    Subgraphs go on sharing what they shared. Tables that are looked up stay.

    Args:
        contents: of a .tflite file with dense weights.

    Raises:
        ValueError: if this is no .tflite file or nothing in it shrinks.
    """
    model = flatbuffer.read(contents)
    code = len(model.operatorCodes)
    indices = {}
    for matrix in weights.find(model):
        packed = packed_encoder.encode(matrix.values)
        if len(packed) > _MAX_SHARE * matrix.values.size:
            continue
        # Equal weights in buffers of their own become one.
        index = indices.setdefault(packed, matrix.buffer)
        model.buffers[matrix.buffer].data = None
        model.buffers[index].data = np.frombuffer(packed, np.uint8)
        for subgraph, tensor in matrix.places:
            _add_operator(subgraph, tensor, code, index, len(packed))
    if not indices:
        raise ValueError(
            "No weights in the model have enough zeros to be packed: use the "
            "encoding dense."
        )
    custom = schema.BuiltinOperator.CUSTOM
    model.operatorCodes.append(
        schema.OperatorCodeT(
            deprecatedBuiltinCode=custom,
            builtinCode=custom,
            customCode=CUSTOM_CODE,
            version=1,
        )
    )
    return flatbuffer.write(model, contents)


def _add_operator(subgraph, index, code, buffer, size):
    """Lets the tensor at `index` come from a new one with the buffer."""
    tensor = subgraph.tensors[index]
    tensor.buffer = 0
    subgraph.tensors.append(
        schema.TensorT(
            shape=[size],
            type=schema.TensorType.UINT8,
            buffer=buffer,
            name=tensor.name + b"/packed",
            hasRank=True,
        )
    )
    operator = schema.OperatorT(
        opcodeIndex=code,
        inputs=[len(subgraph.tensors) - 1],
        outputs=[index],
    )
    first = subgraph.operators.index(weights.readers(subgraph, index)[0])
    subgraph.operators.insert(first, operator)


def unpack(contents: bytes) -> bytes:
    """The file with dense weights again, tensor for tensor that of before.

    An archive behind it is kept as it is: checksums in it are of the packed
    file.

    Args:
        contents: of a .tflite file, packed or not.

    Raises:
        ValueError: if the file or its packed weights are corrupt.
    """
    model = flatbuffer.read(contents)
    return flatbuffer.write(model, contents) if decode(model) else contents


def decode(model: schema.ModelT) -> bool:
    """Makes packed weights dense again, in place.

    Returns:
        Whether there were any.

    Raises:
        ValueError: if they are corrupt.
    """
    sources = {}
    for subgraph in model.subgraphs:
        operators = [x for x in subgraph.operators if is_packed(model, x)]
        added = set()
        for operator in operators:
            source, target = _packed_tensors(subgraph, operator)
            added.add(operator.inputs[0])
            data = model.buffers[source.buffer].data
            data = b"" if data is None else bytes(data)
            header = packed_format.header(data)
            shape = target.shape
            if shape is None or [header.rows, header.columns] != list(shape):
                raise ValueError(
                    f"The packed weights of {target.name.decode()} have "
                    "another shape than their tensor."
                )
            sources[source.buffer] = data
            target.buffer = source.buffer
        first = len(subgraph.tensors) - len(added)
        if added != set(range(first, len(subgraph.tensors))):
            raise ValueError(
                "The packed weights are not the last tensors: tf_pof did not "
                "write this file."
            )
        del subgraph.tensors[first:]
        subgraph.operators = [
            x for x in subgraph.operators if not is_packed(model, x)
        ]
    if not sources:
        return False
    dense = packed_decoder.decode_all(list(sources.values()))
    for buffer, values in zip(sources, dense):
        model.buffers[buffer].data = values.reshape(-1).view(np.uint8)
    if _is_code(model.operatorCodes[-1]):
        model.operatorCodes.pop()
    return True


def is_packed(model: schema.ModelT, operator: schema.OperatorT) -> bool:
    """Whether an operator gives packed weights."""
    return _is_code(model.operatorCodes[operator.opcodeIndex])


def _is_code(code: schema.OperatorCodeT) -> bool:
    return code.customCode == CUSTOM_CODE.encode()


def _packed_tensors(subgraph, operator):
    """The tensors of an operator: packed, and as it gives them."""
    try:
        (source,), (target,) = operator.inputs, operator.outputs
        return subgraph.tensors[source], subgraph.tensors[target]
    except (TypeError, ValueError, IndexError) as error:
        raise ValueError(
            "The .tflite file is corrupt: packed weights need one input and "
            "one output."
        ) from error
