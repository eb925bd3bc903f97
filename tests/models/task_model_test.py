"""Labels by name or plain, lists or arrays, weighed or not, train alike."""

import numpy as np
import pytest
import tensorflow as tf

from tf_pof._keras import keras
from tf_pof.models import bert

LABELS = [0, 1, 1, 0, 1, 0]
WEIGHTS = {0: 0.25, 1: 3.0}


@pytest.fixture
def model(tiny):
    # Without dropout, so that two runs are one.
    built = tiny("classifier", dropout=0.0, attention_dropout=0.0)
    assert built.num_labels == 2
    return built


@pytest.fixture
def x():
    rng = np.random.default_rng(0)
    ids = rng.integers(1, 20, (6, 5), np.int32)
    return {
        "token_ids": ids,
        "segment_ids": np.zeros_like(ids),
        "padding_mask": np.ones_like(ids),
    }


def loss():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def trained(model, x, y, named=True, **kwargs):
    """The classifier's bias after a step from the same start."""
    before = model.get_weights()
    given = {"logits": loss()} if named else loss()
    model.compile(keras.optimizers.SGD(0.5), given, run_eagerly=True)
    model.fit(x, y, batch_size=6, verbose=0, shuffle=False, **kwargs)
    bias = model.get_layer("classifier").bias.numpy()
    model.set_weights(before)
    return bias


def expected(model, x, weights):
    """The same by hand: the mean over the batch of weighed gradients."""
    logits = keras.Model(model.input, model.output).predict(x, verbose=0)
    chance = tf.nn.softmax(logits["logits"]).numpy()
    gradient = (chance - np.eye(2)[LABELS]) * np.asarray(weights)[:, None]
    return model.get_layer("classifier").bias.numpy() - 0.5 * gradient.mean(0)


@pytest.mark.parametrize("form", [list, np.array, tf.constant])
@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("weighed", [True, False])
def test_labels_of_every_form_train_alike(model, x, form, named, weighed):
    y = {"logits": form(LABELS)} if named else form(LABELS)
    kwargs = {"class_weight": WEIGHTS} if weighed else {}
    weights = [WEIGHTS[i] if weighed else 1.0 for i in LABELS]
    want = expected(model, x, weights)
    assert np.abs(want - model.get_layer("classifier").bias).max() > 1e-3
    found = trained(model, x, y, **kwargs)
    np.testing.assert_allclose(found, want, rtol=1e-5)


@pytest.mark.parametrize("named", [True, False])
def test_data_sets_are_weighed_too(model, x, named):
    y = {"logits": LABELS} if named else LABELS
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(6)
    want = expected(model, x, [WEIGHTS[i] for i in LABELS])
    before = model.get_weights()
    model.compile(
        keras.optimizers.SGD(0.5), {"logits": loss()}, run_eagerly=True
    )
    model.fit(data, class_weight=WEIGHTS, verbose=0)
    found = model.get_layer("classifier").bias.numpy()
    model.set_weights(before)
    np.testing.assert_allclose(found, want, rtol=1e-5)


def test_sample_weights_multiply_those_of_classes(model, x):
    given = [1.0, 2.0, 0.0, 1.0, 0.5, 1.0]
    want = expected(model, x, [WEIGHTS[i] * g for i, g in zip(LABELS, given)])
    found = trained(
        model,
        x,
        {"logits": LABELS},
        class_weight=WEIGHTS,
        sample_weight={"logits": given},
    )
    np.testing.assert_allclose(found, want, rtol=1e-5)


def test_lists_validate_and_evaluate(model, x):
    model.compile("sgd", {"logits": loss()}, {"logits": ["accuracy"]})
    y = {"logits": LABELS}
    history = model.fit(x, y, validation_data=(x, y), verbose=0).history
    assert "val_loss" in history
    found = model.evaluate(x, y, verbose=0, return_dict=True)
    assert found["loss"] == pytest.approx(history["val_loss"][-1], rel=1e-5)


@pytest.mark.parametrize(
    "y, weights, sentence",
    [
        (LABELS, {0: 1.0}, "1 weights, and there is a label 1"),
        (LABELS, {0: 1.0, 2: 1.0}, r"each class from 0, not for \[0, 2\]"),
        (None, WEIGHTS, "needs labels beside the inputs"),
    ],
)
def test_weights_that_do_not_fit_are_named(model, x, y, weights, sentence):
    model.compile("sgd", {"logits": loss()})
    with pytest.raises(ValueError, match=sentence):
        model.fit(x, y, class_weight=weights, verbose=0)


def test_predict_gives_the_logits_alone(tiny, x):
    for head, names in {
        "classifier": {"logits"},
        "span": {"start_logits", "end_logits"},
    }.items():
        built = tiny(head)
        found = built.predict(x, verbose=0)
        assert found.keys() == names
        for name, value in built(x).items():
            if name in names:
                np.testing.assert_allclose(found[name], value, atol=1e-6)
    everything = keras.Model(built.input, built.output).predict(x, verbose=0)
    assert everything.keys() == built.output.keys() > names
    assert "sequence_output" in tiny(None).predict(x, verbose=0)


def test_models_stay_functional_ones(tiny, x):
    built = tiny("classifier")
    clone = keras.models.clone_model(built)
    clone.set_weights(built.get_weights())
    np.testing.assert_array_equal(
        clone(x)["logits"].numpy(), built(x)["logits"].numpy()
    )
    assert built._is_graph_network and isinstance(built, keras.Model)
    assert bert.build(built.config, "span").output.keys() >= {"end_logits"}
