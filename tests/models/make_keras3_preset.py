"""Makes keras3_preset/: a tiny BertBackbone preset written by Keras 3.

Run once with TF_USE_LEGACY_KERAS=0, keras-nlp 0.12.1 and Keras 3.15:

    TF_USE_LEGACY_KERAS=0 python tests/models/make_keras3_preset.py

Besides the preset it keeps the backbone's own outputs, for comparison.
"""

import os

import keras
import keras_nlp
import numpy as np


def main():
    assert keras.__version__.startswith("3.")
    keras.utils.set_random_seed(0)
    backbone = keras_nlp.models.BertBackbone(
        vocabulary_size=40,
        num_layers=2,
        num_heads=2,
        hidden_dim=8,
        intermediate_dim=16,
        max_sequence_length=12,
    )
    rng = np.random.default_rng(0)
    # Biases and norms, too, must not be the same everywhere.
    backbone.set_weights(
        [rng.normal(0, 0.5, w.shape) for w in backbone.get_weights()]
    )
    folder = os.path.join(os.path.dirname(__file__), "keras3_preset")
    backbone.save_to_preset(folder)
    x = {
        "token_ids": rng.integers(0, 40, (3, 10)).astype("int32"),
        "segment_ids": rng.integers(0, 2, (3, 10)).astype("int32"),
        "padding_mask": np.array(
            [[1] * n + [0] * (10 - n) for n in (10, 7, 3)]
        ),
    }
    outputs = {k: np.array(v) for k, v in backbone(x).items()}
    np.savez_compressed(os.path.join(folder, "outputs.npz"), **x, **outputs)


if __name__ == "__main__":
    main()
