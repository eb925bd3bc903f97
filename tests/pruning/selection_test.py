"""Selection is exact, deterministic and safe."""

import decimal
import math

import hypothesis
import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import strategies as st

from tf_pof.pruning import selection


def by_sorting(weights, zeros):
    """The definition: a stable sort by magnitude, the first `zeros` die."""
    mask = np.ones(weights.size, bool)
    order = np.argsort(np.abs(weights).reshape(-1), kind="stable")
    mask[order[:zeros]] = False
    return mask.reshape(weights.shape)


@pytest.mark.parametrize(
    "sparsity, size, zeros",
    [
        (0.9, 1000, 900),
        (0.9, 10, 9),
        (0.29, 100, 29),
        (0.57, 100, 57),
        (0.99, 100, 99),
        (0.999, 1000, 999),
        (0.999, 999, 998),
        (0.9, 9, 8),
        (0.9, 1, 0),
        (0.0, 5, 0),
        (0.9, 30522 * 768, 21_096_806),
    ],
)
def test_number_of_zeros_by_decimal_arithmetic(sparsity, size, zeros):
    exact = math.floor(decimal.Decimal(str(sparsity)) * size)
    assert exact == zeros
    assert selection.num_pruned(sparsity, size) == zeros


@pytest.mark.parametrize("sparsity", [1.0, -0.1, float("nan"), 1.5])
def test_sparsity_out_of_range(sparsity):
    with pytest.raises(ValueError, match="must be in"):
        selection.num_pruned(sparsity, 10)


@pytest.mark.parametrize("sparsity", [0.0, 0.5, 0.9, 0.99, 0.999])
@pytest.mark.parametrize("shape", [(64, 48), (3, 5), (1, 1), (7, 3, 2)])
def test_equals_a_stable_sort(sparsity, shape):
    rng = np.random.default_rng(0)
    weights = rng.normal(size=shape).astype(np.float32)
    zeros = math.floor(decimal.Decimal(str(sparsity)) * weights.size)
    mask = selection.select(weights, sparsity)
    assert mask.dtype == bool
    np.testing.assert_array_equal(mask, by_sorting(weights, zeros))


@hypothesis.given(
    weights=hnp.arrays(
        np.float32,
        hnp.array_shapes(min_dims=2, max_dims=2, max_side=12),
        # Few values, so that most cases have ties at the threshold.
        elements=st.sampled_from([-1.0, -0.5, -0.0, 0.0, 0.5, 1.0, np.inf]),
    ),
    percent=st.integers(0, 99),
)
@hypothesis.settings(max_examples=200, deadline=None)
def test_ties_go_by_index(weights, percent):
    zeros = percent * weights.size // 100
    mask = selection.select(weights, percent / 100)
    assert mask.size - mask.sum() == zeros
    np.testing.assert_array_equal(mask, by_sorting(weights, zeros))


def test_input_is_not_changed():
    weights = np.array([[3.0, -1.0], [2.0, -4.0]], np.float32)
    before = weights.copy()
    mask = selection.select(weights, 0.5)
    np.testing.assert_array_equal(weights, before)
    assert mask.tolist() == [[True, False], [False, True]]


@pytest.mark.parametrize("sparsity", [0.0, 0.5])
@pytest.mark.parametrize("pattern", ["unstructured", "1x4", "2:4"])
def test_nan_is_an_error_that_names_the_tensor(sparsity, pattern):
    weights = np.ones((8, 8), np.float32)
    weights[3, 4] = np.nan
    with pytest.raises(ValueError, match="pooler/kernel holds NaN"):
        selection.select(weights, sparsity, pattern, "pooler/kernel")


def test_threshold_is_the_largest_pruned_score():
    scores = np.array([4.0, 1.0, 3.0, 2.0], np.float32)
    live, threshold = selection.keep_largest(scores, 2)
    assert live.tolist() == [True, False, True, False]
    assert threshold == 2.0
    assert selection.keep_largest(scores, 0)[1] == 0.0
    live, threshold = selection.keep_largest(scores, 4)
    assert not live.any() and threshold == 4.0
