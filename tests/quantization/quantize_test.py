"""What `tf_pof.quantize` makes of a model."""

import itertools

import tf_pof

import numpy as np
import pytest
import tensorflow as tf

from tests.quantization import small
from tf_pof._keras import keras
from tf_pof.models import bert
from tf_pof.pruning.schedules import PruneOnceSchedule
from tf_pof.quantization import calibrate, fake_quant
from tf_pof.quantization.layers import QuantizedDense, QuantizedEmbedding


def test_what_is_quantized_and_what_the_layers_are_called():
    model = small.model(num_layers=1)
    quantized = tf_pof.quantize(model)
    names = [layer.name for layer in quantized.layers]
    assert set(names) >= {layer.name for layer in model.layers}
    assert list(quantized.ranges()) == [
        # Query, key and value read one tensor.
        "layer_0_query_input_quantizer",
        "layer_0_query_output_quantizer",
        "layer_0_key_output_quantizer",
        "layer_0_value_output_quantizer",
        "layer_0_attention_output_input_quantizer",
        "layer_0_attention_output_output_quantizer",
        "layer_0_intermediate_input_quantizer",
        "layer_0_intermediate_output_quantizer",
        "layer_0_output_input_quantizer",
        "layer_0_output_output_quantizer",
        "pooler_input_quantizer",
        "pooler_output_quantizer",
        "classifier_input_quantizer",
        "classifier_output_quantizer",
    ]
    assert quantized.get_layer("pooler").kernel is (
        model.get_layer("pooler").kernel
    )
    kinds = {
        layer.name: type(layer).__name__
        for layer in quantized.layers
        if type(layer).__name__.startswith("Quantized")
    }
    assert len(kinds) == 8 + 3
    for name in ("token", "position", "segment"):
        assert kinds.pop(f"{name}_embedding") == "QuantizedEmbedding"
    assert set(kinds.values()) == {"QuantizedDense"}
    assert quantized.name == model.name
    assert (quantized.config, quantized.num_labels) == (model.config, 3)


def test_forward_pass_is_that_of_numpy():
    model = small.model(num_layers=2)
    quantized = small.calibrated(model)
    x = small.inputs(seed=9)
    found = quantized(x)["logits"].numpy()
    expected = small.forward(model, quantized.ranges(), x)
    # A value at the border of two levels may fall on either.
    np.testing.assert_allclose(found, expected, atol=0.02)
    assert np.median(np.abs(found - expected)) < 1e-5
    plain = model(x)["logits"].numpy()
    assert 1e-3 < np.abs(found - plain).max() < 0.2


def test_without_ranges_weights_alone_are_rounded():
    model = small.model()
    quantized = tf_pof.quantize(model)
    assert not any(np.any(ends) for ends in quantized.ranges().values())
    x = small.inputs()
    found = quantized(x)["logits"].numpy()
    for layer in quantized.layers:
        if isinstance(layer, (QuantizedDense, QuantizedEmbedding)):
            weight = layer.layer.weights[0]
            is_dense = isinstance(layer, QuantizedDense)
            weight.assign(small.round_weights(weight.numpy(), is_dense))
    np.testing.assert_allclose(found, model(x)["logits"], atol=1e-5)


@pytest.mark.parametrize(
    "family,head",
    [
        ("bert", "span"),
        ("distilbert", "classifier"),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in itertools.product(
                ("bert", "distilbert"), ("pretraining", None)
            )
        ),
        pytest.param("bert", "classifier", marks=pytest.mark.slow),
        pytest.param("distilbert", "span", marks=pytest.mark.slow),
    ],
)
def test_every_head_of_both_families(family, head):
    changes = {}
    if family == "distilbert":
        changes = {"num_segments": 0, "pooler": False}
    model = small.model(head, **changes)
    quantized = small.calibrated(model)
    x = small.inputs(segments=family == "bert")
    found, expected = quantized(x), model(x)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        error = np.std(found[name] - value)
        assert 0 < error < 0.25 * np.std(value), (name, error)
    named = [n for n in quantized.ranges() if "classifier" in n]
    wanted = ["classifier_input_quantizer", "classifier_output_quantizer"]
    if family == "distilbert":
        wanted = [f"pre_{name}" for name in wanted] + wanted
    assert named == (wanted if head == "classifier" else [])


def test_the_tied_decoder_reads_the_rounded_table():
    model = small.model("pretraining")
    quantized = tf_pof.quantize(model)
    layer = quantized.get_layer("token_embedding")
    table, bias = layer.get_weights()
    hidden = np.random.default_rng(0).normal(size=(5, 16)).astype(np.float32)
    expected = hidden @ small.round_weights(table, False).T + bias
    found = layer(hidden, reverse=True)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    rows = layer(np.arange(3))
    np.testing.assert_allclose(
        rows, small.round_weights(table, False)[:3], atol=1e-7
    )


