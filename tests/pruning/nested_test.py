"""Encoders inside of models, models of other kinds, and what cannot be."""

import numpy as np
import pytest
import tensorflow as tf

import tf_pof
from tf_pof._keras import keras
from tf_pof.pruning import lock, schedules

NOW = schedules.PruneOnceSchedule(0.75, 0.75, 0, 0, 0, 1)


def functional(name="encoder"):
    inputs = keras.Input([8])
    x = keras.layers.Dense(8, "relu", name="e1")(inputs)
    return keras.Model(inputs, keras.layers.Dense(8, name="e2")(x), name=name)


def sequential():
    layers = [keras.layers.Dense(8, "relu", name="e1", input_shape=(8,))]
    layers.append(keras.layers.Dense(8, name="e2"))
    return keras.Sequential(layers, name="encoder")


def deep():
    inputs = keras.Input([8])
    return keras.Model(inputs, functional("inner")(inputs), name="encoder")


def siamese(encoder, output=True):
    """An encoder that is called twice, and a Dense outside."""
    sides = [keras.Input([8]), keras.Input([8])]
    x = keras.layers.Concatenate()([encoder(side) for side in sides])
    x = keras.layers.Dense(8, name="mix")(x)
    if output:
        x = keras.layers.Dense(2, name="out")(x)
    return keras.Model(sides, x, name="siamese")


def data():
    rng = np.random.default_rng(0)
    return list(rng.normal(size=(2, 4, 8)).astype(np.float32))


@pytest.mark.parametrize("make", [functional, sequential, deep])
def test_a_shared_encoder_is_pruned_once(make):
    model = siamese(make())
    pruned = tf_pof.prune(model, NOW)
    pruned.pruner.update(0)
    sparsity = pruned.pruner.sparsity()
    assert sparsity == {f"{n}/kernel": 0.75 for n in ("mix", "e1", "e2")}
    assert len(pruned.trainable_weights) == len(model.trainable_weights)
    # Both sides read the masked kernels: the same values, written into them.
    for layer in pruned.submodules:
        for kernel, mask, _ in getattr(layer, "pruning_vars", ()):
            kernel.assign(np.where(mask.numpy(), kernel.numpy(), 0))
    np.testing.assert_allclose(pruned(data()), model(data()), atol=1e-6)
    plain = tf_pof.strip(pruned)
    np.testing.assert_allclose(plain(data()), model(data()), atol=1e-6)


def test_a_shared_encoder_is_pruned_in_fit():
    pruned = tf_pof.prune(siamese(functional()), NOW)
    pruned.compile("adam", "mse")
    pruned.fit(data(), np.zeros([4, 2]), verbose=0)
    assert set(pruned.pruner.sparsity().values()) == {0.75}
    assert pruned.pruner.step == 1


@pytest.mark.parametrize("make", [functional, sequential, deep])
def test_a_shared_encoder_is_quantized_once(make):
    model = siamese(make())
    quantized = tf_pof.quantize(model)
    layers = quantized.quantization_state()["layers"]
    assert sorted(layers) == ["e1", "e2", "mix", "out"]
    assert len(quantized.trainable_weights) == len(model.trainable_weights)


@pytest.mark.parametrize("make", [functional, sequential, deep])
def test_a_shared_encoder_is_locked(make):
    pruned = tf_pof.prune(siamese(make()), NOW)
    pruned.pruner.update(0)
    model = tf_pof.lock(tf_pof.strip(pruned))
    names = {f"{n}/kernel" for n in ("mix", "e1", "e2")}
    assert set(lock.locked(model)) == names


def test_two_encoders_of_the_same_names_are_told_apart():
    sides = [keras.Input([8]), keras.Input([8])]
    parts = [functional("a")(sides[0]), functional("b")(sides[1])]
    x = keras.layers.Dense(2, name="out")(keras.layers.Add()(parts))
    pruned = tf_pof.prune(keras.Model(sides, x), NOW)
    assert set(pruned.pruner.sparsity()) == {
        "e1/kernel",
        "e2/kernel",
        "e1/kernel_1",
        "e2/kernel_1",
    }
    assert pruned.pruner.report()["size"] == 4 * 64


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__(name="encoder")
        self.dense = keras.layers.Dense(8, name="e1")

    def call(self, inputs):
        return self.dense(inputs)


class Holder(keras.layers.Layer):
    def __init__(self):
        super().__init__(name="encoder")
        self.dense = keras.layers.Dense(8, name="e1")

    def call(self, inputs):
        return self.dense(inputs)


def distributed():
    layer = keras.layers.TimeDistributed(functional(), name="encoder")
    return lambda x: keras.layers.Flatten()(layer(x[:, None]))


@pytest.mark.parametrize("change", ["prune", "quantize"])
@pytest.mark.parametrize(
    "make, what",
    [
        (Subclassed, "encoder, nested in siamese, is not a functional model"),
        (Holder, "encoder in siamese, of the class Holder, holds Dense"),
        (distributed, "of the class TimeDistributed, holds Dense"),
    ],
)
def test_an_encoder_that_cannot_be_taken_in_is_refused(make, what, change):
    model = siamese(make())
    with pytest.raises(ValueError, match=what):
        if change == "prune":
            tf_pof.prune(model, NOW)
        else:
            tf_pof.quantize(model)


def test_what_is_outside_can_be_chosen_by_name():
    pruned = tf_pof.prune(siamese(Holder()), NOW, prunable=["mix"])
    assert list(pruned.pruner.sparsity()) == ["mix/kernel"]
    quantized = tf_pof.quantize(siamese(Holder()), ["mix"])
    assert quantized.quantization_state()["layers"] == ["mix"]


def test_zeros_inside_a_layer_are_locked():
    holder = Holder()
    model = siamese(holder)
    kernel = holder.dense.kernel
    kernel.assign(np.where(np.arange(64).reshape(8, 8) % 2, kernel, 0))
    assert lock.locked(tf_pof.lock(model))["encoder/e1/kernel"]["zeros"] == 32


class FromKeras3:
    """Stands for a model of Keras 3, which need not be installed."""

    name = "theirs"


FromKeras3.__module__ = "keras.src.models.functional"


@pytest.mark.parametrize(
    "change",
    [lambda m: tf_pof.prune(m, NOW), tf_pof.quantize, tf_pof.lock],
)
def test_a_model_of_keras_3_is_called_that(change):
    with pytest.raises(ValueError, match="theirs is a Keras 3 model, but"):
        change(FromKeras3())
    with pytest.raises(ValueError, match="A model is needed, but it is 'bert'"):
        change("bert")


def test_a_quantized_model_is_not_pruned():
    quantized = tf_pof.quantize(functional())
    with pytest.raises(ValueError, match="prune before tf_pof.quantize"):
        tf_pof.prune(quantized, NOW)


def test_a_layer_without_weights_to_prune_is_named():
    inputs = keras.Input([8])
    x = keras.layers.Dense(8, name="d")(inputs)
    x = Holder()(x)
    model = keras.Model(inputs, x, name="m")
    with pytest.raises(ValueError, match="encoder is a Holder, which names no"):
        tf_pof.prune(model, NOW, prunable=["d", "encoder"])
    assert tf.is_tensor(model(np.ones([1, 8])))
