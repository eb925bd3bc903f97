"""Pruned models: what is wrapped, what they compute, how they are saved."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_model_optimization as tfmot
from tensorflow_model_optimization.python.core.sparsity.keras import (
    pruning_wrapper,
)

from tf_pof._keras import keras
from tf_pof.pruning import schedules, wrapper

RNG = np.random.default_rng(0)
NOW = schedules.PruneOnceSchedule(0.75, 0.75, 0, 0, 0, 1)


def dense_model(policy=None):
    inputs = keras.Input([8], name="x")
    x = keras.layers.Dense(16, "relu", name="first", dtype=policy)(inputs)
    x = keras.layers.Dense(16, "gelu", name="second", dtype=policy)(x)
    x = keras.layers.Dense(3, name="logits", dtype=policy)(x)
    return keras.Model(inputs, keras.layers.Softmax()(x), name="small")


def pruned(model, schedule=NOW, **kwargs):
    model = wrapper.prune(model, schedule, **kwargs)
    model.pruner.update(0)
    return model


def magnitude_mask(weights, zeros):
    order = np.argsort(np.abs(weights).reshape(-1), kind="stable")
    mask = np.ones(weights.size)
    mask[order[:zeros]] = 0
    return mask.reshape(weights.shape)


def randomise_biases(model):
    for weight in model.weights:
        if weight.shape.rank == 1:
            weight.assign(RNG.normal(size=weight.shape))


def test_forward_uses_masked_kernels_and_all_else():
    model = dense_model()
    randomise_biases(model)
    clone = pruned(model)
    x = RNG.normal(size=(5, 8)).astype(np.float32)
    k1, b1, k2, b2, k3, b3 = [w.numpy() for w in model.weights]
    h = np.maximum(x @ (k1 * magnitude_mask(k1, 96)) + b1, 0)
    h = h @ (k2 * magnitude_mask(k2, 192)) + b2
    h = tf.nn.gelu(h, approximate=False).numpy()
    expected = tf.nn.softmax(h @ k3 + b3).numpy()
    np.testing.assert_allclose(clone(x), expected, atol=1e-6)
    assert clone.pruner.sparsity() == {
        "first/kernel": 0.75,
        "second/kernel": 0.75,
    }


def test_variables_are_shared_and_hidden_values_live_on():
    model = dense_model()
    before = [w.numpy() for w in model.weights]
    clone = pruned(model)
    for weight, value in zip(model.weights, before):
        np.testing.assert_array_equal(weight.numpy(), value)
    kernel = model.get_layer("first").kernel
    assert clone.get_layer("prune_once_first").layer.kernel is kernel
    assert [id(w) for w in clone.trainable_weights] == [
        id(w) for w in model.trainable_weights
    ]


def test_gradients_of_pruned_weights_are_zero():
    clone = pruned(dense_model())
    x = tf.constant(RNG.normal(size=(5, 8)).astype(np.float32))
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(clone(x)[:, 0])
    kernel, mask, _ = clone.get_layer("prune_once_second").pruning_vars[0]
    gradient = tape.gradient(loss, kernel).numpy()
    assert not gradient[~mask.numpy()].any()
    assert gradient[mask.numpy()].any()


def test_nothing_is_left_in_place_of_the_kernel():
    clone = pruned(dense_model())
    layer = clone.get_layer("prune_once_first")
    for call in (clone, tf.function(clone), tf.function(clone.call)):
        call(tf.zeros([2, 8]))
        assert layer.layer.kernel is layer.pruning_vars[0][0]


def layer_cases():
    layers = keras.layers
    return [
        (layers.Conv1D(6, 3, name="l"), (9, 4), ["kernel"]),
        (layers.Conv2D(6, 3, name="l"), (5, 5, 4), ["kernel"]),
        (
            layers.LSTM(6, name="l"),
            (5, 4),
            ["lstm_cell/kernel", "lstm_cell/recurrent_kernel"],
        ),
        (
            layers.MultiHeadAttention(2, 4, name="l"),
            (5, 4),
            [f"{x}/kernel" for x in ("query", "key", "value")]
            + ["attention_output/kernel"],
        ),
        (type("Own", (layers.Dense,), {})(6, name="l"), (4,), ["kernel"]),
    ]


@pytest.mark.parametrize("case", range(5))
def test_other_layers_and_ranks_are_masked(case):
    layer, shape, names = layer_cases()[case]
    inputs = keras.Input(shape)
    calls = [inputs, inputs] if "Multi" in type(layer).__name__ else [inputs]
    model = keras.Model(inputs, layer(*calls))
    clone = pruned(model, prunable=["l"])
    sparsity = clone.pruner.sparsity()
    found = [name.split("/", 1)[1] for name in sparsity]
    # Keras numbers cells and projections (lstm_cell_3).
    assert [n.split("/")[-1] for n in found] == [
        n.split("/")[-1] for n in names
    ]
    assert set(sparsity.values()) == {0.75}
    x = RNG.normal(size=(2, *shape)).astype(np.float32)
    result = clone(x).numpy()
    dense = model(x).numpy()
    # The plain layer with the masks written into its kernels.
    for weight, mask, _ in clone.get_layer(index=1).pruning_vars:
        weight.assign(weight * mask.numpy())
    np.testing.assert_allclose(result, model(x), atol=1e-6)
    assert np.abs(result - dense).max() > 1e-3


def test_default_leaves_outputs_and_heads_alone():
    inputs = {"a": keras.Input([4]), "ids": keras.Input([1], dtype="int32")}
    embedded = keras.layers.Embedding(9, 4)(inputs["ids"])
    x = inputs["a"] + embedded[:, 0]
    x = keras.layers.Dense(4, name="body")(x)
    x = keras.layers.LayerNormalization()(x)
    x = keras.layers.Dense(4, name="mlm_dense")(x)
    out = keras.layers.Dense(2, name="last")(x)
    model = keras.Model(inputs, {"p": keras.layers.Softmax()(out)})
    assert list(wrapper.prune(model, NOW).pruner.sparsity()) == ["body/kernel"]


def test_bert_prunes_encoder_and_pooler_only():
    bert = pytest.importorskip("tf_pof.models.bert")
    config = pytest.importorskip("tf_pof.models.config").BertConfig(
        vocabulary_size=50,
        num_layers=2,
        num_heads=2,
        hidden_dim=8,
        intermediate_dim=16,
        max_sequence_length=16,
    )
    model = bert.build(config, head="pretraining")
    clone = pruned(model)
    assert set(clone.pruner.sparsity()) == {"pooler/kernel"} | {
        f"layer_{i}_{part}/kernel"
        for i in range(2)
        for part in (
            "query",
            "key",
            "value",
            "attention_output",
            "intermediate",
            "output",
        )
    }
    assert clone.config == config and clone.head == "pretraining"
    assert set(clone.output) == set(model.output)
    assert set(clone.input) == set(model.input)
    part = keras.Model(
        clone.input,
        {name: clone.output[name] for name in ("mlm_hidden", "nsp_logits")},
    )
    assert wrapper.Pruner(part).sparsity() == clone.pruner.sparsity()
    names = wrapper.strip(clone).get_config()["layers"]
    assert not any("prune" in layer["name"] for layer in names)


@pytest.mark.parametrize(
    "prunable, names",
    [
        ("^fir", ["first/kernel"]),
        (["second", "logits"], ["second/kernel", "logits/kernel"]),
        (
            lambda layer: layer.name in ("first", "logits"),
            ["first/kernel", "logits/kernel"],
        ),
    ],
)
def test_prunable_by_regex_names_or_predicate(prunable, names):
    clone = wrapper.prune(dense_model(), NOW, prunable=prunable)
    assert list(clone.pruner.sparsity()) == names


@pytest.mark.parametrize(
    "kwargs, sentence",
    [
        (dict(prunable="nothing"), "No layer of small matches 'nothing'"),
        (dict(prunable=["first", "frist"]), "no layer 'frist'"),
        (dict(prunable=lambda x: False), "is chosen by"),
        (dict(pattern="4to1"), "is no sparsity pattern"),
        (dict(budget="fair"), "is no budget"),
        (dict(saliency="luck"), "is no saliency"),
        (dict(pattern="1:8"), "needs 0.875"),
        (dict(pattern="2:4", budget="global"), "must be uniform"),
    ],
)
def test_wrong_arguments_are_named(kwargs, sentence):
    with pytest.raises(ValueError, match=sentence):
        wrapper.prune(dense_model(), NOW, **kwargs)


def test_pruning_twice_and_pruner_of_a_dense_model_are_errors():
    with pytest.raises(ValueError, match="small is pruned already"):
        wrapper.prune(pruned(dense_model()), NOW)
    with pytest.raises(ValueError, match="has no pruned layer"):
        wrapper.Pruner(dense_model())


def test_nested_structures_and_models_survive():
    inputs = {"a": keras.Input([4]), "b": keras.Input([4])}
    inner_in = keras.Input([4])
    inner = keras.Model(
        inner_in, keras.layers.Dense(4, name="deep")(inner_in), name="inner"
    )
    x = inner(inputs["a"] + inputs["b"])
    y = keras.layers.Dense(2, name="y")(x)
    model = keras.Model(inputs, {"h": [x], "z": (y, [x, y])})
    clone = pruned(model, prunable="deep")
    data = {"a": tf.ones([2, 4]), "b": tf.ones([2, 4])}
    outputs = clone(data)
    tf.nest.assert_same_structure(outputs, model(data))
    assert clone.pruner.sparsity() == {"deep/kernel": 0.75}
    plain = wrapper.strip(clone)
    tf.nest.map_structure(
        np.testing.assert_array_equal, outputs, plain(data)
    )
    assert pruning_wrapper.collect_prunable_layers(clone)


def test_sequential_models_work_and_subclassed_ones_say_why_not():
    model = keras.Sequential(
        [keras.layers.Dense(4, input_shape=(4,)), keras.layers.Dense(2)]
    )
    assert len(pruned(model).pruner.sparsity()) == 1

    class Own(keras.Model):
        pass

    with pytest.raises(ValueError, match="is not a functional model"):
        wrapper.prune(Own(), NOW)


def test_strip_copies_and_leaves_hidden_values():
    clone = pruned(dense_model())
    kernel = clone.get_layer("prune_once_first").pruning_vars[0][0]
    plain = wrapper.strip(clone)
    x = tf.constant(RNG.normal(size=(3, 8)).astype(np.float32))
    np.testing.assert_array_equal(plain(x), clone(x))
    assert np.count_nonzero(plain.get_layer("first").kernel) == 8 * 16 // 4
    assert np.count_nonzero(kernel) == 8 * 16
    assert not any(
        isinstance(layer, wrapper.PruneOnce) for layer in plain.layers
    )


def test_checkpoint_restores_masks_and_hidden_values(tmp_path):
    schedule = schedules.PruneOnceSchedule(0, 0.9, 0, 4, 8, 1)
    clone = wrapper.prune(dense_model(), schedule)
    clone.pruner.update(3)
    path = tf.train.Checkpoint(model=clone).write(str(tmp_path / "c"))
    other = wrapper.prune(dense_model(), schedule)
    tf.train.Checkpoint(model=other).read(path).assert_consumed()
    for a, b in zip(clone.weights, other.weights):
        np.testing.assert_array_equal(a.numpy(), b.numpy())
    assert other.pruner.report() == clone.pruner.report()
    masks = [w.numpy() for w in other.weights]
    other.pruner.update(3)
    for a, b in zip(masks, other.weights):
        np.testing.assert_array_equal(a, b.numpy())


@pytest.mark.parametrize("name", ["m.keras", "saved_model"])
def test_saved_models_compute_the_same(name, tmp_path):
    clone = pruned(dense_model(), pattern="1x4", keep_pruned_values=False)
    clone.save(tmp_path / name)
    loaded = keras.models.load_model(tmp_path / name)
    x = tf.constant(RNG.normal(size=(3, 8)).astype(np.float32))
    np.testing.assert_allclose(loaded(x), clone(x), atol=1e-6)
    if name == "m.keras":
        assert loaded.pruner.report() == clone.pruner.report()


def test_saved_model_without_keras_hides_what_is_hidden(tmp_path):
    clone = pruned(dense_model())
    tf.saved_model.save(clone, str(tmp_path))
    loaded = tf.saved_model.load(str(tmp_path))
    x = tf.constant(RNG.normal(size=(3, 8)).astype(np.float32))
    np.testing.assert_allclose(loaded(x), clone(x), atol=1e-6)


def test_weights_file_round_trip(tmp_path):
    clone = pruned(dense_model())
    clone.save_weights(tmp_path / "w.weights.h5")
    other = wrapper.prune(dense_model(), NOW)
    other.load_weights(tmp_path / "w.weights.h5")
    assert other.pruner.sparsity() == clone.pruner.sparsity()
    x = np.ones([1, 8])
    np.testing.assert_array_equal(other(x), clone(x))


def test_wrapper_has_the_precision_of_its_layer():
    clone = pruned(dense_model("mixed_bfloat16"))
    first = clone.get_layer("prune_once_first")
    assert first.compute_dtype == "bfloat16"
    assert first(np.ones([1, 8], np.float32)).dtype == tf.bfloat16
    kernel, mask, threshold = first.pruning_vars[0]
    assert kernel.numpy().dtype == np.float32
    assert mask.dtype == tf.bool and threshold.numpy().dtype == np.float32


def test_masks_equal_tfmots_own_without_ties():
    model = dense_model()
    stock = tfmot.sparsity.keras.prune_low_magnitude(
        model.get_layer("second"),
        tfmot.sparsity.keras.ConstantSparsity(0.75, 0, frequency=1),
    )
    stock.build([None, 16])
    stock.pruning_step.assign(1)
    stock.pruning_obj.conditional_mask_update()
    clone = pruned(model)
    mask = clone.get_layer("prune_once_second").pruning_vars[0][1]
    np.testing.assert_array_equal(
        stock.pruning_vars[0][1].numpy(), mask.numpy().astype(np.float32)
    )
