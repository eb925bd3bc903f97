"""The gate lets right files through, and says where wrong ones are wrong."""

import dataclasses
import types

import numpy as np
import pytest

from tests.export import exported
from tests.quantization import small
from tf_pof.export import convert, flatbuffer, layerwise, parity, reference
from tf_pof.tasks.features import Features


@pytest.fixture(scope="module")
def sst2():
    return exported.sst2()


@pytest.fixture(scope="module")
def report(sst2):
    return parity.check(sst2.model, sst2.contents, sst2.data)


def changed(contents, name, change, what="data"):
    """The file, without checksum, after `change` of a tensor's values."""
    model = flatbuffer.read(contents)
    tensors = [
        t for t in model.subgraphs[0].tensors if t.name.decode() == name
    ]
    assert len(tensors) == 1, name
    if what == "scale":
        grid = tensors[0].quantization
        grid.scale = change(np.array(grid.scale))
    else:
        buffer = model.buffers[tensors[0].buffer]
        values = np.frombuffer(bytes(buffer.data), what)
        buffer.data = change(values).astype(what).view(np.uint8)
    return flatbuffer.write(model)


def inputs_of(data):
    return data.features.inputs(np.arange(len(data.features)), exported.LENGTH)


def test_the_report_counts_what_litert_computes(sst2, report):
    inputs = inputs_of(sst2.data)
    found = exported.logits(sst2.contents, inputs)
    expected = sst2.model(inputs, training=False)["logits"].numpy()
    minimum, maximum = sst2.model.ranges()["classifier_output_quantizer"]
    step = (maximum - minimum) / 255
    told = report["outputs"]["logits"]
    assert told["step"] == pytest.approx(step, rel=1e-5)
    apart = np.abs(found - expected) / step
    assert told["max_steps"] == pytest.approx(apart.max(), abs=1.5)
    assert told["mean_steps"] == pytest.approx(apart.mean(), abs=0.2)
    assert told["mean_steps"] < 1
    cosine = np.vdot(found, expected) / np.sqrt(
        np.vdot(found, found) * np.vdot(expected, expected)
    )
    assert told["cosine"] == pytest.approx(cosine, abs=1e-4)
    assert report["examples"] == 48
    same = found.argmax(1) == expected.argmax(1)
    assert report["agreement"] == pytest.approx(same.mean(), abs=1 / 48)
    right = found.argmax(1) == sst2.data.examples.labels
    assert report["metrics"]["tflite"]["accuracy"] == pytest.approx(
        right.mean(), abs=1 / 48
    )


def test_every_dense_is_compared_and_one_step_off_at_most(sst2, report):
    names = {layer["layer"] for layer in report["layers"]["24"]}
    parts = "query key value attention_output intermediate output".split()
    assert names == {
        *(f"layer_{i}_{part}" for i in range(2) for part in parts),
        "pooler",
        "classifier",
    }
    assert all(d["own_max"] < 1.01 for d in report["layers"]["24"])
    first = report["layers"]["24"][0]
    assert first["input_mean"] < 0.01 and first["output_mean"] < 0.1


def _one(values):
    values = values.copy()
    values[3] += 60 if values[3] < 0 else -60
    return values


@pytest.mark.parametrize(
    "layer, tensor, what, change",
    [
        ("layer_1_output", "layer_1_output/kernel", "int8", np.negative),
        ("layer_0_query", "layer_0_query/kernel", "int8", _one),
        ("pooler", "pooler/kernel", "scale", lambda s: s * 1.3),
        ("classifier", "classifier/bias", "int32", lambda b: b + 9000),
        (
            "layer_0_intermediate",
            "layer_0_intermediate/bias",
            "int32",
            np.zeros_like,
        ),
    ],
)
def test_a_wrong_dense_is_named(sst2, layer, tensor, what, change):
    broken = changed(sst2.contents, tensor, change, what)
    with pytest.raises(
        ValueError,
        match=r"^The \.tflite does not compute what bert does: a layer is "
        rf"wrong, because {layer} makes of the same input something up to \d+ "
        r"quantization steps away\.$",
    ):
        parity.check(sst2.model, broken, sst2.data)


def test_what_is_wrong_between_layers_is_found_too(sst2):
    broken = changed(
        sst2.contents, "token_embedding/embeddings", np.negative, "int8"
    )
    with pytest.raises(
        ValueError,
        match=r"does: its logits are .* where .* would pass, because every "
        r"Dense is right by itself, but something before layer_0_\w+ is not",
    ):
        parity.check(sst2.model, broken, sst2.data)


def test_what_is_let_through_is_up_to_the_caller(sst2, report):
    exact = parity.Tolerance(own_steps=0.5)
    with pytest.raises(ValueError, match="a layer is wrong"):
        parity.check(sst2.model, sst2.contents, sst2.data, exact)
    told = dict(report, agreement=0.9, int32_biases_agreement=1.0)
    assert "90.0% of 48 examples" in parity._problem(
        told, sst2.data.task, parity.Tolerance()
    )
    lax = parity.Tolerance(agreement=0.8)
    assert parity._problem(told, sst2.data.task, lax) is None


