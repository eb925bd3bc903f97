"""Writes the seeds of the fuzz targets, tf_pof/runtime/cc/tests/corpus.

    python -m tests.runtime.seeds tf_pof/runtime/cc/tests/corpus

Of packed weights: a matrix in blocks of each kind. Of layers in files: one edit
of each kind. Of whole models: small exported ones, dense and packed, as
tests/fake_tflite.h reads them, with inputs and a second batch size.
"""

import pathlib
import struct
import sys

from ai_edge_litert import schema_py_generated as schema
import numpy as np

from tests.export import converted
from tests.export.packed_weights_test import BLOCKS
from tests.runtime import delegate_test
from tf_pof.export import flatbuffer
from tf_pof.export.encodings import packed_encoder

CODES = schema.BuiltinOperator
# TfLiteType by the schema's TensorType.
TYPES = {
    schema.TensorType.FLOAT32: 1,
    schema.TensorType.INT32: 2,
    schema.TensorType.UINT8: 3,
    schema.TensorType.INT64: 4,
    schema.TensorType.BOOL: 6,
    schema.TensorType.INT8: 9,
}
# What `builtin_data` holds, as tflite_abi.h has it: fields and their format.
PARAMS = {
    CODES.FULLY_CONNECTED: (
        "<ii?",
        ("fusedActivationFunction", "weightsFormat", "keepNumDims"),
    ),
    CODES.ADD: ("<i", ("fusedActivationFunction",)),
    CODES.SUB: ("<i", ("fusedActivationFunction",)),
    CODES.MUL: ("<i", ("fusedActivationFunction",)),
    CODES.MEAN: ("<?", ("keepDims",)),
    CODES.GATHER: ("<ii", ("axis", "batchDims")),
    CODES.SOFTMAX: ("<f", ("beta",)),
    CODES.BATCH_MATMUL: ("<??", ("adjX", "adjY")),
    CODES.GELU: ("<?", ("approximate",)),
    CODES.STRIDED_SLICE: (
        "<5i?",
        (
            "beginMask",
            "endMask",
            "ellipsisMask",
            "newAxisMask",
            "shrinkAxisMask",
            "offset",
        ),
    ),
}
CONSTANT, OUTPUT, ANY_BATCH = 1, 2, 4
SEALED = 64
SECOND_BATCH = 3
EDIT_KINDS = 12


def seed(contents: bytes, options: int = 0) -> bytes:
    """The first subgraph of a .tflite, with inputs.

    Args:
        contents: of the .tflite.
        options: bits of FakeHeader.
    """
    model = flatbuffer.read(contents)
    graph = model.subgraphs[0]
    pool = bytearray()

    def add(values):
        """Offset in the pool; equal bytes are there once."""
        values = np.ascontiguousarray(values).tobytes()
        at = pool.find(values)
        if at < 0 or at % 4:
            pool.extend(bytes(-len(pool) % 4))
            at = len(pool)
            pool.extend(values)
        return at

    inputs = _inputs(graph)
    tensors = b"".join(
        _tensor(model, graph, index, add, inputs)
        for index in range(len(graph.tensors))
    )
    nodes = b"".join(_node(model, operator) for operator in graph.operators)
    batch = SECOND_BATCH
    header = struct.pack(
        "<HHBB2x", len(graph.tensors), len(graph.operators), options, batch
    )
    return header + tensors + nodes + bytes(pool)


def _inputs(graph):
    """By tensor, values for the larger batch."""
    model = converted.make("classifier").model
    made = converted.inputs(model, SECOND_BATCH, 12)
    found = {}
    for index in graph.inputs:
        tensor = graph.tensors[index]
        name = tensor.name.decode()
        (key,) = [key for key in made if key in name]
        found[index] = made[key][:, : tensor.shape[1]]
    return found


def _tensor(model, graph, index, add, inputs):
    tensor = graph.tensors[index]
    data = model.buffers[tensor.buffer].data
    dims = [] if tensor.shape is None else list(tensor.shape)
    signature = tensor.shapeSignature
    flags = OUTPUT * (index in graph.outputs)
    flags |= CONSTANT * (data is not None)
    flags |= ANY_BATCH * (signature is not None and signature[0] == -1)
    quantization = tensor.quantization
    scales, zeros, axis = np.zeros(0), np.zeros(0), 0
    if quantization is not None and quantization.scale is not None:
        scales = np.asarray(quantization.scale)
        zeros = np.asarray(quantization.zeroPoint)
        axis = quantization.quantizedDimension
    values = inputs.get(index, np.zeros(0)) if data is None else data
    return struct.pack(
        "<BBBb6iHHIIIIB3x",
        TYPES[tensor.type],
        flags,
        len(dims),
        axis,
        *(dims + [0] * 6)[:6],
        len(scales),
        len(zeros),
        add(scales.astype(np.float32)),
        add(zeros.astype(np.int32)),
        add(values),
        values.nbytes,
        len(scales) > 0,
    )


def _node(model, operator):
    code = model.operatorCodes[operator.opcodeIndex]
    op = code.builtinCode
    params, kind = b"", 0
    if op in PARAMS:
        form, fields = PARAMS[op]
        options = operator.builtinOptions
        params = struct.pack(form, *(getattr(options, f) for f in fields))
        kind = 1
    if op == CODES.CUSTOM:
        kind = 2
    inputs = list(operator.inputs)
    return struct.pack(
        "<BBBB8h2h24s",
        op,
        len(inputs),
        len(operator.outputs),
        kind,
        *(inputs + [-1] * 8)[:8],
        *(list(operator.outputs) + [-1] * 2)[:2],
        params,
    )


def main(folder: str) -> None:
    """Writes all seeds into folders of a folder."""
    random = np.random.default_rng(0)
    for block in BLOCKS:
        shape = 24 // block[0], 32 // block[1]
        live = np.kron(random.random(shape) < 0.2, np.ones(block, np.int8))
        values = (random.integers(-9, 10, live.shape) * live).astype(np.int8)
        name = f"seed_{block[0]}x{block[1]}"
        path = pathlib.Path(folder, "packed_weights", name)
        path.write_bytes(packed_encoder.encode(values))
    for kind in range(EDIT_KINDS):
        # As tests/stored_fuzz.cc reads it: weights, kernel, an Edit.
        edit = struct.pack("<BBBBHIQ", kind, kind, kind, 1, 0, 40, 1 << 15)
        pathlib.Path(folder, "stored", f"seed_{kind}").write_bytes(edit)
    for kind in converted.KINDS:
        dense = delegate_test.sparse(kind)
        packed = delegate_test.pack(dense)
        for name, contents in (("dense", dense), ("packed", packed)):
            path = pathlib.Path(folder, "model", f"seed_{kind}_{name}")
            options = SEALED if name == "packed" else 0
            path.write_bytes(seed(contents, options))


if __name__ == "__main__":
    main(*sys.argv[1:])
