"""The delegate's library, for tests that need it."""

import pytest

from tf_pof import runtime


def library() -> str:
    """Its path; the test is skipped where it was not built."""
    try:
        return runtime.library_path()
    except FileNotFoundError as error:
        pytest.skip(str(error))
