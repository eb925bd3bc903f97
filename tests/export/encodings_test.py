"""Encodings of a .tflite: what is exchanged, what runs and what is refused."""

import io
import zipfile

from ai_edge_litert import interpreter as litert
import numpy as np
import pytest

from tests.export import lite_files
from tf_pof.export import encodings, flatbuffer
from tf_pof.export.encodings import packed

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*tf.lite.Interpreter is deprecated"
)


def matrix(out, inputs, density, block=(1, 1), seed=0):
    random = np.random.default_rng(seed)
    live = random.random((out // block[0], inputs // block[1])) < density
    live = np.kron(live, np.ones(block, np.int8))
    return (random.integers(1, 128, (out, inputs)) * live).astype(np.int8)


def run(contents, library=litert, threads=1, xnnpack=True):
    """Inputs "x" and outputs "y0", "y1" .. of the first subgraph."""
    experimental = getattr(library, "experimental", library)
    kind = experimental.OpResolverType
    interpreter = library.Interpreter(
        model_content=contents,
        num_threads=threads,
        experimental_op_resolver_type=kind.AUTO
        if xnnpack
        else kind.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    interpreter.allocate_tensors()
    (entry,) = interpreter.get_input_details()
    x = np.random.default_rng(3).integers(-128, 128, entry["shape"], np.int8)
    interpreter.set_tensor(entry["index"], x)
    interpreter.invoke()
    outputs = interpreter.get_output_details()
    return x, [interpreter.get_tensor(entry["index"]) for entry in outputs]


def tensors(contents):
    """Shape, type and bytes of all tensors, by subgraph and name."""
    model = flatbuffer.read(contents)
    found = {}
    for i, subgraph in enumerate(model.subgraphs):
        for tensor in subgraph.tensors:
            data = model.buffers[tensor.buffer].data
            data = None if data is None else bytes(data)
            found[i, tensor.name] = list(tensor.shape), tensor.type, data
    return found


def libraries():
    import tensorflow as tf

    return [litert, tf.lite]


def test_unknown_encoding_is_refused():
    with pytest.raises(ValueError, match="'zip' is no encoding: use one of"):
        encodings.apply("zip", b"")


def test_dense_is_the_file_itself():
    contents = lite_files.make([matrix(8, 32, 0.1)])
    assert encodings.apply("dense", contents) == contents


@pytest.mark.parametrize("name", ["packed", "tflite_1x16"])
def test_what_is_no_tflite_file_is_refused(name):
    with pytest.raises(ValueError, match="no .tflite file"):
        encodings.apply(name, b"PK\3\4 something else")
    contents = lite_files.make([matrix(8, 32, 0.1)])
    with pytest.raises(ValueError, match="corrupt"):
        encodings.apply(name, contents[:100])


# packed


def test_unpacking_gives_every_tensor_back():
    contents = lite_files.make(
        [matrix(64, 96, 0.1), matrix(33, 96, 1.0), matrix(48, 96, 0.2)],
        tokens=(4, 8),
        table=matrix(200, 64, 0.05),
    )
    small = encodings.apply("packed", contents)
    assert len(small) < len(contents)
    assert tensors(packed.unpack(small)) == tensors(contents)
    # Nothing else differs either: operators, codes, quantization.
    assert packed.unpack(small) == contents
    assert packed.unpack(contents) == contents


def test_only_sparse_weights_are_packed_and_tables_are_not():
    contents = lite_files.make(
        [matrix(64, 96, 0.1), matrix(33, 96, 1.0)],
        table=matrix(200, 64, 0.05),
    )
    found = tensors(encodings.apply("packed", contents))
    assert [name for _, name in found if name.endswith(b"/packed")] == [
        b"layer_0_query/kernel/packed"
    ]
    for name in (b"layer_1_query/kernel", b"token_embedding/embeddings"):
        assert found[0, name] == tensors(contents)[0, name]
    assert found[0, b"layer_0_query/kernel"][2] is None


def test_weights_that_are_looked_up_too_stay_dense():
    contents = lite_files.make([matrix(64, 96, 0.1), matrix(48, 96, 0.1)])
    model = flatbuffer.read(contents)
    graph = model.subgraphs[0]
    kernel = graph.operators[0].inputs[1]
    graph.outputs.append(kernel)
    found = tensors(encodings.apply("packed", flatbuffer.write(model)))
    assert (0, b"layer_0_query/kernel/packed") not in found
    assert (0, b"layer_1_query/kernel/packed") in found


def test_subgraphs_share_packed_weights():
    contents = lite_files.make([matrix(64, 96, 0.1)], tokens=(4, 8, 16))
    model = flatbuffer.read(encodings.apply("packed", contents))
    buffers = {
        tensor.buffer
        for subgraph in model.subgraphs
        for tensor in subgraph.tensors
        if tensor.name.endswith(b"/packed")
    }
    assert len(buffers) == 1
    for subgraph in model.subgraphs:
        custom, multiply = subgraph.operators
        assert packed.is_packed(model, custom)
        assert list(custom.outputs) == [multiply.inputs[1]]


def test_packed_weights_are_computed_before_all_that_reads_them():
    contents = lite_files.make([matrix(64, 96, 0.1)] * 2)
    model = flatbuffer.read(encodings.apply("packed", contents))
    ready = set()
    for operator in model.subgraphs[0].operators:
        if packed.is_packed(model, operator):
            ready.update(operator.outputs)
        else:
            assert operator.inputs[1] in ready


@pytest.mark.parametrize("xnnpack", [True, False])
def test_stock_runtimes_refuse_packed_weights_and_say_what_to_do(xnnpack):
    contents = lite_files.make([matrix(64, 96, 0.1), matrix(32, 96, 1.0)])
    contents = encodings.apply("packed", contents)
    for library in libraries():
        with pytest.raises(RuntimeError, match="load the tf_pof delegate"):
            run(contents, library, xnnpack=xnnpack)


def test_packing_a_model_without_zeros_is_refused():
    contents = lite_files.make([matrix(64, 96, 1.0)])
    with pytest.raises(ValueError, match="No weights .* enough zeros"):
        encodings.apply("packed", contents)


def test_corrupt_packed_weights_are_found_by_unpacking():
    contents = encodings.apply("packed", lite_files.make([matrix(64, 96, 0.1)]))
    at = contents.index(b"TPW1")
    broken = bytearray(contents)
    broken[at + 60] ^= 4
    with pytest.raises(ValueError, match="checksum"):
        packed.unpack(bytes(broken))


def test_packed_weights_of_another_shape_are_refused():
    contents = encodings.apply("packed", lite_files.make([matrix(64, 96, 0.1)]))
    model = flatbuffer.read(contents)
    graph = model.subgraphs[0]
    graph.tensors[graph.operators[0].outputs[0]].shape = [96, 64]
    with pytest.raises(ValueError, match="another shape than their tensor"):
        packed.unpack(flatbuffer.write(model))
    graph.operators[0].inputs = [99]
    with pytest.raises(ValueError, match="one input and one output"):
        packed.unpack(flatbuffer.write(model))


def test_files_behind_the_flatbuffer_are_kept():
    file = io.BytesIO(lite_files.make([matrix(64, 96, 0.1)]))
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("vocab.txt", "[PAD]\n[UNK]\n")
    small = encodings.apply("packed", file.getvalue())
    for contents in (small, packed.unpack(small)):
        with zipfile.ZipFile(io.BytesIO(contents)) as archive:
            assert archive.read("vocab.txt") == b"[PAD]\n[UNK]\n"
            assert archive.testzip() is None
    run(packed.unpack(small))


def test_data_is_aligned_as_the_schema_demands():
    contents = lite_files.make([matrix(63, 97, 0.1), matrix(31, 97, 0.1)])
    for file in (contents, encodings.apply("packed", contents)):
        for buffer in flatbuffer.read(file).buffers:
            if buffer.data is not None:
                start = np.frombuffer(file, np.uint8).ctypes.data
                assert (buffer.data.ctypes.data - start) % 16 == 0


def test_zero_points_of_equal_length_are_stored_once():
    # 8 bytes for each output of each matrix otherwise.
    one = len(lite_files.make([matrix(512, 16, 1.0)]))
    both = [matrix(512, 16, 1.0), matrix(512, 16, 1.0, seed=1)]
    # Another matrix, its bias and its name; scales and biases are equal.
    assert len(lite_files.make(both)) - one < 512 * 16 + 1000


# tflite_1x16


@pytest.mark.parametrize("tokens", [1, 33])
def test_1x16_is_computed_right_by_stock_runtimes(tokens):
    weights = [
        matrix(65, 96, 0.2, (1, 16)),
        matrix(32, 96, 1.0),
        # More blocks than a byte counts, and rows without any.
        matrix(600, 96, 0.1, (1, 16)),
    ]
    contents = lite_files.make(weights, (tokens,))
    sparse = encodings.apply("tflite_1x16", contents)
    assert len(sparse) < len(contents)
    for library in libraries():
        for xnnpack in (True, False):
            for threads in (1, 2):
                x, outputs = run(sparse, library, threads, xnnpack)
                for w, y in zip(weights, outputs):
                    # Fixed-point scales round a tie differently.
                    expected = lite_files.multiply(x, w)
                    np.testing.assert_allclose(y, expected, atol=1)
                    assert (y == expected).mean() > 0.99


def test_only_weights_with_blocks_of_zeros_become_sparse():
    contents = lite_files.make(
        [
            matrix(64, 96, 0.1, (1, 16)),
            matrix(64, 96, 0.1),
            matrix(64, 96, 0.8, (1, 16)),
        ]
    )
    model = flatbuffer.read(encodings.apply("tflite_1x16", contents))
    graph = model.subgraphs[0]
    codes = [model.operatorCodes[x.opcodeIndex] for x in graph.operators]
    assert [code.version for code in codes] == [8, 4, 4]
    kernels = [graph.tensors[x.inputs[1]] for x in graph.operators]
    assert [x.sparsity is not None for x in kernels] == [True, False, False]
    data = model.buffers[kernels[0].buffer].data.view(np.int8)
    blocks = matrix(64, 96, 0.1, (1, 16)).reshape(-1, 16)
    np.testing.assert_array_equal(data.reshape(-1, 16), blocks[blocks.any(1)])


def test_1x16_is_refused_where_zeros_are_scattered():
    contents = lite_files.make([matrix(64, 96, 0.2)])
    with pytest.raises(ValueError, match="1x16 blocks of any weights"):
        encodings.apply("tflite_1x16", contents)


def test_1x16_is_refused_between_float_tensors():
    # TFLite's hybrid kernel takes sparse weights and computes nonsense.
    contents = lite_files.make([matrix(64, 96, 0.1, (1, 16))], hybrid=True)
    with pytest.raises(ValueError, match="between int8 tensors"):
        encodings.apply("tflite_1x16", contents)
