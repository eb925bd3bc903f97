"""The documented commands of benchmarks run with their defaults, in small."""

import subprocess
import sys

import pytest

from tests.source_tree import ROOT


@pytest.mark.slow
@pytest.mark.parametrize("pattern", ["1x1", "4x1", "2:4"])
def test_kernels_of_every_pattern_are_timed(pattern):
    done = subprocess.run(
        [
            sys.executable,
            *("-m", "benchmarks.runtime.kernels"),
            *("--shapes=64x64", "--tokens=8", "--sparsity=0.5", "--rounds=1"),
            f"--pattern={pattern}",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=1800,
    )
    assert done.returncode == 0, done.stderr
    heading, row = (
        line for line in done.stdout.splitlines() if line.startswith("| ")
    )
    names = heading.strip("| ").split(" | ")
    assert names[:4] == ["inputs x outputs", "tokens", "zeros", "LiteRT, us"]
    assert names[-1] == "chosen"
    has_pairs = any(name.startswith("2:4") for name in names)
    assert has_pairs == (pattern == "2:4")
    assert row.count("x ") >= len(names) - 4
