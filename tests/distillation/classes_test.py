"""A teacher with its classes in another order is not learned from."""

import tf_pof  # noqa: F401  (legacy Keras before TensorFlow)

import pytest

from tf_pof._keras import keras
from tf_pof.distillation import Distiller


def _model(labels):
    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras.layers.Dense(3)(inputs))
    model.labels = labels
    return model


MNLI = ("entailment", "neutral", "contradiction")


@pytest.mark.parametrize(
    "labels", [MNLI[::-1], ("NEUTRAL", "entailment", "contradiction")]
)
def test_another_order_of_the_same_names_is_refused(labels):
    with pytest.raises(ValueError, match="in another order: exchange the col"):
        Distiller(_model(MNLI), _model(labels))


@pytest.mark.parametrize(
    "labels",
    [MNLI, ("Entailment", "Neutral", "Contradiction"), None, ("a", "b", "c")],
)
def test_the_same_order_or_other_names_are_not(labels):
    Distiller(_model(MNLI), _model(labels))
    Distiller(_model(labels), _model(MNLI))
    Distiller(_model(MNLI))
