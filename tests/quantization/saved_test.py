"""Model folders of quantized models."""

import json
import logging

import tf_pof

import numpy as np
import pytest
from safetensors.numpy import load_file
import tensorflow as tf

from tests.quantization import small
from tf_pof._keras import keras
from tf_pof.models import folder
from tf_pof.quantization import QuantizedModel, saved


@pytest.fixture(scope="module")
def quantized():
    model = small.calibrated(small.model())
    model.labels = ("no", "maybe", "yes")
    return model


@pytest.fixture(scope="module")
def path(quantized, tmp_path_factory):
    return tf_pof.save(quantized, tmp_path_factory.mktemp("saved") / "model")


def test_a_folder_gives_the_same_outputs(quantized, path):
    loaded = tf_pof.load(path)
    assert isinstance(loaded, QuantizedModel)
    assert loaded.ranges() == quantized.ranges()
    assert (loaded.labels, loaded.head) == (quantized.labels, "classifier")
    assert loaded.new_weights == ()
    x = small.inputs(seed=9)
    for name, value in quantized(x).items():
        np.testing.assert_array_equal(loaded(x)[name], value)
    # And it may be saved again.
    state = loaded.quantization_state()
    assert state == quantized.quantization_state()


def test_stored_weights_are_the_float_ones(quantized, path):
    tensors = load_file(f"{path}/model.safetensors")
    stored = tensors["bert.pooler.dense.weight"].T
    kernel = quantized.get_layer("pooler").kernel.numpy()
    np.testing.assert_array_equal(stored, kernel)
    assert not any("quantizer" in name for name in tensors)
    assert len(np.unique(kernel[:, 0])) == 16
    plain = folder.load(path)
    assert not isinstance(plain, QuantizedModel)
    assert set(plain.quantization["ranges"]) == set(quantized.ranges())


def test_a_float_model_is_saved_without_ranges(path, tmp_path):
    tf_pof.save(folder.load(path), tmp_path / "plain")
    assert not (tmp_path / "plain/quantization.json").exists()
    loaded = tf_pof.load(tmp_path / "plain")
    assert not isinstance(loaded, QuantizedModel)
    assert loaded.quantization is None


@pytest.mark.parametrize(
    "head,num_labels",
    [("span", None), ("classifier", 2)],
)
def test_another_head_makes_it_a_float_model(head, num_labels, path):
    loaded = tf_pof.load(path, head, num_labels)
    assert not isinstance(loaded, QuantizedModel)
    assert loaded.head == head and loaded.quantization is None


def test_chosen_layers_alone_come_back(tmp_path):
    model = tf_pof.quantize(small.model("span"), r"^layer_0_|segment_embedding")
    model.set_ranges({name: (-3.0, 2.5) for name in model.ranges()})
    tf_pof.save(model, tmp_path / "model")
    loaded = tf_pof.load(tmp_path / "model")
    assert loaded.ranges() == model.ranges() and len(loaded.ranges()) == 10
    x = small.inputs()
    np.testing.assert_array_equal(
        loaded(x)["end_logits"], model(x)["end_logits"]
    )


@pytest.mark.parametrize(
    "change",
    [
        {"transformers_version": "4.57.0"},
        {"architectures": ["BertForQuestionAnswering"]},
        {"tf_pof": None},
    ],
)
def test_ranges_of_weights_that_others_have_written_are_not_used(
    change, quantized, tmp_path, caplog
):
    tf_pof.save(quantized, tmp_path / "model")
    file = tmp_path / "model/config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with caplog.at_level(logging.WARNING):
        loaded = tf_pof.load(tmp_path / "model")
    assert not isinstance(loaded, QuantizedModel)
    assert "quantization.json is not used" in caplog.text


@pytest.mark.parametrize(
    "change,what",
    [
        ({"version": "2"}, "version '2'"),
        ({"layers": "pooler"}, "wrong 'layers'"),
        ({"layers": [["pooler"]]}, "wrong 'layers.0'"),
        ({"ranges": []}, "wrong 'ranges'"),
        ({"ranges": {"a": [1e300, 2.0]}}, "wrong 'ranges.a.0"),
        ({"ranges": {"a": [1.0, 2.0, 3.0]}}, "wrong 'ranges.a'"),
        ({"version": 1}, "version 1.*reads 2: .*quantize it again"),
        ({"ranges": {}}, "does not fit.*no range 'layer_0_query_input"),
        ({"layers": ["poler"]}, "does not fit.*'poler'"),
        ({"ranges": {"a": 3}}, "does not fit"),
    ],
)
def test_a_folder_that_is_damaged_is_refused(change, what, quantized, tmp_path):
    path = tf_pof.save(quantized, tmp_path / "model")
    file = tmp_path / "model/quantization.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(ValueError, match=f"{path}: quantization.json.*{what}"):
        tf_pof.load(path)


def test_a_copy_in_float32_is_the_model_of_a_float32_policy(quantized):
    model = small.calibrated(small.model(dtype="mixed_bfloat16"))
    model.set_ranges(quantized.ranges())
    copy = saved.as_float32(model)
    x = small.inputs(seed=4)
    # `small.model` gives both the same weights.
    for name, value in quantized(x).items():
        np.testing.assert_array_equal(copy(x)[name], value)
    copy.get_layer("pooler").kernel.assign_add(np.ones((16, 16)))
    np.testing.assert_array_equal(
        model.get_layer("pooler").kernel, quantized.get_layer("pooler").kernel
    )


@pytest.mark.slow
def test_keras_own_formats_keep_outputs(quantized, tmp_path):
    x = small.inputs(seed=5)
    expected = quantized(x)["logits"]
    quantized.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert isinstance(again, QuantizedModel)
    np.testing.assert_array_equal(again(x)["logits"], expected)
    quantized.save_weights(tmp_path / "model.weights.h5")
    other = tf_pof.quantize(small.model(seed=9))
    other.load_weights(tmp_path / "model.weights.h5")
    np.testing.assert_array_equal(other(x)["logits"], expected)
    tf.saved_model.save(quantized, str(tmp_path / "saved"))
    again = tf.saved_model.load(str(tmp_path / "saved"))
    np.testing.assert_array_equal(again(x)["logits"], expected)
