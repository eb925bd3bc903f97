"""A locked BERT: which layers, distillation, files, further fine-tuning."""

import numpy as np
import pytest
import tensorflow as tf

import tf_pof
from tf_pof._keras import keras
from tf_pof.models.config import BertConfig
from tf_pof.pruning import lock
from tf_pof.training import optimizer as own


def sparse(shape, seed):
    """Random values, of which about 3 in 4 are zero."""
    rng = np.random.default_rng(seed)
    values = rng.normal(0, 0.5, shape).astype(np.float32)
    return np.where(rng.random(shape) < 0.75, np.float32(0), values)


def bert_of(head="classifier", seed=0):
    config = BertConfig(
        vocabulary_size=30,
        num_layers=1,
        num_heads=2,
        hidden_dim=8,
        intermediate_dim=16,
        max_sequence_length=6,
    )
    keras.utils.set_random_seed(seed)
    model = tf_pof.build(config, head)
    for i, layer in enumerate(bert_layers(model)):
        layer.kernel.assign(sparse(layer.kernel.shape, i))
    return model


def bert_layers(model):
    return [
        x
        for x in model.layers
        if x.name.startswith("layer_0_") and hasattr(x, "kernel")
    ] + [model.get_layer("pooler")]


def bert_kernels(model):
    return {x.name: x.kernel.numpy() for x in bert_layers(model)}


def assert_same_zeros(before, after):
    for name in before:
        np.testing.assert_array_equal(
            before[name] == 0, after[name] == 0, err_msg=name
        )
        assert (before[name] == 0).sum() > 30
        assert (before[name] != after[name]).any()


RNG = np.random.default_rng(5)
TOKENS = {
    "token_ids": RNG.integers(0, 30, (24, 6)).astype(np.int32),
    "segment_ids": np.zeros((24, 6), np.int32),
    "padding_mask": np.ones((24, 6), np.int32),
}
LABELS = RNG.integers(0, 2, 24).astype(np.int32)


def train(model, optimizer=None, **kwargs):
    distiller = tf_pof.Distiller(model, **kwargs)
    distiller.compile(
        optimizer or own.adamw(0.05),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    distiller.fit(TOKENS, LABELS, batch_size=8, verbose=0)
    return distiller


def test_the_prunable_layers_of_a_bert_are_locked_and_no_head():
    model = bert_of()
    head = model.get_layer("classifier").kernel
    head.assign(np.eye(8, 2))
    tf_pof.lock(model)
    assert list(lock.locked(model)) == [
        f"{name}/kernel" for name in bert_kernels(model)
    ]
    assert len(lock.locked(model)) == 7


def test_locked_weights_do_not_count_in_gradient_clipping():
    model = tf_pof.lock(bert_of())
    # Gradients that are clipped: one step of rate 1 is as long as the bound.
    sgd = keras.optimizers.SGD(1.0, global_clipnorm=0.01)
    before = model.get_weights()
    distiller = tf_pof.Distiller(model)
    distiller.compile(
        sgd, keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    distiller.train_on_batch(TOKENS, LABELS)
    moved = [a - b for a, b in zip(model.get_weights(), before)]
    length = np.sqrt(sum(np.sum(np.square(m)) for m in moved))
    np.testing.assert_allclose(length, 0.01, rtol=1e-3)


@pytest.mark.parametrize("micro_batch_size", [0, 3])
def test_zeros_stay_under_distillation_and_accumulation(micro_batch_size):
    model = tf_pof.lock(bert_of())
    before = bert_kernels(model)
    distiller = train(
        model, teacher=bert_of(seed=1), micro_batch_size=micro_batch_size
    )
    assert_same_zeros(before, bert_kernels(model))
    assert lock.locked(distiller) == lock.locked(model)


def test_zeros_last_through_saving_and_a_further_fine_tuning(tmp_path):
    model = tf_pof.lock(bert_of())
    before = bert_kernels(model)
    train(model)
    path = tf_pof.save(model, tmp_path / "first")
    again = tf_pof.load(path, head="span")
    assert_same_zeros(before, bert_kernels(again))
    assert lock.locked(again) == {}  # The lock is not saved.
    again = tf_pof.lock(tf_pof.load(path))
    assert lock.locked(again) == lock.locked(model)
    train(again)
    assert_same_zeros(before, bert_kernels(again))


def test_weights_files_and_checkpoints_are_those_of_an_unlocked_model(
    tmp_path,
):
    model = tf_pof.lock(bert_of())
    before = bert_kernels(model)
    distiller = train(model)
    model.save_weights(tmp_path / "m.weights.h5")
    checkpoint = tf.train.Checkpoint(
        model=model, optimizer=distiller.optimizer
    )
    prefix = checkpoint.write(str(tmp_path / "checkpoint"))

    plain = bert_of(seed=7)
    plain.load_weights(tmp_path / "m.weights.h5")
    assert_same_zeros(before, bert_kernels(tf_pof.lock(plain)))

    restored = tf_pof.lock(bert_of(seed=8))
    optimizer = own.adamw(0.05)
    optimizer.build(restored.trainable_variables)
    tf.train.Checkpoint(model=restored, optimizer=optimizer).read(
        prefix
    ).assert_consumed()
    lock.check(restored)
    # Goes on as the unbroken run does.
    train(restored, optimizer)
    train(model, distiller.optimizer)
    for name, kernel in bert_kernels(model).items():
        np.testing.assert_array_equal(bert_kernels(restored)[name], kernel)
    assert_same_zeros(before, bert_kernels(restored))
