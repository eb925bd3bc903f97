"""BUILD files say what the Python files import.

Bazel itself does not run here: Starlark is close enough to Python for ast.
"""

import pytest

from tests import build_files
from tests.source_tree import ROOT


@pytest.mark.parametrize("folder", build_files.folders(), ids=str)
def test_build_is_what_the_imports_say(folder):
    stated = (ROOT / folder / "BUILD").read_text()
    assert stated == build_files.build_file(folder), (
        f"{folder}/BUILD is out of date: python -m tests.build_files"
    )
