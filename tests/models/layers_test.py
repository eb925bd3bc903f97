"""Statistics of dropout, and the layers' configs."""

import numpy as np
import pytest

from tf_pof._keras import keras
from tf_pof.models import layers

import tensorflow as tf


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("shape", [(501, 999), (1000, 500)])
def test_dropout_rate_scale_and_gradient(dtype, shape):
    layer = layers.Dropout(0.1, seed=3, dtype=dtype)
    x = tf.ones(shape, dtype)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x, training=True)
    gradient = tape.gradient(y, x)
    y = tf.cast(y, tf.float32).numpy()
    # Half a million draws: the standard deviation of the share is 4.2e-4.
    assert abs((y == 0).mean() - 0.1) < 5 * 4.3e-4
    np.testing.assert_allclose(np.unique(y), [0, 1 / 0.9], rtol=4e-3)
    np.testing.assert_array_equal(tf.cast(gradient, tf.float32), y)
    # Neighbours share one random word: they must be independent.
    dropped = (y == 0).ravel()[: y.size // 2 * 2].reshape(-1, 2)
    assert abs(dropped.all(1).mean() - 0.01) < 5 * 2.0e-4
    np.testing.assert_array_equal(layer(x, training=False), x)


def test_dropout_of_zero_is_the_identity():
    x = tf.random.normal((4, 5))
    np.testing.assert_array_equal(layers.Dropout(0.0)(x, training=True), x)


@pytest.mark.parametrize(
    "layer",
    [
        layers.Dropout(0.25),
        layers.TokenEmbedding(7, 4, output_bias=True),
        layers.PositionEmbedding(5, 4, embeddings_initializer="zeros"),
        layers.AttentionMask(),
        layers.AttentionScores(2),
        layers.AttentionContext(0.3),
        layers.FlattenTokens(),
        layers.UnflattenTokens(),
        layers.FirstToken(),
        layers.TakeLast(1),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_config_round_trip(layer):
    config = keras.saving.serialize_keras_object(layer)
    assert config["registered_name"].startswith("tf_pof>")
    again = keras.saving.deserialize_keras_object(config)
    assert type(again) is type(layer)
    assert again.get_config() == layer.get_config()


def test_token_embedding_reverse_is_the_transposed_table_plus_bias():
    layer = layers.TokenEmbedding(7, 4, output_bias=True)
    rows = layer(tf.constant([[1, 6]])).numpy()
    layer.output_bias.assign(np.arange(7.0))
    table = layer.embeddings.numpy()
    np.testing.assert_array_equal(rows[0], table[[1, 6]])
    np.testing.assert_allclose(
        layer(rows, reverse=True)[0],
        table[[1, 6]] @ table.T + np.arange(7.0),
        rtol=1e-5,
        atol=1e-6,
    )
