"""A Distiller takes losses and labels as its student's own fit does."""

import tf_pof  # noqa: F401  (legacy Keras before TensorFlow)

import numpy as np
import pytest

from tf_pof._keras import keras
from tf_pof.distillation import Distiller
from tf_pof.models import bert
from tf_pof.models.config import BertConfig

LABELS = [0, 1, 1, 0, 1, 1]
TINY = BertConfig(
    vocabulary_size=20,
    num_layers=1,
    num_heads=2,
    hidden_dim=8,
    intermediate_dim=16,
    max_sequence_length=8,
    dropout=0.0,
    attention_dropout=0.0,
)


def batch():
    ids = np.random.default_rng(0).integers(1, 20, (6, 5), np.int32)
    return {
        "token_ids": ids,
        "segment_ids": np.zeros_like(ids),
        "padding_mask": np.ones_like(ids),
    }


def trained(loss, y, **kwargs):
    """Metrics and the student's bias after one step."""
    models = []
    for seed in (1, 2):
        keras.utils.set_random_seed(seed)
        models.append(bert.build(TINY, "classifier"))
    student, teacher = models
    distiller = Distiller(student, teacher)
    metrics = ["accuracy"]
    if isinstance(loss, dict):
        metrics = {"logits": metrics}
    distiller.compile(keras.optimizers.SGD(0.5), loss, metrics)
    history = distiller.fit(batch(), y, batch_size=6, verbose=0, **kwargs)
    return history.history, student.get_layer("classifier").bias.numpy()


def loss():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


@pytest.mark.parametrize(
    "by_name, named_labels", [(True, True), (True, False), (False, True)]
)
@pytest.mark.parametrize("weighed", [True, False])
def test_names_change_nothing(by_name, named_labels, weighed):
    weights = {"class_weight": {0: 0.5, 1: 2.0}} if weighed else {}
    history, bias = trained(
        {"logits": loss()} if by_name else loss(),
        {"logits": LABELS} if named_labels else LABELS,
        **weights,
    )
    # Weights of samples in place of those of classes: Keras' own way.
    if weighed:
        weights = {"sample_weight": np.where(LABELS, 2.0, 0.5)}
    expected, expected_bias = trained(loss(), np.array(LABELS), **weights)
    assert history == expected and "accuracy" in history
    np.testing.assert_array_equal(bias, expected_bias)
    assert np.abs(bias).max() > 1e-3
