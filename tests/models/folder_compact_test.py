"""Model folders in bfloat16 and xz, for shipping."""

import numpy as np
import pytest

import tf_pof  # noqa: F401  (legacy Keras before TensorFlow)
from tf_pof.models import folder, saving
from tf_pof.models import weights

import tensorflow as tf


def test_compact_folder_is_the_model_in_bfloat16(tmp_path, tiny):
    model = tiny("pretraining")
    saving.save(model, tmp_path / "m", compact=True)
    assert not (tmp_path / "m" / "model.safetensors").exists()
    again = folder.load(tmp_path / "m")
    for (path, a), (_, b) in zip(
        weights.effective(model), weights.effective(again)
    ):
        expected = tf.cast(tf.cast(a, tf.bfloat16), tf.float32)
        np.testing.assert_array_equal(b, expected, err_msg=path)


def test_corrupt_compact_folder_is_named(tmp_path, tiny):
    saving.save(tiny(), tmp_path / "m", compact=True)
    path = tmp_path / "m" / "model.safetensors.xz"
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(ValueError, match="model.safetensors.xz cannot be"):
        folder.load(tmp_path / "m")
