"""Metrics of classification and regression, by scikit-learn and scipy.

Labels and predictions that do not vary have no correlation; it counts as 0
then, as an F1 without any true positive does.
"""

from collections.abc import Callable
import warnings

import numpy as np
from scipy import stats
from sklearn import metrics

Metric = Callable[[np.ndarray, np.ndarray], float]


def accuracy(labels: np.ndarray, predictions: np.ndarray) -> float:
    """Share of the classes [n] int that are right."""
    return float(metrics.accuracy_score(labels, predictions))


def f1(labels: np.ndarray, predictions: np.ndarray) -> float:
    """F1 of class 1 among classes [n] int."""
    # Of one class only: labels=[1] also takes what is not binary.
    return float(
        metrics.f1_score(
            labels, predictions, labels=[1], average="macro", zero_division=0.0
        )
    )


def macro_f1(labels: np.ndarray, predictions: np.ndarray) -> float:
    """Mean F1 of the classes that labels or predictions [n] int hold."""
    return float(
        metrics.f1_score(
            labels, predictions, average="macro", zero_division=0.0
        )
    )


def matthews(labels: np.ndarray, predictions: np.ndarray) -> float:
    """Matthews' correlation of classes [n] int."""
    if _is_constant(labels) or _is_constant(predictions):
        return 0.0
    return float(metrics.matthews_corrcoef(labels, predictions))


def pearson(labels: np.ndarray, predictions: np.ndarray) -> float:
    """Pearson's linear correlation of scores [n] float."""
    return _correlation(stats.pearsonr, labels, predictions)


def spearman(labels: np.ndarray, predictions: np.ndarray) -> float:
    """Spearman's rank correlation of scores [n] float."""
    return _correlation(stats.spearmanr, labels, predictions)


def _is_constant(values: np.ndarray) -> bool:
    return bool(np.all(values == values[0]))


def _correlation(function, labels, predictions) -> float:
    """A correlation of scipy's, in float64, 0 where it is not defined."""
    labels = np.asarray(labels, np.float64)
    predictions = np.asarray(predictions, np.float64)
    if _is_constant(labels) or _is_constant(predictions):
        return 0.0
    with warnings.catch_warnings():
        # Scores that hardly vary at all.
        warnings.simplefilter("ignore", stats.ConstantInputWarning)
        warnings.simplefilter("ignore", stats.NearConstantInputWarning)
        value = function(labels, predictions).statistic
    return float(value) if np.isfinite(value) else 0.0
