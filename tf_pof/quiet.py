"""Hides what the C++ of TensorFlow and TFLite prints past its log levels."""

from collections.abc import Iterator
import contextlib
import os
import sys

_LEVEL = "TF_CPP_MIN_LOG_LEVEL"


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No standard error meanwhile, if TensorFlow's logs are off anyway.

    The converter and XNNPACK print before and past TensorFlow's log levels.
    """
    if os.environ.get(_LEVEL) != "3":
        yield
        return
    with _no_standard_error():
        yield


@contextlib.contextmanager
def quiet_import() -> Iterator[None]:
    """No word of a first import of TensorFlow, unless the user asked for it.

    TensorFlow prints some lines before it heeds its log level, which becomes
    that of fatal errors where the user has set none: it calls a machine without
    a GPU an error. Python's exceptions say what goes wrong.
    """
    asked = os.environ.setdefault(_LEVEL, "3") not in ("2", "3")
    if asked or "tensorflow" in sys.modules:
        yield
        return
    with _no_standard_error():
        yield


@contextlib.contextmanager
def _no_standard_error():
    if sys.stderr is not None:
        sys.stderr.flush()
    try:
        stderr = os.dup(2)
    except OSError:  # A process without one.
        yield
        return
    with open(os.devnull, "wb") as null:
        os.dup2(null.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
