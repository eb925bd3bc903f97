"""Tensors that a file says it holds, looked at before their numbers are read.

A file may claim anything: terabytes in a few bytes, a million layers, text in
place of numbers. Every reader of foreign files therefore lists names, shapes
and dtypes first. What they claim is held to the model's configuration, and
only then are numbers read.
"""

from collections.abc import Callable, Iterable, Iterator
import contextlib
import dataclasses
import lzma
import math
import struct
import zipfile

import numpy as np
import safetensors
import tensorflow as tf

from tf_pof.models.config import BertConfig

# A BERT of 1,000 layers has fewer tensors, and the largest BERTs that were
# published have 4e9 numbers.
MAX_TENSORS = 16_384
_MAX_NUMBERS = 1 << 32
# Sizes that differ by less are left to the check of each tensor, which says
# the one that is wrong; as float32 these are 4 MB.
_SLACK = 1 << 20
_FLOATS = ("float16", "bfloat16", "float32", "float64")
# All that the libraries were seen to raise for files that are cut off or
# changed.
_LIBRARY_ERRORS = (
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    NotImplementedError,
    OSError,
    OverflowError,
    RuntimeError,
    TypeError,
    ValueError,
    lzma.LZMAError,
    safetensors.SafetensorError,
    struct.error,
    tf.errors.OpError,
    zipfile.BadZipFile,
)


@dataclasses.dataclass(frozen=True)
class Claim:
    """A tensor that a file claims to hold.

    Attributes:
        source: path of the file, for messages.
        name: as the file has it.
        shape: as the file claims.
        dtype: numpy's name of it, or the file's own where numpy has none.
        values: returns the numbers in that shape and dtype; raises what its
            library raises.
    """

    source: str
    name: str
    shape: tuple[int, ...]
    dtype: str
    values: Callable[[], np.ndarray]

    def floats(self) -> np.ndarray:
        """The tensor as float32.

        Raises:
            ValueError: if it holds no floats, is a single number, or cannot be
                read.
        """
        if self.dtype not in _FLOATS:
            raise ValueError(
                f"{self.source}: tensor {self.name!r} holds {self.dtype}, but "
                f"weights are one of {', '.join(_FLOATS)}."
            )
        if not self.shape:
            raise ValueError(
                f"{self.source}: tensor {self.name!r} is a single number, but "
                "weights have at least one axis."
            )
        with reading(self.source):
            return self.values().astype(np.float32, copy=False)


@contextlib.contextmanager
def reading(source: str) -> Iterator[None]:
    """Turns what libraries raise for a damaged file into one sentence.

    Raises:
        ValueError: naming the file and the first line of the library's error.
    """
    try:
        yield
    except FileNotFoundError:
        raise
    except _LIBRARY_ERRORS as error:
        # A KeyError's text is in quotes, and a MemoryError has none.
        text = str(error).strip("'\" ") or type(error).__name__
        line = text.partition("\n")[0][:200].rstrip(". ")
        raise ValueError(f"{source} cannot be read: {line}.") from None


def encoder_numbers(config: BertConfig) -> int:
    """How many numbers the embeddings and layers of an encoder have."""
    width, inner = config.hidden_dim, config.intermediate_dim
    rows = (
        config.vocabulary_size
        + config.max_sequence_length
        + config.num_segments
    )
    # Query, key, value and output; two layers of a feed-forward; two norms.
    layer = 4 * (width + 1) * width + (2 * width + 1) * inner + 5 * width
    return (rows + 2) * width + config.num_layers * layer


def most_numbers(config: BertConfig) -> int:
    """How many a checkpoint of this size can have with every head."""
    return min(3 * encoder_numbers(config) + _SLACK, _MAX_NUMBERS)


def check_sizes(
    config: BertConfig, shapes: Iterable[tuple[int, ...]], source: str
) -> None:
    """Holds what a file claims and what a configuration claims to each other.

    Neither a model is built that the file could not fill, nor are numbers read
    for which the model has no place. Differences of up to a factor of two
    pass: `assign` then names the tensor that does not fit.

    Args:
        config: as read.
        shapes: of all tensors that would be read.
        source: path of the file, for messages.

    Raises:
        ValueError: if the two do not belong together.
    """
    shapes = list(shapes)
    if any(size < 0 for shape in shapes for size in shape):
        raise ValueError(f"{source} claims a tensor of negative size.")
    numbers = sum(math.prod(shape) for shape in shapes)
    needed = encoder_numbers(config)
    # A layer has 16 tensors.
    too_few = config.num_layers * 8 > len(shapes) + 64
    if too_few or needed > 2 * numbers + _SLACK:
        raise ValueError(
            f"{source} has {len(shapes):,} tensors with {numbers:,} numbers, "
            "too few for the encoder that its configuration describes "
            f"({config.num_layers:,} layers, {needed:,} numbers)."
        )
    if len(shapes) > MAX_TENSORS or numbers > most_numbers(config):
        raise ValueError(
            f"{source} claims {len(shapes):,} tensors with {numbers:,} "
            "numbers, too many for the model that its configuration describes "
            f"({config.num_layers:,} layers, {needed:,} numbers in the "
            "encoder)."
        )
