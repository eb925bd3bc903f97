"""Runtimes compute what the model does: `benchmarks.conformance` in small.

LiteRT itself is compared with the model in tests/export; these need packages
of their own, which are installed at the first run.
"""

import json
import subprocess
import sys

import pytest

from tests.source_tree import ROOT

# Files with a dynamic batch that a runtime refuses, in its own words.
_REFUSED = {
    "litertjs": "does not match expected ranked tensor type",
    "onnx_stock": "TFL_GELU",
}


def rows(folder, engine):
    """By batch, the rows of an engine."""
    path = folder / "rows.json"
    subprocess.run(
        [
            sys.executable,
            "-m",
            "benchmarks.conformance",
            "--tiny",
            "--length=32",
            "--examples=8",
            "--batch=4",
            f"--engines={engine}",
            f"--json={path}",
        ],
        cwd=ROOT,
        check=True,
        capture_output=True,
        timeout=3600,
    )
    found = json.loads(path.read_text())
    missing = [row for row in found if row["result"] == "not run"]
    if missing:
        pytest.skip(f"its packages are not to be had: {missing[0]['message']}")
    return {row["batch"]: row for row in found}


@pytest.mark.slow
@pytest.mark.parametrize(
    "engine",
    ["litert", "litert_builtin", "tf_lite", "tf_lite_builtin", "openvino"]
    + ["onnx", "litertjs", "delegate", "delegate_litert_2_2"]
    + ["delegate_litert_2_1", "delegate_tf_lite", "delegate_tf_lite_2_20"],
)
def test_a_runtime_computes_what_the_model_does(engine, tmp_path):
    found = rows(tmp_path, engine)
    assert found.keys() == {"dynamic", "1"}
    for batch, row in found.items():
        if batch == "dynamic" and engine in _REFUSED:
            assert row["result"] == "fails"
            assert _REFUSED[engine] in row["message"]
            continue
        assert row["result"] == "right", row
        assert row["agreement"] >= 7 / 8
        assert row["cosine"] > 0.999


@pytest.mark.slow
def test_tf2onnx_as_it_comes_is_reported_with_its_reason(tmp_path):
    for row in rows(tmp_path, "onnx_stock").values():
        assert row["result"] == "fails"
        assert _REFUSED["onnx_stock"] in row["message"]
