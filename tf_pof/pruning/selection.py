"""Exact selection of the smallest scores without sorting.

Masks are 1 (True) where a weight lives. The number of zeros is exact whatever
the ties: among equal scores the lower index (in the stored, row-major order)
is pruned first.
"""

import math

import numpy as np

from tf_pof.pruning.patterns import Pattern


def num_pruned(sparsity: float, size: int) -> int:
    """floor(sparsity * size), unharmed by binary fractions.

    0.29 * 100 is 28.999999999999996 in doubles; rounding to 6 decimals first
    makes it the 29 that the decimal numbers say.

    Raises:
        ValueError: if sparsity is not in [0, 1).
    """
    if not 0 <= sparsity < 1:
        raise ValueError(
            f"The sparsity is {sparsity}, but must be in [0, 1)."
        )
    return math.floor(round(sparsity * size, 6))


def reject_nan(scores: np.ndarray, name: str) -> None:
    """Raises ValueError if a score is NaN, which has no rank."""
    if scores.size and np.isnan(scores.max()):
        raise ValueError(
            f"{name} holds NaN, so its weights cannot be ranked: restore the "
            "last good checkpoint."
        )


def keep_largest(
    scores: np.ndarray, pruned: int, name: str = "scores"
) -> tuple[np.ndarray, float]:
    """Marks all but the `pruned` smallest scores.

    Args:
        scores: float32 array of any shape, not changed.
        pruned: number of False in the result, 0 <= pruned <= scores.size.
        name: what an error calls the tensor.

    Returns:
        (live, threshold): a bool array of the shape of `scores` with exactly
        `pruned` False, and the largest pruned score (0 if nothing is pruned).

    Raises:
        ValueError: if a score is NaN.
    """
    reject_nan(scores, name)
    if not pruned:
        return np.ones(scores.shape, bool), 0.0
    flat = scores.reshape(-1)
    # Selecting in place on a copy; numpy's partition is vectorized for
    # float32, a full sort of the same tensor is ten times slower.
    ranked = flat.copy()
    ranked.partition(pruned - 1)
    threshold = ranked[pruned - 1]
    live = flat > threshold
    surplus = live.size - np.count_nonzero(live) - pruned
    if surplus:
        ties = np.flatnonzero(flat == threshold)
        live[ties[ties.size - surplus :]] = True
    return live.reshape(scores.shape), float(threshold)


def select(
    weights: np.ndarray,
    sparsity: float,
    pattern: Pattern | str = "unstructured",
    name: str = "weights",
) -> np.ndarray:
    """The magnitude mask of one tensor.

    Args:
        weights: [in, out] float kernel (any rank if unstructured).
        sparsity: share of zeros, in [0, 1).
        pattern: a `Pattern` or its name.
        name: what an error calls the tensor.

    Returns:
        A bool mask of the same shape: floor(sparsity * n) False of n weights,
        or of n blocks; for n:m see `Pattern.group_zeros`.

    Raises:
        ValueError: if the weights hold NaN or do not suit the pattern.
    """
    pattern = Pattern.parse(pattern)
    scores = pattern.pool(np.abs(weights), name)
    if pattern.kind == "n:m":
        reject_nan(scores, name)
        live = pattern.keep_in_groups(scores, pattern.group_zeros(sparsity))
    else:
        live, _ = keep_largest(
            scores, num_pruned(sparsity, scores.size), name
        )
    return pattern.expand(live, weights.shape)
