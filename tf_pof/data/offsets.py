"""WordPieces with the characters of the original text they stand for.

The ids are `WordPiece.tokenize_strings`'. Its normalising is undone word by
word: white space separates words before and after it, and each different
word is worked out once.
"""

from array import array
from collections.abc import Callable, Sequence
import dataclasses
import functools
import re
import unicodedata

import numpy as np

from tf_pof.data.tokenizer import WordPiece

# Between these the tokenizer sees words: what its cleaning makes spaces of.
# Python's \s knows control characters too, which the cleaning removes.
_WORD = re.compile(
    "[^\t\n\r \u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+"
)
# In a normalised word: what is looked up in the vocabulary as one.
_UNIT = re.compile(r"[!-/:-@\[-`{-~]|[^ !-/:-@\[-`{-~]+")


@dataclasses.dataclass(frozen=True)
class OffsetTokens:
    """WordPieces of n texts, one text after the other.

    Attributes:
        token_ids: [total] int32.
        starts, ends: [total] int32; a token stands for the characters
            starts..ends of its own text. Both never fall within a text.
        splits: [n + 1] int64; text i has the tokens splits[i]..splits[i+1].
    """

    token_ids: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    splits: np.ndarray

    def row(self, index: int) -> slice:
        """Where the tokens of a text are."""
        return slice(self.splits[index], self.splits[index + 1])


def tokenize(tokenizer: WordPiece, texts: Sequence[str]) -> OffsetTokens:
    """Tokenizes texts and says which characters each token stands for.

    A token has exactly the characters that it was made of, together with
    the accents that were stripped from them. An unknown word is one [UNK]
    with all of its characters. Parts of one character (a Hangul syllable)
    each have the whole of it.

    Args:
        tokenizer: of the vocabulary.
        texts: n strings.
    """
    numbers: dict[str, int] = {}
    words, places, counts = array("q"), array("q"), array("q", [0])
    for text in texts:
        for match in _WORD.finditer(text):
            words.append(numbers.setdefault(match.group(), len(numbers)))
            places.append(match.start())
        counts.append(len(words))
    found = tokenizer.tokenize_strings(list(numbers))
    ids, splits = found.flat_values.numpy(), found.row_splits.numpy()
    spans = _spans(tokenizer, list(numbers), ids.tolist(), splits.tolist())

    word = np.frombuffer(words, np.int64)
    place = np.frombuffer(places, np.int64)
    sizes = np.diff(splits)[word]
    before = np.concatenate([[0], np.cumsum(sizes)])
    # Token j of a word's occurrence is token j of the word.
    chosen = np.arange(before[-1]) + np.repeat(
        splits[word] - before[:-1], sizes
    )
    offsets = spans[chosen] + np.repeat(place, sizes)[:, None]
    return OffsetTokens(
        ids[chosen].astype(np.int32),
        offsets[:, 0].astype(np.int32),
        offsets[:, 1].astype(np.int32),
        before[np.frombuffer(counts, np.int64)],
    )


def _spans(
    tokenizer: WordPiece, words: list[str], ids: list[int], splits: list[int]
) -> np.ndarray:
    """[tokens, 2] int64, first and last + 1 character within the word."""
    normalize = functools.cache(tokenizer.normalize)
    lengths = [
        len(token) - 2 * (len(token) > 2 and token.startswith("##"))
        for token in tokenizer.vocabulary
    ]
    spans = array("q")
    for word, begin, end in zip(words, splits, splits[1:]):
        if word.isascii() and word.isprintable():
            # Normalising can only lower it.
            if end - begin == 1:
                spans.extend((0, len(word)))
                continue
            normalized = word
            first, last = range(len(word)), range(1, len(word) + 1)
        else:
            normalized, first, last = _align(word, normalize)
        token = begin
        for unit in _UNIT.finditer(normalized):
            here, stop = unit.span()
            while here < stop:
                after = here + lengths[ids[token]]
                if ids[token] == tokenizer.unk_id:
                    after = stop
                spans.extend((first[here], last[after - 1]))
                here = after
                token += 1
    return np.frombuffer(spans, np.int64).reshape(-1, 2)


def _align(
    word: str, normalize: Callable[[str], str]
) -> tuple[str, list[int], list[int]]:
    """Normalises a word character by character.

    This may choose another form of sigma, or order marks in another way,
    than normalising the word as a whole, but the lengths are the same.

    Returns:
        The normalised word, and for each of its characters the first and
        last + 1 character of `word` that it comes from.
    """
    parts, origins = [], []
    ends = list(range(1, len(word) + 1))
    for index, character in enumerate(word):
        part = normalize(character)
        parts.append(part)
        origins += [index] * len(part)
        accent = not part and unicodedata.category(character) == "Mn"
        if accent and origins:
            ends[origins[-1]] = index + 1
    return "".join(parts), origins, [ends[origin] for origin in origins]
