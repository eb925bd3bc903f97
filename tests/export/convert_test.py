"""What the converter makes of each family and head, read from the file."""

import collections

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from tests.export import converted
from tf_pof.export import cleanup, convert, flatbuffer, graph, verify
from tf_pof.export.litert import LiteModel

INT8, INT32, FLOAT32 = (
    schema.TensorType.INT8,
    schema.TensorType.INT32,
    schema.TensorType.FLOAT32,
)
KINDS = list(converted.KINDS)


def operators(file, subgraph):
    """(name, input tensors, output tensors) of every operator."""
    for operator in subgraph.operators:
        yield (
            cleanup.operator_name(file, operator),
            [subgraph.tensors[i] if i >= 0 else None for i in operator.inputs],
            [subgraph.tensors[i] for i in operator.outputs],
        )


def values(file, tensor, dtype=np.int8):
    data = bytes(file.buffers[tensor.buffer].data)
    return np.frombuffer(data, dtype).reshape(tensor.shape)


@pytest.fixture(params=KINDS)
def made(request):
    return converted.make(request.param)


def test_every_dense_is_one_int8_fully_connected(made):
    file = flatbuffer.read(made.contents)
    for subgraph in file.subgraphs:
        found = [
            (inputs, outputs)
            for name, inputs, outputs in operators(file, subgraph)
            if name == "FULLY_CONNECTED"
        ]
        names = [inputs[1].name.decode() for inputs, _ in found]
        expected = {f"{name}/kernel" for name in made.kernels}
        if made.model.head == "span":
            expected -= {"pooler/kernel"}
        assert sorted(names) == sorted(expected)
        for (x, w, bias), (y,) in found:
            assert {x.type, w.type, y.type} == {INT8}
            assert (bias is None) == (
                w.name == b"layer_0_key/kernel" and made.model.head is None
            )
            if bias is not None:
                assert bias.type == INT32
                assert bias.name.decode() == w.name.decode().replace(
                    "kernel", "bias"
                )


def test_weights_are_the_grid_byte_by_byte_and_zeros_stay(made):
    file = flatbuffer.read(made.contents)
    for subgraph in file.subgraphs:
        for name, inputs, _ in operators(file, subgraph):
            if name != "FULLY_CONNECTED":
                continue
            tensor = inputs[1]
            layer = tensor.name.decode().partition("/")[0]
            kernel = made.kernels[layer]
            largest = np.abs(kernel).max(0)
            scales = np.where(largest == 0, 1, largest / np.float32(127))
            expected = np.rint(kernel / scales).astype(np.int8).T
            found = values(file, tensor)
            np.testing.assert_array_equal(found, expected)
            assert (found == 0).sum() >= (kernel == 0).sum() > 0
            some = largest > 0
            if layer.endswith("_output"):
                # A sum reads it: its channels have ranges of their own.
                ends = made.model.ranges()[f"{layer}_output_quantizer"]
                scales = scales / np.max(np.abs(ends), 0)
            np.testing.assert_allclose(
                tensor.quantization.scale[some], scales[some], rtol=1e-6
            )
            assert not np.any(tensor.quantization.zeroPoint)
            assert tensor.quantization.quantizedDimension == 0


def test_tables_are_int8_once(made):
    file = flatbuffer.read(made.contents)
    for subgraph in file.subgraphs:
        for layer in made.model.layers:
            if not layer.name.endswith("_embedding"):
                continue
            table = layer.embeddings.numpy()
            (tensor,) = [
                t
                for t in subgraph.tensors
                if t.name.decode() == f"{layer.name}/embeddings"
            ]
            scale = np.abs(table).max() / np.float32(127)
            np.testing.assert_array_equal(
                values(file, tensor), np.rint(table / scale).astype(np.int8)
            )


def test_only_builtin_operators_and_gelu_is_one(made):
    file = flatbuffer.read(made.contents)
    for subgraph in file.subgraphs:
        found = list(operators(file, subgraph))
        counts = collections.Counter(name for name, _, _ in found)
        layers = made.model.config.num_layers
        assert counts["GELU"] == layers == counts["SOFTMAX"]
        assert counts["BATCH_MATMUL"] == 2 * layers
        assert counts["RSQRT"] == 2 * layers + 1
        assert not counts.keys() & {"CUSTOM", graph.BARRIER, "ERF", "POW"}
        for name, inputs, outputs in found:
            # As in training: in float, whatever TFLite has an int8 kernel for.
            if name in ("SOFTMAX", "TANH", "BATCH_MATMUL", "RSQRT", "ADD"):
                assert {t.type for t in inputs + outputs} <= {FLOAT32}
            # Weights are not turned round at run time.
            if name == "TRANSPOSE":
                assert file.buffers[inputs[0].buffer].data is None


