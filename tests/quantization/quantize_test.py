"""What `tf_pof.quantize` makes of a model."""

import tf_pof

import numpy as np
import pytest

from tests.quantization import small


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


def test_a_folder_gives_the_same_outputs_and_float_weights(tmp_path):
    model = small.model()
    quantized = small.calibrated(model)
    tf_pof.save(quantized, tmp_path / "model")
    loaded = tf_pof.load(tmp_path / "model")
    assert isinstance(loaded, type(quantized))
    assert loaded.ranges() == quantized.ranges()
    x = small.inputs(seed=9)
    np.testing.assert_array_equal(loaded(x)["logits"], quantized(x)["logits"])
    for found, expected in zip(
        loaded.get_layer("pooler").get_weights(),
        model.get_layer("pooler").get_weights(),
    ):
        np.testing.assert_array_equal(found, expected)


def test_models_that_cannot_be_quantized_are_refused():
    from tf_pof.pruning.schedules import PruneOnceSchedule

    pruned = tf_pof.prune(small.model(), PruneOnceSchedule(0.0, 0.5, 0, 5, 8, 1))
    with pytest.raises(ValueError, match="pruned already.*tf_pof.strip"):
        tf_pof.quantize(pruned)
    quantized = tf_pof.quantize(small.model())
    with pytest.raises(ValueError, match="quantized already"):
        tf_pof.quantize(quantized)