def test_internals_of_a_quantized_model_can_be_distilled():
    quantized = tf_pof.quantize(small.model(num_layers=2))
    x = small.inputs()
    found = bert.with_internals(quantized)(x)
    assert len(found["hidden_states"]) == 3
    np.testing.assert_array_equal(found["logits"], quantized(x)["logits"])


def test_a_head_of_ones_own_gets_its_activation_after_the_rounding():
    encoder = small.model(None)
    hidden = keras.layers.Dense(6, "relu", name="hidden")(
        encoder.output["pooled_output"]
    )
    outputs = keras.layers.Dense(2, "sigmoid", name="topics")(hidden)
    model = keras.Model(encoder.input, outputs)
    quantized = tf_pof.quantize(model)
    calibrate(quantized, [(small.inputs(), None)])
    names = [layer.name for layer in quantized.layers]
    assert names[names.index("hidden") :] == [
        "hidden",
        "hidden_output_quantizer",
        "hidden_activation",
        "topics_input_quantizer",
        "topics",
        "topics_output_quantizer",
        "topics_activation",
    ]
    x = small.inputs()
    found, ranges = quantized(x).numpy(), quantized.ranges()
    assert 0 < np.abs(found - model(x)).max() < 0.02
    scale = np.subtract(*ranges["topics_output_quantizer"][::-1]) / 255
    levels = np.log(found / (1 - found)) / scale
    np.testing.assert_allclose(levels, np.rint(levels), atol=0.01)
    quantized.compile("adam", {"topics": "binary_crossentropy"})
    quantized.fit(x, np.ones((8, 2)), verbose=0)


def test_shared_and_nested_layers_and_structures_of_outputs():
    shared = keras.layers.Dense(4, name="shared")
    inner_input = keras.Input([4])
    inner = keras.Model(
        inner_input, keras.layers.Dense(4, name="deep")(inner_input), name="in"
    )
    a, b = keras.Input([4], name="a"), keras.Input([4], name="b")
    first, second = shared(a), shared(b)
    added = keras.layers.Add()([first, inner(second)])
    model = keras.Model([a, {"b": b}], {"x": [added], "y": (inner(a), first)})
    quantized = tf_pof.quantize(model)
    assert set(quantized.ranges()) == {
        "shared_input_quantizer",
        "shared_input_quantizer_1",
        "shared_output_quantizer",
        "shared_output_quantizer_1",
        "in/deep_input_quantizer",
        "in/deep_output_quantizer",
    }
    rng = np.random.default_rng(0)
    x = [rng.normal(size=(64, 4)), {"b": 9 * rng.normal(size=(64, 4))}]
    calibrate(quantized, [x])
    ranges = quantized.ranges()
    assert ranges["shared_input_quantizer"][1] == np.float32(x[0].max())
    assert ranges["shared_input_quantizer_1"][1] == np.float32(x[1]["b"].max())
    # The nested model is called twice, on one range.
    deep = ranges["in/deep_input_quantizer"]
    assert deep[1] >= max(x[0].max(), float(second_of(model, x).max()))
    found, expected = quantized(x), model(x)
    tf.nest.assert_same_structure(found, expected)
    for value, wanted in zip(tf.nest.flatten(found), tf.nest.flatten(expected)):
        assert 0 < np.std(value - wanted) < 0.2 * np.std(wanted)
    assert len(quantized.trainable_variables) == len(model.trainable_variables)


def second_of(model, x):
    kernel, bias = model.get_layer("shared").get_weights()
    return x[1]["b"] @ kernel + bias


@pytest.mark.parametrize(
    "jit_compile", [False, pytest.param(True, marks=pytest.mark.slow)]
)
def test_kernels_and_channels_of_zeros_stay_finite_and_zero(jit_compile):
    model = small.model()
    for name in ("layer_0_query", "layer_0_output", "classifier"):
        layer = model.get_layer(name)
        kernel, bias = layer.get_weights()
        kernel[:, 0] = 0
        if name == "layer_0_query":
            kernel[:], bias[:] = 0, 0
        layer.set_weights([kernel, bias])
    quantized = small.calibrated(model)
    assert quantized.ranges()["layer_0_query_output_quantizer"] == (0, 0)
    quantized.compile(
        "sgd",
        {"logits": keras.losses.SparseCategoricalCrossentropy(True)},
        jit_compile=jit_compile,
    )
    x = small.inputs()
    history = quantized.fit(x, {"logits": np.arange(8) % 3}, verbose=0)
    assert np.isfinite(history.history["loss"]).all()
    assert np.isfinite(quantized(x)["logits"]).all()
    for variable in quantized.variables:
        assert np.isfinite(variable.numpy()).all(), variable.name


def test_chosen_layers_alone_are_quantized():
    quantized = tf_pof.quantize(small.model(), "intermediate|token_embedding")
    assert list(quantized.ranges()) == [
        "layer_0_intermediate_input_quantizer",
        "layer_0_intermediate_output_quantizer",
    ]
    kinds = [type(layer) for layer in quantized.layers]
    assert kinds.count(QuantizedDense) == kinds.count(QuantizedEmbedding) == 1
    assert len(tf_pof.quantize(small.model(), ["pooler"]).ranges()) == 2