def test_inputs_and_outputs_have_the_models_names(made):
    file = flatbuffer.read(made.contents)
    expected = {
        "classifier": ["logits"],
        "span": ["end_logits", "start_logits"],
        None: ["pooled_output", "sequence_output"],
    }[made.model.head]
    for signature in file.signatureDefs:
        subgraph = file.subgraphs[signature.subgraphIndex]
        for entries, indices, kind, names in (
            (signature.inputs, subgraph.inputs, INT32, list(made.model.input)),
            (signature.outputs, subgraph.outputs, FLOAT32, expected),
        ):
            assert sorted(e.name.decode() for e in entries) == sorted(names)
            for i in indices:
                assert subgraph.tensors[i].type == kind
            for entry in entries:
                assert entry.tensorIndex in indices
                tensor = subgraph.tensors[entry.tensorIndex]
                assert tensor.name == entry.name


def test_signatures_share_all_weights():
    file = flatbuffer.read(converted.make("classifier").contents)
    assert [s.signatureKey for s in file.signatureDefs] == [b"seq_12", b"seq_8"]
    buffers = [
        {t.name: t.buffer for t in subgraph.tensors if b"/" in t.name}
        for subgraph in file.subgraphs
    ]
    weights = [n for n in buffers[0] if n.endswith((b"kernel", b"embeddings"))]
    # 2 layers of 6, pooler and classifier; 3 tables.
    assert len(weights) == 17
    for name in weights:
        assert buffers[0][name] == buffers[1][name]
    contents = [bytes(b.data) for b in file.buffers if b.data is not None]
    assert len(contents) == len(set(contents))


@pytest.mark.parametrize("kind,batch", [("classifier", -1), ("span", 2)])
def test_batch_is_dynamic_or_fixed(kind, batch):
    file = flatbuffer.read(converted.make(kind).contents)
    for subgraph in file.subgraphs:
        for i in subgraph.inputs:
            tensor = subgraph.tensors[i]
            shape = tensor.shape
            if batch < 0:
                shape = tensor.shapeSignature
            assert shape[0] == batch and shape[1] in (8, 12)


def test_litert_computes_what_the_model_does(made):
    """Within what int8 allows.

    TFLite rounds biases to int32 and takes sums in another order, so that
    about one level in a thousand is its neighbour; layer norm makes more of
    that in a few tokens, so that it is the mean that is small.
    """
    lite = LiteModel(made.contents)
    inputs = converted.inputs(made.model, batch=32, seq=12)
    found = lite(inputs)
    expected = made.model(inputs, training=False)
    for name, value in found.items():
        wanted = expected[name].numpy()
        assert value.shape == wanted.shape
        step = np.ptp(wanted) / 255
        apart = np.abs(value - wanted) / step
        assert apart.mean() < 0.6, name
        # The inputs matter: other examples are far away.
        assert np.abs(value - wanted[::-1]).mean() / step > 5


def test_a_layer_that_is_not_as_trained_is_named():
    made = converted.make("distilbert")
    model = made.model
    def refused(layer, change):
        file = flatbuffer.read(made.contents)
        for _, inputs, outputs in operators(file, file.subgraphs[0]):
            if len(inputs) > 1 and inputs[1] is not None:
                if inputs[1].name.decode() == f"{layer}/kernel":
                    change(file, inputs, outputs)
        with pytest.raises(ValueError, match=f"{layer} ") as error:
            verify.verify(file, model)
        return str(error.value)

    def weights(file, inputs, outputs):
        buffer = file.buffers[inputs[1].buffer]
        buffer.data = np.array(buffer.data)
        buffer.data[5] ^= 1

    def scale(file, inputs, outputs):
        grid = inputs[1].quantization
        grid.scale = np.array(grid.scale) * np.float32(1.01)

    def kind(file, inputs, outputs):
        outputs[0].type = FLOAT32

    def bias(file, inputs, outputs):
        inputs[2].type = FLOAT32

    verify.verify(flatbuffer.read(made.contents), model)
    assert "other weights" in refused("layer_0_query", weights)
    assert "other scales" in refused("classifier", scale)
    assert "not int8" in refused("layer_0_output", kind)
    assert "no int32 bias" in refused("pre_classifier", bias)


def test_an_operator_of_others_is_refused():
    made = converted.make("distilbert")
    file = flatbuffer.read(made.contents)
    for code in file.operatorCodes:
        if code.builtinCode == schema.BuiltinOperator.GELU:
            code.builtinCode = schema.BuiltinOperator.CUSTOM
            code.deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
            code.customCode = b"FlexErf"
    with pytest.raises(ValueError, match="layer_0_gelu.*none of TFLite's own"):
        verify.verify(file, made.model)


def test_what_the_converter_refuses_is_one_sentence(monkeypatch):
    class Converter:
        def convert(self):
            raise RuntimeError("no such thing\nat line 7")

    monkeypatch.setattr(convert, "_save", lambda *arguments: None)
    monkeypatch.setattr(
        convert.tf.lite.TFLiteConverter,
        "from_saved_model",
        lambda folder: Converter(),
    )
    with pytest.raises(ValueError, match="not take the model: no such thing$"):
        convert.convert(converted.make("distilbert").model)
