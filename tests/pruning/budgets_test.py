"""Budgets share a total out exactly."""

import math

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from tf_pof.pruning import budgets

SHAPES = st.lists(
    st.tuples(st.integers(1, 40), st.integers(1, 40)), min_size=1, max_size=8
)


def test_uniform_floors_every_tensor():
    assert budgets.uniform(0.9, [10, 9, 1, 1000]) == [9, 8, 0, 900]


def test_erdos_renyi_by_hand():
    # Odds (10+10)/100 = .2 and (40+10)/400 = .125. At s = .5 of 500 weights
    # 250 live: scale * (20 + 50) = 250, so 71.43 and 178.57 live, 28.57 and
    # 221.43 die; the larger remainder, .57, gets the missing zero.
    counts = budgets.erdos_renyi(0.5, [100, 400], [(10, 10), (40, 10)])
    assert counts == [29, 221]


def test_erdos_renyi_keeps_thin_tensors_dense():
    # Odds 1.1 (10 weights) and .02 (10,000). At s = .5, 5005 live: the thin
    # tensor's density would be 1.1 * 5005/211 > 1, so it stays dense.
    counts = budgets.erdos_renyi(0.5, [10, 10000], [(1, 10), (100, 100)])
    assert counts == [0, 5005]


def test_erk_counts_the_dimensions_of_a_convolution():
    # ER odds ignore the 3x3 window: 16/64 for both, so densities are equal.
    shapes, sizes = [(3, 3, 8, 8), (8, 8)], [576, 64]
    er = budgets.erdos_renyi(0.75, sizes, shapes)
    assert er == [432, 48]
    # ERK odds: 22/576 and 16/64. 160 live: scale * (22 + 16) = 160, so 92.6
    # and 67.4 > 64: the second is dense, the first keeps the other 96.
    erk = budgets.erdos_renyi(0.75, sizes, shapes, kernel=True)
    assert erk == [480, 0]


@hypothesis.given(SHAPES, st.integers(0, 999), st.booleans())
@hypothesis.settings(max_examples=200, deadline=None)
def test_erdos_renyi_total_is_exact(shapes, permille, kernel):
    sizes = [math.prod(shape) for shape in shapes]
    counts = budgets.erdos_renyi(permille / 1000, sizes, shapes, kernel)
    assert sum(counts) == permille * sum(sizes) // 1000
    assert all(0 <= c <= n for c, n in zip(counts, sizes))


def test_global_threshold_ranks_all_tensors_together():
    scores = [
        np.array([[5.0, 1.0], [4.0, 8.0]], np.float32),
        np.array([2.0, 3.0, 9.0], np.float32),
    ]
    live, threshold = budgets.keep_largest_jointly(scores, 4, ["a", "b"])
    assert live[0].tolist() == [[True, False], [False, True]]
    assert live[1].tolist() == [False, False, True]
    assert threshold == 4.0


def test_global_names_the_tensor_that_holds_nan():
    scores = [np.ones(3, np.float32), np.full(3, np.nan, np.float32)]
    with pytest.raises(ValueError, match="b holds NaN"):
        budgets.keep_largest_jointly(scores, 2, ["a", "b"])


def test_unknown_budget():
    with pytest.raises(ValueError, match="is no budget"):
        budgets.check("fair")
