"""How a sparsity is shared out among the tensors of a model.

uniform: every tensor has it. er, erk: thin tensors keep more, by their shape
alone. global: one threshold for all tensors. Whatever the budget, the total is
exact: the sum of floor(s * n_l) for uniform, floor(s * sum(n_l)) for others.
"""

import math
from collections.abc import Sequence

import numpy as np

from tf_pof.pruning import selection

BUDGETS = ("uniform", "global", "er", "erk")


def check(budget: str) -> None:
    """Raises ValueError if there is no budget of that name."""
    if budget not in BUDGETS:
        raise ValueError(
            f"{budget!r} is no budget: use one of {', '.join(BUDGETS)}."
        )


def uniform(sparsity: float, sizes: Sequence[int]) -> list[int]:
    """Pruned units of each tensor: floor(sparsity * size)."""
    return [selection.num_pruned(sparsity, size) for size in sizes]


def erdos_renyi(
    sparsity: float,
    sizes: Sequence[int],
    shapes: Sequence[tuple[int, ...]],
    kernel: bool = False,
) -> list[int]:
    """Pruned units of each tensor under Erdos-Renyi densities.

    A tensor's density is proportional to (n_in + n_out) / (n_in * n_out)
    (Mocanu et al. 2018); with `kernel`, to the sum of all its dimensions over
    their product, which differs for convolutions (ERK, Evci et al. 2020,
    "Rigging the Lottery"). Where that exceeds 1 the tensor stays dense and the
    others share the rest.

    Args:
        sparsity: share of zeros over all tensors, in [0, 1).
        sizes: units (weights or blocks) of each tensor.
        shapes: shape of each kernel, [..., in, out].
        kernel: count all dimensions instead of in and out only.

    Returns:
        Units to prune in each tensor; the sum is
        floor(sparsity * sum(sizes)) exactly.
    """
    dims = [shape if kernel else shape[-2:] for shape in shapes]
    odds = np.array([sum(dim) / math.prod(dim) for dim in dims])
    units = np.array(sizes, np.float64)
    total = selection.num_pruned(sparsity, sum(sizes))
    dense = np.zeros(len(sizes), bool)
    while True:
        live = units.sum() - total - units[dense].sum()
        scale = live / (odds * units)[~dense].sum() if not dense.all() else 0
        over = ~dense & (scale * odds > 1)
        if not over.any():
            break
        dense |= over
    exact = np.where(dense, 0, units * (1 - np.minimum(scale * odds, 1)))
    return _round_to_total(exact, total, np.where(dense, 0, sizes))


def _round_to_total(
    exact: np.ndarray, total: int, limits: np.ndarray
) -> list[int]:
    """Integers next to `exact` that sum to `total` (largest remainder)."""
    counts = np.minimum(np.floor(exact + 1e-9), limits).astype(np.int64)
    order = np.argsort(counts - exact, kind="stable")
    for index in order[: total - counts.sum()]:
        counts[index] += 1
    return counts.tolist()


def keep_largest_jointly(
    scores: Sequence[np.ndarray], pruned: int, names: Sequence[str]
) -> tuple[list[np.ndarray], float]:
    """The global budget: one threshold over all tensors.

    Args:
        scores: float32 scores of each tensor's units.
        pruned: number of units to prune in total.
        names: what an error calls the tensors.

    Returns:
        A bool array per tensor, `pruned` False in total, and the threshold.

    Raises:
        ValueError: if a tensor holds NaN.
    """
    for score, name in zip(scores, names):
        selection.reject_nan(score, name)
    joined = np.concatenate([score.reshape(-1) for score in scores])
    live, threshold = selection.keep_largest(joined, pruned)
    ends = np.cumsum([score.size for score in scores])[:-1]
    return [
        part.reshape(score.shape)
        for part, score in zip(np.split(live, ends), scores)
    ], threshold
