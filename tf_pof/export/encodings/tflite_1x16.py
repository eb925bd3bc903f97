"""The encoding "tflite_1x16": TFLite's own sparse tensors of 1 x 16 blocks.

Weights lose their all-zero blocks of one output and 16 inputs, and keep
`SparsityParameters` that say which. FULLY_CONNECTED has a kernel for them in
its version 8. ai-edge-litert 2.3 and tf.lite 2.21 compute such files right,
with and without XNNPACK, with one or several threads, for int8 inputs and
outputs; their kernel is slower than XNNPACK's for dense weights, so this
saves space and not time. Version 8 is what keeps XNNPACK, which would take
the weights for dense ones, away: sparse weights get an operator code of their
own, and all others stay with XNNPACK. Between float32 inputs and outputs
("hybrid") the kernel computes nonsense; such layers are never encoded.
"""

import copy

from ai_edge_litert import schema_py_generated as schema
import numpy as np

from tf_pof.export import flatbuffer
from tf_pof.export.encodings import weights

_BLOCK = 16
_VERSION = 8
# Fewer zeros are not worth the slower kernel.
_MAX_SHARE = 0.75
_INT8 = schema.TensorType.INT8
_VECTORS = (
    # The smallest that holds all values is taken.
    (schema.SparseIndexVector.Uint8Vector, schema.Uint8VectorT, np.uint8),
    (schema.SparseIndexVector.Uint16Vector, schema.Uint16VectorT, np.uint16),
    (schema.SparseIndexVector.Int32Vector, schema.Int32VectorT, np.int32),
)


def encode(contents: bytes) -> bytes:
    """Makes weights sparse of which a quarter of the blocks are zero.

    Args:
        contents: of a .tflite file with dense weights.

    Raises:
        ValueError: if this is no .tflite file, or no weights in it have
            enough blocks of zeros.
    """
    model = flatbuffer.read(contents)
    codes = {}
    fewest = 1.0
    for matrix in weights.find(model):
        if matrix.values.shape[1] % _BLOCK or not _is_int8(matrix.places):
            continue
        blocks = matrix.values.reshape(len(matrix.values), -1, _BLOCK)
        full = blocks.any(2)
        fewest = min(fewest, full.mean())
        if full.mean() > _MAX_SHARE:
            continue
        data = blocks[full].reshape(-1).view(np.uint8)
        model.buffers[matrix.buffer].data = data
        for subgraph, index in matrix.places:
            subgraph.tensors[index].sparsity = _sparsity(full)
            for operator in weights.readers(subgraph, index):
                operator.opcodeIndex = _sparse_code(
                    model, operator.opcodeIndex, codes
                )
    if not codes:
        raise ValueError(
            f"At most {1 - fewest:.0%} of the 1x16 blocks of any weights "
            "between int8 tensors are zero, and tflite_1x16 needs "
            f"{1 - _MAX_SHARE:.0%}: use the encoding dense or packed."
        )
    return flatbuffer.write(model, contents)


def _is_int8(places) -> bool:
    """Whether all that multiply by the weights have int8 in and out."""
    for subgraph, index in places:
        for operator in weights.readers(subgraph, index):
            inputs = subgraph.tensors[operator.inputs[0]]
            outputs = subgraph.tensors[operator.outputs[0]]
            if inputs.type != _INT8 or outputs.type != _INT8:
                return False
    return True


def _sparse_code(model, index, codes):
    """The operator code for sparse weights instead of that at `index`."""
    if index not in codes:
        code = copy.copy(model.operatorCodes[index])
        code.version = _VERSION
        model.operatorCodes.append(code)
        codes[index] = len(model.operatorCodes) - 1
    return codes[index]


def _sparsity(full: np.ndarray) -> schema.SparsityParametersT:
    """Compressed rows of blocks.

    Args:
        full: bool [out, in / 16].
    """
    dense, compressed = (
        schema.DimensionType.DENSE,
        schema.DimensionType.SPARSE_CSR,
    )
    rows = schema.DimensionMetadataT(format=dense, denseSize=len(full))
    columns = schema.DimensionMetadataT(format=compressed)
    ends = np.cumsum(full.sum(1))
    columns.arraySegmentsType, columns.arraySegments = _vector(
        np.concatenate([[0], ends])
    )
    columns.arrayIndicesType, columns.arrayIndices = _vector(
        np.nonzero(full)[1]
    )
    inside = schema.DimensionMetadataT(format=dense, denseSize=_BLOCK)
    return schema.SparsityParametersT(
        traversalOrder=[0, 1, 2],
        blockMap=[1],
        dimMetadata=[rows, columns, inside],
    )


def _vector(values: np.ndarray):
    for kind, vector, dtype in _VECTORS[:-1]:
        if values.max(initial=0) <= np.iinfo(dtype).max:
            break
    else:
        kind, vector, dtype = _VECTORS[-1]
    return kind, vector(values=values.astype(dtype))


def decode(model: schema.ModelT) -> None:
    """Makes sparse weights dense again, in place.

    Raises:
        ValueError: if they are not as `encode` writes them.
    """
    dense = {}
    for subgraph in model.subgraphs:
        for index, tensor in enumerate(subgraph.tensors):
            if tensor.sparsity is None:
                continue
            codes = [
                model.operatorCodes[x.opcodeIndex]
                for x in weights.readers(subgraph, index)
            ]
            if any(code.version != _VERSION for code in codes):
                raise ValueError(
                    f"{tensor.name.decode()} is sparse, but not multiplied by "
                    f"version {_VERSION} of the operator."
                )
            values = _expanded(tensor, model.buffers[tensor.buffer].data)
            # Subgraphs share blocks, but each has its own indices.
            if not np.array_equal(
                values, dense.setdefault(tensor.buffer, values)
            ):
                raise ValueError(
                    f"{tensor.name.decode()} is not the same in all subgraphs."
                )
            tensor.sparsity = None
    for buffer, values in dense.items():
        model.buffers[buffer].data = values.reshape(-1)


def _expanded(tensor, data) -> np.ndarray:
    """uint8 [out, in] of a sparse tensor."""
    sparsity, (out, inputs) = tensor.sparsity, tensor.shape
    try:
        rows, columns, inside = sparsity.dimMetadata
        segments = np.asarray(columns.arraySegments.values, np.int64)
        across = np.asarray(columns.arrayIndices.values, np.int64)
        down = np.repeat(np.arange(out), np.diff(segments))
        blocks = np.zeros((out, inputs // _BLOCK, _BLOCK), np.uint8)
        blocks[down, across] = data.reshape(-1, _BLOCK)
        right = (
            [rows.format, columns.format, inside.format] == [0, 1, 0]
            and list(sparsity.traversalOrder) == [0, 1, 2]
            and list(sparsity.blockMap) == [1]
            and (rows.denseSize, inside.denseSize) == (out, _BLOCK)
            and segments[0] == 0 <= across.min(initial=0)
            and (np.diff(down << 32 | across) > 0).all()
        )
    except (AttributeError, IndexError, TypeError, ValueError):
        right = False
    if not right:
        raise ValueError(
            f"The blocks of {tensor.name.decode()} are not as they should be."
        )
    return blocks.reshape(out, inputs)
