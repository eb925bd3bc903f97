"""Sparsity patterns, named outputs x inputs.

Keras stores a Dense kernel as [in, out], so the pattern "4x1" (4 outputs x 1
input) is a block of 1 row x 4 columns of the stored kernel, and TFLite's
"1x16" a block of 16 rows x 1 column.
"""

import dataclasses
import math
import re

import numpy as np


@dataclasses.dataclass(frozen=True)
class Pattern:
    """Which weights live and die together.

    Attributes:
        kind: "unstructured", "block" or "n:m".
        rows: outputs of a block, R of "RxC".
        columns: inputs of a block, C of "RxC".
        n: most weights that live in a group, n of "n:m".
        m: consecutive inputs of one output in a group, m of "n:m".
    """

    kind: str = "unstructured"
    rows: int = 1
    columns: int = 1
    n: int = 0
    m: int = 0

    @classmethod
    def parse(cls, pattern: "Pattern | str") -> "Pattern":
        """Reads "unstructured", "RxC" (outputs x inputs) or "n:m".

        Raises:
            ValueError: if the name is none of these.
        """
        if isinstance(pattern, Pattern):
            return pattern
        if pattern in ("unstructured", "1x1"):
            return cls()
        if match := re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", str(pattern)):
            return cls("block", int(match[1]), int(match[2]))
        if match := re.fullmatch(r"([1-9]\d*):([1-9]\d*)", str(pattern)):
            n, m = int(match[1]), int(match[2])
            if n < m:
                return cls("n:m", n=n, m=m)
        raise ValueError(
            f"{pattern!r} is no sparsity pattern: use unstructured, RxC (R "
            "outputs x C inputs, such as 1x4) or n:m (n of m inputs live, n < "
            "m, such as 2:4)."
        )

    def __str__(self) -> str:
        if self.kind == "block":
            return f"{self.rows}x{self.columns}"
        if self.kind == "n:m":
            return f"{self.n}:{self.m}"
        return self.kind

    def check(self, shape: tuple[int, ...], name: str) -> None:
        """Raises ValueError if a tensor cannot have this pattern."""
        if self.kind != "unstructured" and len(shape) != 2:
            raise ValueError(
                f"{name} has shape {tuple(shape)}, but the pattern {self} "
                "needs a 2-D [in, out] kernel: prune it unstructured."
            )

    def pool(self, scores: np.ndarray, name: str = "weights") -> np.ndarray:
        """One score a unit: a weight or a block.

        Args:
            scores: [in, out] float32 scores of single weights, >= 0.
            name: what an error calls the tensor.

        Returns:
            [ceil(in / C), ceil(out / R)] means over the blocks, over the
            weights that exist where a block is cut by the tensor's edge;
            `scores` itself for other patterns.
        """
        self.check(scores.shape, name)
        if self.kind != "block":
            return scores
        inputs, outputs = scores.shape
        columns, rows = self.columns, self.rows
        for axis, size in ((0, columns), (1, rows)):
            if size > 1:
                scores = _sum_runs(scores, size, axis)
        area = np.multiply.outer(
            _run_lengths(inputs, columns), _run_lengths(outputs, rows)
        )
        return scores / area.astype(np.float32)

    def num_units(self, shape: tuple[int, ...]) -> int:
        """Weights or blocks that a tensor of this shape is pruned by."""
        if self.kind != "block":
            return math.prod(shape)
        return -(-shape[0] // self.columns) * -(-shape[1] // self.rows)

    def expand(
        self, live: np.ndarray, shape: tuple[int, ...]
    ) -> np.ndarray:
        """Spreads a bool a unit over the weights, the reverse of `pool`."""
        if self.kind != "block":
            return live
        live = np.repeat(live, self.columns, axis=0)[: shape[0]]
        return np.repeat(live, self.rows, axis=1)[:, : shape[1]]

    def group_zeros(self, sparsity: float) -> int:
        """Zeros in every full group of m inputs at a scheduled sparsity.

        n:m fixes the final sparsity itself (1 - n/m), so the schedule only
        says how soon: floor(sparsity * m) zeros, at most m - n. A ramp to 0.5
        or higher therefore takes 2:4 through 0, 1 and 2 zeros of 4.
        """
        return min(self.m - self.n, math.floor(round(sparsity * self.m, 6)))

    def keep_in_groups(self, scores: np.ndarray, zeros: int) -> np.ndarray:
        """Prunes the `zeros` smallest of every m consecutive inputs.

        The last group of a column may have only r < m inputs; m - zeros of
        them may live, so max(0, r - (m - zeros)) are pruned there.

        Args:
            scores: [in, out] float32 scores.
            zeros: zeros of a full group.

        Returns:
            [in, out] bool mask.
        """
        inputs, outputs = scores.shape
        groups = -(-inputs // self.m)
        # Missing inputs rank lowest: they use up zeros of the last group.
        padded = np.full((groups * self.m, outputs), -np.inf, np.float32)
        padded[:inputs] = scores
        padded = padded.reshape(groups, self.m, outputs)
        # A weight's rank is the number of weights that go before it: smaller
        # ones, and equal ones at a lower index (missing inputs come last in
        # index, but no present weight equals them). m is small, so m * m
        # comparisons of whole planes beat a sort along a strided axis.
        live = np.empty(padded.shape, bool)
        for i in range(self.m):
            rank = np.zeros((groups, outputs), np.int32)
            for j in range(self.m):
                if j < i:
                    rank += padded[:, j] <= padded[:, i]
                elif j > i:
                    rank += padded[:, j] < padded[:, i]
            live[:, i] = rank >= zeros
        return live.reshape(groups * self.m, outputs)[:inputs]


def _run_lengths(size: int, run: int) -> np.ndarray:
    """Lengths of the runs that `size` elements are cut into."""
    starts = np.arange(0, size, run)
    return np.minimum(starts + run, size) - starts


def _sum_runs(values: np.ndarray, run: int, axis: int) -> np.ndarray:
    """Sums runs of neighbours along an axis; the last may be shorter."""
    return np.add.reduceat(values, np.arange(0, values.shape[axis], run), axis)
