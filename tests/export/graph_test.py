"""Models that cannot be exported are refused by name."""

import numpy as np
import pytest

import tf_pof
from tests.quantization import small
from tf_pof.export import graph


def refuse(model, match, lengths=(12,)):
    with pytest.raises(ValueError, match=match) as error:
        graph.inference_functions(model, lengths)
    assert "\n" not in str(error.value)


def ready(plain):
    """Quantized, with any ranges."""
    model = tf_pof.quantize(plain)
    model.set_ranges(dict.fromkeys(model.ranges(), (-4, 4)))
    return model


def test_lengths_must_ascend_and_fit():
    model = ready(small.model())
    refuse(model, "33 tokens is too long: bert has 32 positions", (8, 33))
    for lengths in ((), (0,), (8, 8), (12, 8)):
        refuse(model, "different positive numbers in ascending", lengths)


def test_a_model_without_ranges_says_what_to_do():
    refuse(tf_pof.quantize(small.model()), "layer_0_query_input_quantizer has")


def test_a_float_layer_is_named():
    refuse(small.model(), "token_embedding is not quantized.*--qat")
    partly = tf_pof.quantize(small.model(), r"query|_embedding")
    partly.set_ranges(dict.fromkeys(partly.ranges(), (-1, 1)))
    refuse(partly, "layer_0_key is not quantized")


def test_another_precision_is_named():
    model = tf_pof.quantize(small.model(dtype="mixed_bfloat16"))
    refuse(model, "bfloat16: load the model in float32")


def test_signatures_are_named_by_length():
    assert graph.signature_names([64]) == ["serving_default"]
    assert graph.signature_names([64, 128]) == ["seq_64", "seq_128"]


def test_outputs_of_heads():
    assert graph.output_names(small.model("pretraining")) == [
        "sequence_output",
        "pooled_output",
    ]
    assert graph.output_names(small.model(None, pooler=False)) == [
        "sequence_output"
    ]
    assert graph.output_names(small.model("classifier")) == ["logits"]


def test_nothing_of_the_model_is_changed():
    model = ready(small.model())
    inputs = small.inputs()
    before = model(inputs, training=False)["logits"].numpy()
    weights = model.get_weights()
    graph.inference_functions(model, [12])
    for old, new in zip(weights, model.get_weights()):
        np.testing.assert_array_equal(old, new)
    after = model(inputs, training=False)["logits"].numpy()
    np.testing.assert_array_equal(after, before)
