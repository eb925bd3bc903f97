"""How much a weight matters: the scores that masks are selected by.

A saliency maps a tensor's values to non-negative float32 scores of the same
shape; the weights with the smallest scores are pruned.
"""

from collections.abc import Callable

import numpy as np


def magnitude(weights: np.ndarray) -> np.ndarray:
    """|w|, the paper's saliency."""
    return np.abs(weights)


SALIENCIES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "magnitude": magnitude,
}


def get(name: str) -> Callable[[np.ndarray], np.ndarray]:
    """Finds a saliency by name.

    Raises:
        ValueError: if there is none of that name.
    """
    if name not in SALIENCIES:
        raise ValueError(
            f"{name!r} is no saliency: use one of {sorted(SALIENCIES)}."
        )
    return SALIENCIES[name]
