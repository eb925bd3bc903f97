"""Documents as token ids with the ends of their sentences."""

from collections.abc import Sequence
import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Documents:
    """Tokenized documents.

    Attributes:
        token_ids: int32, all tokens one after another.
        sentence_lengths: int64 [sentences] tokens of each sentence.
        sentence_counts: int64 [documents] sentences of each document.
        seeds: uint64 [documents], from the text of each.
    """

    token_ids: np.ndarray
    sentence_lengths: np.ndarray
    sentence_counts: np.ndarray
    seeds: np.ndarray

    @classmethod
    def concatenate(cls, blocks: Sequence["Documents"]) -> "Documents":
        """Joins blocks of documents."""
        empty = np.empty(0, np.int64)
        return cls(
            *(
                np.concatenate(
                    [getattr(block, field.name) for block in blocks] or [empty]
                )
                for field in dataclasses.fields(cls)
            )
        )

    def select(self, chosen: np.ndarray) -> "Documents":
        """Returns the documents where `chosen`, bool [documents], is true."""
        if chosen.all():
            return self
        by_sentence = np.repeat(chosen, self.sentence_counts)
        by_token = np.repeat(by_sentence, self.sentence_lengths)
        return Documents(
            self.token_ids[by_token],
            self.sentence_lengths[by_sentence],
            self.sentence_counts[chosen],
            self.seeds[chosen],
        )

    def token_counts(self) -> np.ndarray:
        """Returns the tokens of each document, int64 [documents]."""
        owners = np.repeat(
            np.arange(len(self.sentence_counts)), self.sentence_counts
        )
        counts = np.zeros(len(self.sentence_counts), np.int64)
        np.add.at(counts, owners, self.sentence_lengths)
        return counts

    def cut(self, index: int, tokens: int) -> "Documents":
        """Makes two documents of one: its beginning, and then its end.

        Args:
            index: of the document.
            tokens: the end has at least as many, fewer than the document. It
                begins with a sentence unless that would take far more.
        """
        first = int(self.sentence_counts[:index].sum())
        count = int(self.sentence_counts[index])
        lengths = self.sentence_lengths[first : first + count]
        ends = np.cumsum(lengths[::-1])[::-1]
        number = int(np.flatnonzero(ends >= tokens)[-1])
        counts = [number, count - number]
        if not number or 2 * ends[number] > tokens + ends[0]:
            beginning = ends[number] - tokens
            parts = [beginning, lengths[number] - beginning]
            lengths = np.concatenate(
                [lengths[:number], parts, lengths[number + 1 :]]
            )
            counts[0] += 1
        # Any other seed does.
        seed = self.seeds[index] ^ np.uint64(0x9E3779B97F4A7C15)
        return Documents(
            self.token_ids,
            np.concatenate(
                [
                    self.sentence_lengths[:first],
                    lengths,
                    self.sentence_lengths[first + count :],
                ]
            ),
            np.concatenate(
                [
                    self.sentence_counts[:index],
                    counts,
                    self.sentence_counts[index + 1 :],
                ]
            ),
            np.insert(self.seeds, index + 1, seed),
        )

    def boundaries(self, max_length: int) -> tuple[list[list[int]], list[int]]:
        """Returns where the sentences of each document begin.

        Args:
            max_length: sentences with more tokens are cut.

        Returns:
            For each document that has tokens, the indices of its sentences'
            first tokens and that of its end; and the seeds of those.
        """
        ends = np.cumsum(self.sentence_lengths)
        last = np.cumsum(self.sentence_counts)
        result, seeds = [], []
        begin = 0
        first = 0
        for stop, seed in zip(last.tolist(), self.seeds.tolist()):
            bounds = [begin]
            for end in ends[first:stop].tolist():
                while end - begin > max_length:
                    begin += max_length
                    bounds.append(begin)
                if end > begin:
                    bounds.append(end)
                    begin = end
            first = stop
            if len(bounds) > 1:
                result.append(bounds)
                seeds.append(seed)
        return result, seeds
