"""Token sequences of a task, packed, and the batches made of them."""

from collections.abc import Iterator, Sequence
import dataclasses
from typing import Any

import numpy as np

# Examples that are sorted by length together, in batches.
_WINDOW = 64


@dataclasses.dataclass(frozen=True)
class Features:
    """n token sequences, one after the other, and their targets.

    Attributes:
        token_ids: [total] int32; each sequence is [CLS] A [SEP] (B [SEP]).
        starts: [n + 1] int64; sequence i is token_ids[starts[i]:starts[i+1]].
        second_starts: [n] int32, where B begins within its sequence; its
            length if there is no B.
        targets: arrays [n], by the name of the logits they belong to:
            "logits" (int32 class or float32 score), or "start_logits" and
            "end_logits" (int32 position); empty if there are no labels.
        details: what the task needs besides to score the outputs.
    """

    token_ids: np.ndarray
    starts: np.ndarray
    second_starts: np.ndarray
    targets: dict[str, np.ndarray]
    details: Any = None

    def __len__(self) -> int:
        return len(self.second_starts)

    @property
    def lengths(self) -> np.ndarray:
        """[n] int64, tokens of each sequence."""
        return np.diff(self.starts)

    @classmethod
    def pack(
        cls,
        sequences: Sequence[np.ndarray],
        second_starts: Sequence[int],
        targets: dict[str, np.ndarray],
        details: Any = None,
    ) -> "Features":
        """Of n arrays of token ids."""
        starts = np.zeros(len(sequences) + 1, np.int64)
        np.cumsum([len(s) for s in sequences], out=starts[1:])
        token_ids = np.concatenate([np.zeros(0, np.int32), *sequences])
        return cls(
            token_ids.astype(np.int32),
            starts,
            np.asarray(second_starts, np.int32),
            targets,
            details,
        )

    @classmethod
    def from_padded(
        cls, encoded: dict[str, np.ndarray], targets: dict[str, np.ndarray]
    ) -> "Features":
        """Of the three arrays [n, seq] that `WordPiece.encode` returns."""
        lengths = encoded["padding_mask"].sum(1)
        starts = np.zeros(len(lengths) + 1, np.int64)
        np.cumsum(lengths, out=starts[1:])
        return cls(
            encoded["token_ids"][encoded["padding_mask"] != 0],
            starts,
            (lengths - encoded["segment_ids"].sum(1)).astype(np.int32),
            targets,
        )

    @classmethod
    def concatenate(cls, parts: Sequence["Features"]) -> "Features":
        """Of features that follow each other, without their details."""
        offsets = np.cumsum([0] + [part.starts[-1] for part in parts])
        starts = [
            part.starts[:-1] + offset for part, offset in zip(parts, offsets)
        ]
        return cls(
            np.concatenate([part.token_ids for part in parts]),
            np.concatenate([*starts, offsets[-1:]]),
            np.concatenate([part.second_starts for part in parts]),
            {
                name: np.concatenate([part.targets[name] for part in parts])
                for name in parts[0].targets
            },
        )

    def inputs(self, rows: np.ndarray, length: int) -> dict[str, np.ndarray]:
        """Padded inputs of some sequences.

        Args:
            rows: [b] indices.
            length: columns, at least the longest of the sequences.

        Returns:
            "token_ids", "segment_ids" and "padding_mask", [b, length] int32.
        """
        columns = np.arange(length)
        starts = self.starts[rows, None]
        # Not all the lengths: this runs for every batch.
        mask = columns < self.starts[rows + 1, None] - starts
        token_ids = np.zeros(mask.shape, np.int32)
        token_ids[mask] = self.token_ids[(starts + columns)[mask]]
        segments = (columns >= self.second_starts[rows, None]) & mask
        return {
            "token_ids": token_ids,
            "segment_ids": segments.astype(np.int32),
            "padding_mask": mask.astype(np.int32),
        }


def padded_length(longest: int, multiple: int, limit: int) -> int:
    """`longest` rounded up to a multiple, so that there are few shapes."""
    return min(-(-longest // multiple) * multiple, max(limit, longest))


def epoch_batches(
    lengths: np.ndarray, batch_size: int, seed: int, epoch: int, grouped: bool
) -> list[np.ndarray]:
    """Rows of the batches of an epoch, each of `batch_size`.

    The order is drawn from seed and epoch. The last batch is filled up with
    the first rows of the epoch's order, so that all have one size.

    Args:
        lengths: [n] tokens of each sequence.
        batch_size: examples.
        seed, epoch: of the draw.
        grouped: whether sequences of similar length go into one batch: rows
            are sorted by length within windows of 64 batches, and the order
            of the batches is drawn again.
    """
    draw = np.random.default_rng((seed, epoch))
    order = draw.permutation(len(lengths))
    total = -(-len(order) // batch_size) * batch_size
    order = np.resize(order, total)
    if grouped:
        size = _WINDOW * batch_size
        windows = [order[i : i + size] for i in range(0, total, size)]
        order = np.concatenate(
            [w[np.argsort(-lengths[w], kind="stable")] for w in windows]
        )
    batches = np.split(order, total // batch_size)
    if grouped:
        batches = [batches[i] for i in draw.permutation(len(batches))]
    return batches


def training_batches(
    features: Features,
    batch_size: int,
    seed: int,
    start_step: int,
    grouped: bool,
) -> Iterator[np.ndarray]:
    """Rows of the batches from a step on, without end."""
    per_epoch = -(-len(features) // batch_size)
    epoch, skip = divmod(start_step, per_epoch)
    while True:
        batches = epoch_batches(
            features.lengths, batch_size, seed, epoch, grouped
        )
        yield from batches[skip:]
        epoch, skip = epoch + 1, 0
