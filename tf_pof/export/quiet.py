"""Hides what TFLite's C++ prints."""

from collections.abc import Iterator
import contextlib
import os
import sys


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No standard error meanwhile, if TensorFlow's logs are off anyway.

    The converter and XNNPACK print before and past TensorFlow's log levels.
    """
    if os.environ.get("TF_CPP_MIN_LOG_LEVEL") != "3":
        yield
        return
    sys.stderr.flush()
    stderr = os.dup(2)
    with open(os.devnull, "wb") as null:
        os.dup2(null.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
