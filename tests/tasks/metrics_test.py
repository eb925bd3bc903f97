"""Metrics against tf_keras, numpy and arithmetic."""

import math
import warnings

from hypothesis import given, settings, strategies as st
import numpy as np
import pytest

from tf_pof._keras import keras
from tf_pof.tasks import metrics

ALL = [
    metrics.accuracy,
    metrics.f1,
    metrics.macro_f1,
    metrics.matthews,
    metrics.pearson,
    metrics.spearman,
]


@pytest.fixture(autouse=True)
def _no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def _pairs(values, least=1):
    return st.lists(st.tuples(values, values), min_size=least, max_size=40).map(
        lambda rows: tuple(np.array(side) for side in zip(*rows))
    )


def _keras(metric, labels, predictions):
    metric.update_state(labels, predictions)
    return float(metric.result())


def _f1_of(label, labels, predictions):
    """2 TP / (2 TP + FP + FN), the other way to write F1."""
    hits = np.sum((labels == label) & (predictions == label))
    wrong = np.sum((labels == label) != (predictions == label))
    return 2 * hits / (2 * hits + wrong) if hits else 0.0


def _ranks(values):
    """Ranks from 1; equal values share their mean rank."""
    return [
        np.sum(values < v) + (np.sum(values == v) + 1) / 2 for v in values
    ]


@settings(max_examples=25, deadline=None)
@given(_pairs(st.integers(0, 1)))
def test_binary_metrics_are_those_of_keras(pair):
    labels, predictions = pair
    right = _keras(keras.metrics.BinaryAccuracy(), labels, predictions)
    assert metrics.accuracy(labels, predictions) == pytest.approx(right)
    precision = _keras(keras.metrics.Precision(), labels, predictions)
    recall = _keras(keras.metrics.Recall(), labels, predictions)
    f1 = 2 * precision * recall / (precision + recall) if precision else 0
    assert metrics.f1(labels, predictions) == pytest.approx(f1)


@settings(deadline=None)
@given(_pairs(st.integers(0, 3)))
def test_macro_f1_is_the_mean_over_the_classes_met(pair):
    labels, predictions = pair
    expected = np.mean([_f1_of(c, *pair) for c in {*labels, *predictions}])
    assert metrics.macro_f1(labels, predictions) == pytest.approx(expected)
    # Class 1 alone, whatever others there are.
    assert metrics.f1(labels, predictions) == pytest.approx(_f1_of(1, *pair))
    assert metrics.accuracy(labels, predictions) == np.mean(
        labels == predictions
    )


@settings(deadline=None)
@given(_pairs(st.integers(0, 1)))
def test_matthews_is_the_correlation_of_0_and_1(pair):
    expected = 0.0
    if all(len(set(side)) == 2 for side in pair):
        expected = np.corrcoef(*pair)[0, 1]
    assert metrics.matthews(*pair) == pytest.approx(expected, abs=1e-12)


@settings(deadline=None)
@given(_pairs(st.integers(-8, 8).map(lambda i: i / 4)))
def test_correlations_are_those_of_values_and_of_ranks(pair):
    pearson = spearman = 0.0
    if all(len(set(side)) > 1 for side in pair):
        pearson = np.corrcoef(*pair)[0, 1]
        spearman = np.corrcoef(*map(_ranks, pair))[0, 1]
    pair = [side.astype(np.float32) for side in pair]
    assert metrics.pearson(*pair) == pytest.approx(pearson, abs=1e-9)
    assert metrics.spearman(*pair) == pytest.approx(spearman, abs=1e-9)


def test_a_worked_example():
    labels = np.array([1, 1, 1, 0, 0, 2])
    predictions = np.array([1, 1, 0, 0, 1, 0])
    assert metrics.accuracy(labels, predictions) == 3 / 6
    # Classes 0, 1, 2: F1 of 2/(2+2+1), 4/(4+1+1) and 0.
    assert metrics.f1(labels, predictions) == pytest.approx(2 / 3)
    assert metrics.macro_f1(labels, predictions) == pytest.approx(
        (2 / 5 + 2 / 3) / 3
    )
    scores = np.array([0.0, 1.0, 2.0, 3.0])
    cubes = scores**3
    # Means 1.5 and 9; 67 / sqrt(5 * 470): sums of products of deviations.
    assert metrics.pearson(scores, cubes) == pytest.approx(
        (0 + 1 + 16 + 81 - 4 * 1.5 * 9)
        / math.sqrt(5 * (0 + 1 + 64 + 729 - 4 * 81))
    )
    assert metrics.spearman(scores, cubes) == 1
    assert metrics.spearman(scores, -cubes) == -1


@pytest.mark.parametrize("metric", ALL[1:])
@pytest.mark.parametrize("other", [[0, 0, 0], [0, 2, 1]])
def test_constant_predictions_score_0_without_a_warning(metric, other):
    if metric is metrics.macro_f1:
        other = [1, 2, 1]
    labels, constant = np.array(other), np.zeros(3, int)
    if metric in ALL[3:]:
        assert metric(constant, labels) == 0.0
    assert metric(labels, constant) == 0.0
    assert isinstance(metric(labels, constant), float)


def test_scores_that_hardly_vary_give_no_warning():
    close = np.array([1.0, 1.0, 1.0 + 1e-15])
    for metric in (metrics.pearson, metrics.spearman):
        value = metric(np.array([1.0, 2.0, 3.0]), close)
        assert -1 <= value <= 1


@pytest.mark.parametrize("metric", ALL)
def test_one_example_is_enough(metric):
    expected = 1 if metric in ALL[:3] else 0
    assert metric(np.array([1]), np.array([1])) == expected
