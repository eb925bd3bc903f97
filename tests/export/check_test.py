"""An encoded file that is not the dense one in other clothes is refused."""

import struct
import zlib

from ai_edge_litert import schema_py_generated as schema
import numpy as np
import pytest

from tests.export import lite_files
from tf_pof.export import encodings, flatbuffer
from tf_pof.export.encodings import packed_encoder

ENCODED = ["packed", "tflite_1x16"]


def matrix(out, inputs, density, seed=0):
    random = np.random.default_rng(seed)
    live = random.random((out, inputs // 16)) < density
    live = np.repeat(live, 16, axis=1)
    return (random.integers(1, 128, (out, inputs)) * live).astype(np.int8)


@pytest.fixture(scope="module")
def dense():
    return lite_files.make(
        [matrix(64, 96, 0.1), matrix(33, 96, 1.0), matrix(48, 96, 0.2)],
        tokens=(4, 8),
        table=matrix(200, 64, 0.05),
    )


def changed(contents, change):
    """The file after `change` of its model and its first subgraph."""
    model = flatbuffer.read(contents)
    change(model, model.subgraphs[0])
    return flatbuffer.write(model)


def refused(dense, encoded, why):
    with pytest.raises(
        ValueError, match=rf"^The encoded file .* model: {why}; .*dense\.$"
    ):
        encodings.check(dense, encoded)


@pytest.mark.parametrize("name", encodings.NAMES)
def test_encoded_files_pass(dense, name):
    encodings.check(dense, encodings.apply(name, dense))


def test_a_changed_byte_of_packed_weights_is_refused(dense):
    encoded = encodings.apply("packed", dense)
    start = encoded.index(b"TPW1")
    for at in (start, start + 9, start + 40, start + 80):
        broken = bytearray(encoded)
        broken[at] ^= 1
        refused(dense, bytes(broken), ".*(checksum|magic|corrupt).*")


def test_packed_weights_with_a_right_checksum_are_refused_too(dense):
    weights = matrix(64, 96, 0.1)
    at = tuple(np.argwhere(weights)[5])
    weights[at] = -weights[at]
    other = packed_encoder.encode(weights)

    def change(model, graph):
        buffers = [
            buffer
            for buffer in model.buffers
            if buffer.data is not None and bytes(buffer.data[:4]) == b"TPW1"
        ]
        buffers[0].data = np.frombuffer(other, np.uint8)
        (tensor,) = [
            t for t in graph.tensors if t.name == b"layer_0_query/kernel/packed"
        ]
        tensor.shape = [len(other)]

    refused(
        dense,
        changed(encodings.apply("packed", dense), change),
        "layer_0_query/kernel differs",
    )


def test_an_encoder_that_errs_is_caught(dense, monkeypatch):
    encode = packed_encoder.encode

    def wrong(weights):
        weights = weights.copy()
        weights[-1, -1] ^= 1
        return encode(weights)

    monkeypatch.setattr(packed_encoder, "encode", wrong)
    refused(dense, encodings.apply("packed", dense), "layer_0_query.* differs")


def test_bits_that_decode_to_something_else_are_refused(dense):
    """Any bit of the codes, with the checksum made to fit."""
    encoded = encodings.apply("packed", dense)
    start = encoded.index(b"TPW1")
    (size,) = [
        len(buffer.data)
        for buffer in flatbuffer.read(encoded).buffers
        if buffer.data is not None
        and bytes(buffer.data[:4]) == b"TPW1"
        and encoded.index(bytes(buffer.data)) == start
    ]
    for at in range(60, size - 16, 97):
        broken = bytearray(encoded)
        broken[start + at] ^= 16
        checksum = zlib.crc32(memoryview(broken)[start + 8 : start + size])
        struct.pack_into("<I", broken, start + 4, checksum)
        refused(dense, bytes(broken), ".*")


@pytest.mark.parametrize("name", ENCODED)
def test_values_beside_the_packed_ones_count_too(dense, name):
    encoded = encodings.apply(name, dense)

    def data_of(which):
        def change(model, graph):
            (tensor,) = [t for t in graph.tensors if t.name == which]
            data = model.buffers[tensor.buffer].data.copy()
            data[7] ^= 1
            model.buffers[tensor.buffer].data = data

        return changed(encoded, change)

    for which in (
        b"layer_1_query/kernel",
        b"layer_2_query/bias",
        b"token_embedding/embeddings",
    ):
        refused(dense, data_of(which), f"{which.decode()} differs")

    def scale(model, graph):
        grid = graph.tensors[1].quantization
        grid.scale = grid.scale * np.float32(1.001)

    refused(dense, changed(encoded, scale), "layer_0_query/kernel differs")


@pytest.mark.parametrize("name", ENCODED)
def test_operators_and_signatures_count_too(dense, name):
    encoded = encodings.apply(name, dense)

    def crossed(model, graph):
        multiply = [x for x in graph.operators if len(x.inputs) == 3]
        first, last = multiply[0], multiply[2]
        first.outputs, last.outputs = last.outputs, first.outputs

    def relu(model, graph):
        multiply = [x for x in graph.operators if len(x.inputs) == 3]
        multiply[1].builtinOptions.fusedActivationFunction = (
            schema.ActivationFunctionType.RELU
        )

    def named(model, graph):
        model.signatureDefs = [
            schema.SignatureDefT(
                inputs=[], outputs=[], signatureKey="other", subgraphIndex=1
            )
        ]

    refused(dense, changed(encoded, crossed), "it has other operators")
    refused(dense, changed(encoded, relu), "it has other operators")
    refused(dense, changed(encoded, named), "it has other signatures")


def _kernel(graph):
    return graph.tensors[graph.operators[0].inputs[1]]


def _swap_blocks(model, graph):
    data = model.buffers[_kernel(graph).buffer].data.reshape(-1, 16).copy()
    data[[0, 1]] = data[[1, 0]]
    model.buffers[_kernel(graph).buffer].data = data.reshape(-1)


def _move_block(model, graph):
    indices = _kernel(graph).sparsity.dimMetadata[1].arrayIndices
    indices.values = indices.values.copy()
    indices.values[-1] = 5 if indices.values[-1] < 5 else 4


def _move_row(model, graph):
    segments = _kernel(graph).sparsity.dimMetadata[1].arraySegments
    segments.values = segments.values.copy()
    row = int(np.flatnonzero(np.diff(segments.values))[0])
    segments.values[row + 1] -= 1


def _out_of_range(model, graph):
    indices = _kernel(graph).sparsity.dimMetadata[1].arrayIndices
    indices.values = indices.values.copy()
    indices.values[0] = 6


def _other_order(model, graph):
    _kernel(graph).sparsity.traversalOrder = [1, 0, 2]


def _lower_version(model, graph):
    model.operatorCodes[graph.operators[0].opcodeIndex].version = 4


@pytest.mark.parametrize(
    "change, why",
    [
        (_swap_blocks, "layer_0_query/kernel differs"),
        (_move_block, "layer_0_query/kernel is not the same in all subgraphs"),
        (_move_row, "layer_0_query/kernel is not the same|The blocks of .*"),
        (_out_of_range, "The blocks of layer_0_query/kernel are not as .*"),
        (_other_order, "The blocks of layer_0_query/kernel are not as .*"),
        (_lower_version, "layer_0_query/kernel is sparse, but .* version 8 .*"),
    ],
)
def test_blocks_in_other_places_are_refused(dense, change, why):
    encoded = encodings.apply("tflite_1x16", dense)
    refused(dense, changed(encoded, change), f"({why}).*")
