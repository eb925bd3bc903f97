"""Keras' own files of our models load in a process that imports tf_pof."""

import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import tensorflow as tf

import tf_pof
from tf_pof._keras import keras
from tf_pof.models import bert
from tf_pof.models.config import BertConfig
from tf_pof.pruning import lock
from tf_pof.quantization import Phase, calibrate

FORMATS = ("m.keras", "m.h5", "m")
X = {
    "token_ids": np.arange(16).reshape(2, 8),
    "segment_ids": np.arange(16).reshape(2, 8) % 2,
    "padding_mask": np.ones([2, 8], int),
}


def bert_of(head, activation="gelu_new"):
    keras.utils.set_random_seed(2)
    config = BertConfig(
        vocabulary_size=30,
        num_layers=1,
        num_heads=2,
        hidden_dim=8,
        intermediate_dim=16,
        max_sequence_length=16,
        activation=activation,
    )
    return bert.build(config, head)


def locked():
    model = bert_of("classifier")
    for layer in model.layers:
        if layer.name.startswith("layer_0") and hasattr(layer, "kernel"):
            kernel = layer.kernel.numpy()
            kernel[::2] = 0
            layer.kernel.assign(kernel)
    return tf_pof.lock(model)


def pruned():
    schedule = tf_pof.PruneOnceSchedule(0.75, 0.75, 0, 0, 0, 1)
    model = tf_pof.prune(bert_of("classifier"), schedule, pattern="4x1")
    model.pruner.update(0)
    model.pruner.step = 3
    return model


def quantized():
    model = calibrate(tf_pof.quantize(bert_of("classifier")), [X])
    model.phase = Phase.FROZEN
    return model


def siamese():
    """A pruned encoder, called twice."""
    encoder = bert_of(None)
    sides = [
        {k: keras.Input([8], dtype="int32", name=side + k) for k in X}
        for side in "ab"
    ]
    codes = [encoder(side)["pooled_output"] for side in sides]
    model = keras.Model(sides, keras.layers.Dot(1)(codes))
    schedule = tf_pof.PruneOnceSchedule(0.75, 0.75, 0, 0, 0, 1)
    model = tf_pof.prune(model, schedule)
    model.pruner.update(0)
    return model


MODELS = {
    "pretraining": lambda: bert_of("pretraining"),
    "span": lambda: bert_of("span", "gelu"),
    "locked": locked,
    "pruned": pruned,
    "quantized": quantized,
    "siamese": siamese,
}

LOAD = """
import sys
{imports}
import numpy as np
folder, *names = sys.argv[1:]
x = dict(np.load(f"{{folder}}/x.npz"))
for name in names:
    for file in ("m.keras", "m.h5", "m"):
        model = tf.keras.models.load_model(f"{{folder}}/{{name}}/{{file}}")
        outputs = tf.nest.flatten(model([x, x] if name == "siamese" else x))
        np.savez(
            f"{{folder}}/{{name}}/{{file}}.npz",
            *model.get_weights(),
            **{{f"output_{{i}}": v for i, v in enumerate(outputs)}},
        )
        print(name, file, type(model).__qualname__)
        if hasattr(model, "pruner"):
            print(model.pruner.step, model.pruner.report()["sparsity"])
"""


def run(imports, *args):
    script = textwrap.dedent(LOAD).format(imports=imports)
    result = subprocess.run(
        [sys.executable, "-c", script, *map(str, args)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    np.savez(folder / "x.npz", **X)
    for name, make in MODELS.items():
        model = make()
        (folder / name).mkdir()
        for file in FORMATS:
            model.save(folder / name / file)
        outputs = model([X, X] if name == "siamese" else X)
        np.savez(
            folder / name / "expected.npz",
            *model.get_weights(),
            **{
                f"output_{i}": v
                for i, v in enumerate(tf.nest.flatten(outputs))
            },
        )
    return folder


def test_import_of_tf_pof_is_enough(folder):
    imports = "import tf_pof, tensorflow as tf"
    printed = run(imports, folder, *MODELS)
    for name in MODELS:
        with np.load(folder / name / "expected.npz") as expected:
            for file in FORMATS:
                with np.load(folder / name / f"{file}.npz") as found:
                    assert found.files == expected.files, (name, file)
                    for key in expected.files:
                        np.testing.assert_allclose(
                            found[key],
                            expected[key],
                            atol=1e-6 if "output" in key else 0,
                            err_msg=f"{name} {file} {key}",
                        )
    for file in FORMATS:
        assert f"pruned {file} PrunedModel\n3 0.75" in printed
        assert f"siamese {file} PrunedModel\n0 0.75" in printed
        assert f"quantized {file} QuantizedModel" in printed


def test_keras_may_be_imported_first(folder):
    imports = "import os; os.environ['TF_USE_LEGACY_KERAS'] = '1'\n"
    imports += "import tensorflow as tf; tf.keras.layers; import tf_pof"
    assert "pruned m.h5 PrunedModel" in run(imports, folder, "pruned")


def test_import_of_tf_pof_imports_neither_tensorflow_nor_keras():
    script = "import sys, tf_pof; print({'tensorflow', 'keras', 'tf_keras'}"
    script += " & {*sys.modules})"
    result = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout == "set()\n"


def test_unknown_names_of_ours_are_unknown_to_keras():
    objects = keras.utils.get_custom_objects()
    assert "tf_pof>Nothing" not in objects
    assert objects.get("tf_pof>Nothing", 7) == 7
    with pytest.raises(KeyError):
        objects["tf_pof>Nothing"]
    assert "tf_pof>gelu_new" in {**objects}


@pytest.mark.parametrize("make", [pruned, quantized])
def test_a_model_from_json_is_of_its_class(make):
    model = make()
    again = keras.models.model_from_json(model.to_json())
    assert type(again) is type(model)
    again.set_weights(model.get_weights())
    for a, b in zip(tf.nest.flatten(model(X)), tf.nest.flatten(again(X))):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", ["q.weights.h5", "q.h5", "q"])
def test_weights_of_a_quantized_model_round_trip(name, tmp_path):
    model = quantized()
    model.save_weights(tmp_path / name)
    other = tf_pof.quantize(bert_of("classifier"))
    other.load_weights(tmp_path / name)
    assert other.phase is Phase.FROZEN
    assert other.ranges() == model.ranges()
    for a, b in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_locked_model_is_locked_again_after_loading(tmp_path):
    model = locked()
    model.save(tmp_path / "m.h5")
    other = tf_pof.lock(keras.models.load_model(tmp_path / "m.h5"))
    assert lock.locked(other) == lock.locked(model)