def pruned():
    schedule = PruneOnceSchedule(0.0, 0.5, 0, 5, 8, 1)
    return tf_pof.prune(small.model(), schedule)


def without_dense():
    inputs = keras.Input([3])
    outputs = keras.layers.Embedding(4, 2)(inputs)
    return keras.Model(inputs, keras.layers.LayerNormalization()(outputs))


class Subclassed(keras.Model):
    pass


@pytest.mark.parametrize(
    "make,layers,what",
    [
        (pruned, None, "pruned already.*tf_pof.strip"),
        (lambda: tf_pof.quantize(small.model()), None, "quantized already"),
        (without_dense, None, "no Dense layer to quantize"),
        (small.model, "token_embedding", "no Dense layer to quantize"),
        (small.model, "layer_norm", "no Dense layer to quantize"),
        (small.model, ["unflatten_tokens"], "UnflattenTokens, but only Dense"),
        (small.model, ["poler"], "no layer 'poler'.*`layers`"),
        (Subclassed, None, "not a functional model"),
    ],
)
def test_what_cannot_be_quantized_is_refused(make, layers, what):
    with pytest.raises(ValueError, match=what):
        tf_pof.quantize(make(), layers)


def summed_model():
    """x + d(x), and e(x) that no sum reads."""
    inputs = keras.Input([3])
    dense = keras.layers.Dense(3, name="d")(inputs)
    dense = keras.layers.Dropout(0.1)(dense)
    total = keras.layers.Add()([inputs, dense])
    return keras.Model(
        inputs, [total, keras.layers.Dense(3, name="e")(inputs)]
    )


def test_what_sums_read_has_a_symmetric_range_per_channel():
    quantized = tf_pof.quantize(summed_model())
    kernel = np.diag([1.0, 10.0, 100.0]).astype(np.float32)
    quantized.get_layer("d").kernel.assign(kernel)
    x = np.float32([[0.5, -1, 0.25], [-0.25, 0.75, 1]])
    calibrate(quantized, [x, x])
    ranges = quantized.ranges()
    assert all(isinstance(end, float) for end in ranges["e_output_quantizer"])
    np.testing.assert_array_equal(
        ranges["d_output_quantizer"], [[-0.25, -10, 0], [0.5, 7.5, 100]]
    )
    # The input is on 256 levels of [-1, 1], its channels on levels of d's.
    given = np.clip(np.rint(x * 127.5), -128, 127) / 127.5
    steps = np.float64([0.5, 10, 100]) / 127
    levels = np.clip(np.rint(given * [1, 10, 100] / steps), -128, 127)
    total = quantized(x)[0].numpy()
    np.testing.assert_allclose(total, x + levels * steps, rtol=1e-5)


def test_channels_that_were_never_seen_have_the_widest_range():
    found = fake_quant.channel_magnitudes(
        np.float32([-3, 0, -1]), np.float32([2, 0, 5])
    )
    np.testing.assert_array_equal(found, [3, 5, 5])


def test_one_range_may_stand_for_all_channels():
    quantized = tf_pof.quantize(summed_model())
    quantized.set_ranges(dict.fromkeys(quantized.ranges(), (-2, 1)))
    assert quantized.ranges()["d_output_quantizer"] == ((-2,) * 3, (1,) * 3)
    ranges = quantized.ranges() | {"d_output_quantizer": ([-1, -1], [1, 1])}
    with pytest.raises(ValueError, match=r"d_output_.*\(3,\); got .*\(2, 2\)"):
        quantized.set_ranges(ranges)


def test_nothing_to_calibrate_with_is_refused():
    with pytest.raises(ValueError, match="no batch to calibrate"):
        calibrate(tf_pof.quantize(small.model()), [])


@pytest.mark.parametrize(
    "change,what",
    [
        ({"d_input_quantizer": None}, "no range 'd_input_quantizer'"),
        ({"other": (-1, 1)}, "no quantizer 'other'"),
        ({"d_output_quantizer": (1, 2)}, "d_output_quantizer .*hold 0"),
    ],
)
def test_ranges_that_do_not_fit_are_refused_and_change_nothing(change, what):
    inputs = keras.Input([3])
    outputs = keras.layers.Dense(2, name="d")(inputs)
    quantized = tf_pof.quantize(keras.Model(inputs, outputs))
    quantized.set_ranges(
        {"d_input_quantizer": (-1, 2.5), "d_output_quantizer": (-0.5, 0)}
    )
    before = quantized.ranges()
    assert before["d_input_quantizer"] == (-1, 2.5)
    ranges = {k: v for k, v in (before | change).items() if v is not None}
    with pytest.raises(ValueError, match=what):
        quantized.set_ranges(ranges)
    assert quantized.ranges() == before
