"""What a run says, and what it says when its end has failed."""

from collections.abc import Iterator
import contextlib

import rich.console
import tensorflow as tf


def say(console: rich.console.Console, text: str) -> None:
    """Prints a sentence; paths in it may hold brackets, which are no markup."""
    console.print(text, soft_wrap=True, markup=False)


@contextlib.contextmanager
def saving_to(path: str) -> Iterator[None]:
    """Says of an error while a model is saved how to go on.

    Raises:
        OSError: in one sentence.
    """
    try:
        yield
    except OSError as error:
        raise OSError(
            f"The model could not be written to {path} "
            f"({error.strerror or error}): make room; the same command goes on "
            "from the last checkpoint."
        ) from error


@contextlib.contextmanager
def after_saving(path: str) -> Iterator[None]:
    """Says of an error after the training that the model is there.

    Args:
        path: of the saved model.

    Raises:
        ValueError, OSError: of the kind of the error.
    """
    try:
        yield
    except (ValueError, OSError, MemoryError, tf.errors.OpError) as error:
        kind = ValueError if isinstance(error, ValueError) else OSError
        reason = " ".join(str(error).split()).rstrip(".")
        raise kind(
            f"The model is trained and saved in {path}, but what follows has "
            f"failed: {reason or type(error).__name__}. The same command "
            "repeats that alone."
        ) from error