def test_noise_is_what_int32_biases_do(sst2, report):
    def problem(**changes):
        return parity._problem(
            dict(report) | changes, sst2.data.task, parity.Tolerance()
        )

    def scores(*values):
        names = ("model", "int32_biases", "tflite")
        return {k: {"accuracy": v} for k, v in zip(names, values)}

    # Thrice a hundredth is more than two points, thrice nothing is not.
    assert problem(metrics=scores(0.5, 0.51, 0.475)) is None
    assert problem(metrics=scores(0.5, 0.5, 0.475)) == (
        "its accuracy on 48 examples is 0.4750 instead of 0.5000"
    )
    assert problem(agreement=0.9, int32_biases_agreement=0.95) is None
    assert "90.0% of 48" in problem(agreement=0.9, int32_biases_agreement=0.96)
    logits = report["outputs"]["logits"]
    for noise, passes in ((2.0, True), (1.9, False), (0.1, False)):
        told = dict(logits, mean_steps=5.9, int32_biases_mean_steps=noise)
        assert (problem(outputs={"logits": told}) is None) is passes


def test_logits_that_are_no_numbers_do_not_pass(sst2, report):
    told = dict(report)
    nan = dict(report["outputs"]["logits"], mean_steps=float("nan"))
    told["outputs"] = {"logits": nan}
    assert "nan quantization steps" in parity._problem(
        told, None, parity.Tolerance()
    )


def test_biases_are_rounded_to_steps_of_input_times_weight(sst2):
    dense = sst2.model.get_layer("layer_0_output")
    step = 0.03
    kernel = dense.kernel.numpy().astype(np.float64)
    scale = np.abs(kernel).max(0) / 127 * step
    expected = np.rint(dense.bias.numpy() / scale) * scale
    x = np.random.default_rng(0).normal(size=(5, 32)).astype(np.float32)
    rounded = reference.Int32Bias(dense, np.float32(step))
    np.testing.assert_allclose(
        rounded(x) - dense(x),
        np.tile(expected - dense.bias.numpy(), (5, 1)),
        atol=1e-6,
    )
    assert np.abs(expected - dense.bias.numpy()).max() > 1e-5


def test_scores_have_no_argmax_and_of_spans_the_worse_counts():
    regression = types.SimpleNamespace(head="classifier", num_labels=1)
    assert parity._agreement(regression, {}, {}) is None
    span = types.SimpleNamespace(head="span", num_labels=2)
    expected = {"start_logits": np.eye(4), "end_logits": np.eye(4)}
    found = dict(expected, end_logits=np.eye(4)[[0, 1, 2, 0]])
    assert parity._agreement(span, found, expected) == 0.75


def test_without_a_task_there_are_no_metrics(sst2):
    data = parity.sample_data(sst2.model, "model", exported.LENGTH, most=5)
    assert len(data.features) == 5
    assert data.features.lengths.max() <= exported.LENGTH
    told = parity.check(sst2.model, sst2.contents, data)
    assert told["metrics"] is None and told["agreement"] == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    "head, batch_size, outputs",
    [("span", 0, {"start_logits", "end_logits"}), (None, 2, {"logits"})],
)
def test_spans_and_encoders_are_compared_at_every_length(
    head, batch_size, outputs
):
    model = small.calibrated(small.model(head))
    contents = convert.convert(model, [8, 12], batch_size)
    features = Features.from_padded(small.inputs(), {})
    told = parity.check(model, contents, parity.Data(features))
    assert told["outputs"].keys() == outputs
    for output in told["outputs"].values():
        assert output["cosine"] > 0.99
    assert told["layers"].keys() == {"8", "12"}
    broken = changed(contents, "layer_0_value/bias", np.negative, "int32")
    with pytest.raises(ValueError, match="because layer_0_value makes of"):
        parity.check(model, broken, parity.Data(features))


def test_examples_longer_than_the_file_are_refused(sst2):
    ids = np.full(30, 7, np.int32)
    data = parity.Data(Features.pack([ids], [30], {}))
    with pytest.raises(ValueError, match="up to 30 tokens long.* takes 24"):
        parity.check(sst2.model, sst2.contents, data)


def test_a_file_of_another_model_is_told(sst2):
    def rename(name):
        return name.replace(b"layer_1_", b"layer_7_")

    model = flatbuffer.read(sst2.contents)
    for tensor in model.subgraphs[0].tensors:
        tensor.name = rename(tensor.name)
    with pytest.raises(ValueError, match="has other Dense layers"):
        layerwise.compare(
            sst2.model, flatbuffer.write(model), inputs_of(sst2.data)
        )


def test_the_layer_that_is_off_most_by_itself_is_to_blame():
    def layer(name, given, own):
        return layerwise.LayerDifference(name, given, given, 9, own)

    right = layer("a", 0.01, 1)
    assert layerwise.blame([right, layer("b", 3, 7), layer("c", 9, 4)], 1.5)[
        0
    ] == "b"
    # Of inputs it is growth that counts, not size.
    found = [right, layer("b", 4, 1), layer("c", 6, 1)]
    assert layerwise.blame(found, 1.5)[0] == "b"
    assert dataclasses.asdict(right)["own_max"] == 1
