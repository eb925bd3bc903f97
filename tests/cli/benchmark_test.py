"""bin/benchmark: what it prints and keeps, and what is refused."""

import json
import re

import numpy as np
import pytest

from tests.export import converted, exported
from tests.runtime import built
from tests.tasks import tiny

SST2 = "--model={}/sst2.tflite "
REFUSED = [
    ("", 2, "--model must be given"),
    ("--model={}/x.tflite", 1, "no file .*x.tflite: .*bin/export_tflite"),
    (SST2 + "--num_threads=two", 2, "num_threads must be numbers"),
    (SST2 + "--sequence_lengths=0", 2, "sequence_lengths must be numbers"),
    (SST2 + "--rounds=0", 2, "rounds"),
    ("--model={}/broken.tflite", 1, "broken.tflite: .*corrupt"),
    ("--model={}/bare.tflite", 1, "give --sequence_lengths"),
]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A file of a task, one without metadata, and a broken one."""
    root = tmp_path_factory.mktemp("files")
    contents = exported.sst2().contents
    (root / "sst2.tflite").write_bytes(contents)
    (root / "bare.tflite").write_bytes(converted.make("classifier").contents)
    (root / "broken.tflite").write_bytes(contents[:1000])
    return root


def command(line, files, log):
    return tiny.Command(
        "benchmark", line.replace("{}", str(files)).split(), log
    )


@pytest.mark.parametrize("line, code, what", REFUSED)
def test_bad_input_is_one_sentence_and_a_code(
    line, code, what, files, tmp_path
):
    process = command(line, files, tmp_path / "log")
    assert process.wait() == code, process.printed
    (printed,) = process.printed.splitlines()
    assert printed.startswith("benchmark: ") and re.search(what, printed)


def test_lengths_that_the_file_lacks_are_told(files, tmp_path):
    built.library()
    line = SST2 + "--sequence_lengths=7"
    process = command(line, files, tmp_path / "log")
    assert process.wait() == 1
    assert "no signature of that length, only inputs of [-1, 24]" in (
        process.printed
    )


def test_engines_are_timed_and_kept(files, tmp_path):
    built.library()
    report = tmp_path / "report.json"
    line = (
        "--model={}/bare.tflite --compare={}/bare.tflite --batch_size=2 "
        "--sequence_lengths=8,12 --num_threads=1,2 --rounds=2 --profile "
        f"--report={report}"
    )
    printed = command(line, files, tmp_path / "log").finish()
    found = json.loads(report.read_text())
    assert found["model"] == str(files / "bare.tflite") == found["compare"]
    shapes = [
        (row["num_threads"], row["sequence_length"], row["batch_size"])
        for row in found["rows"]
    ]
    assert shapes == [(1, 8, 2), (1, 12, 2), (2, 8, 2), (2, 12, 2)]
    engines = ["LiteRT", "other", "tf_pof"]
    for row in found["rows"]:
        seconds = row["seconds"]
        assert list(seconds) == engines and min(seconds.values()) > 0
        for name in engines[:2]:
            assert f"{seconds[name] / seconds['tf_pof']:.2f}x" in printed
        assert np.isfinite(list(row["largest_difference"].values())).all()
    for profile, row in zip(found["profiles"], found["rows"], strict=True):
        assert profile["sequence_length"] == row["sequence_length"]
        steps = sum(step["seconds"] for step in profile["steps"])
        assert 0 < steps < profile["calls"] * profile["seconds"]
        assert f"{profile['seconds'] * 1e6:.1f}" in printed
    assert list(found["footprints"]) == engines
    for name, footprint in found["footprints"].items():
        # Tensors and code, not the interpreter of Python.
        assert 0 < footprint["resident_bytes"] < 100e6
        assert 0 < footprint["load_seconds"] < footprint["ready_seconds"] < 60
        assert f"{footprint['resident_bytes'] / 1e6:.1f}" in printed
