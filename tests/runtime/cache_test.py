"""Packed weights in files: found again, shared, and never trusted."""

import subprocess
import sys

import numpy as np
import pytest

from tests.runtime import built
from tests.runtime.delegate_test import inputs, pack, run, sparse
from tf_pof import runtime

LOAD = """
import sys, numpy as np
from tf_pof import runtime
model = runtime.Interpreter(sys.argv[1], cache_dir=sys.argv[2])
runner = model.get_signature_runner("seq_8")
ids = {k: np.ones((1, 8), np.int32) for k in runner.get_input_details()}
print(runner(**ids)["logits"].tolist())
"""


@pytest.fixture(autouse=True)
def library():
    return built.library()


def load(contents, folder, capfd):
    """Outputs, and of each layer whether it came from a file."""
    model = runtime.Interpreter(contents, verbose=True, cache_dir=folder)
    found = run(model, "seq_12", inputs(model, "seq_12", 3))["logits"]
    said = capfd.readouterr().err.splitlines()
    layers = [line for line in said if "cheapest kernel" in line]
    assert layers
    return found, [line.endswith(", from cache_dir") for line in layers]


@pytest.mark.parametrize("encoding", ["dense", "packed"])
def test_weights_are_kept_and_found_again(encoding, tmp_path, capfd):
    contents = sparse("classifier")
    contents = pack(contents) if encoding == "packed" else contents
    folder = tmp_path / "a" / "b"
    expected, found = load(contents, folder, capfd)
    assert not any(found)
    kept = {path.name for path in folder.iterdir()}
    if kept == {"key"}:
        pytest.skip("the kernels of this processor are not for files")
    for _ in range(2):
        outputs, found = load(contents, folder, capfd)
        assert all(found)
        np.testing.assert_array_equal(outputs, expected)
    assert {path.name for path in folder.iterdir()} == kept
    assert not any(path.stat().st_mode & 0o077 for path in folder.iterdir())


def test_other_options_and_weights_have_files_of_their_own(tmp_path, capfd):
    first = sparse("classifier")
    load(first, tmp_path, capfd)
    _, found = load(sparse("classifier", zeros=0.9), tmp_path, capfd)
    assert not any(found)


def test_corrupt_files_are_written_anew(tmp_path, capfd):
    contents = sparse("classifier")
    expected, _ = load(contents, tmp_path, capfd)
    files = sorted(tmp_path.glob("*.packed"))
    rng = np.random.default_rng(0)
    for i, path in enumerate(files):
        data = bytearray(path.read_bytes())
        if i % 3 == 0:
            del data[rng.integers(len(data)) :]
        elif i % 3 == 1:
            # Not between arrays, where nothing is read.
            data[rng.integers(136)] ^= 1
        else:
            data = rng.bytes(len(data))
        path.write_bytes(data)
    outputs, found = load(contents, tmp_path, capfd)
    assert not any(found)
    np.testing.assert_array_equal(outputs, expected)
    _, found = load(contents, tmp_path, capfd)
    assert all(found) or not files


def test_a_folder_that_cannot_be_is_told_of_once(tmp_path, capfd):
    contents = sparse("classifier")
    (tmp_path / "file").write_bytes(b"")
    model = runtime.Interpreter(contents, cache_dir=tmp_path / "file" / "x")
    values = inputs(model, "seq_12", 3)
    outputs = run(model, "seq_12", values)
    said = capfd.readouterr().err
    assert said.count("packed weights are not kept in the cache_dir") == 1
    assert "file/x (Not a directory); models load as without it." in said
    expected = run(runtime.Interpreter(contents), "seq_12", values)
    np.testing.assert_array_equal(outputs["logits"], expected["logits"])


def test_processes_may_fill_a_folder_at_once(tmp_path):
    path = tmp_path / "model.tflite"
    path.write_bytes(sparse("classifier"))
    folder = tmp_path / "cache"
    command = [sys.executable, "-c", LOAD, str(path), str(folder)]
    processes = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    printed = {process.communicate(timeout=300)[0] for process in processes}
    assert not any(process.returncode for process in processes)
    assert len(printed) == 1
    assert not list(folder.glob("*.tmp"))


def test_options_of_python_reach_the_delegate(tmp_path, capfd):
    contents = sparse("classifier")
    runtime.Interpreter(contents, verbose=True, min_sparsity=0.99)
    assert "runs 0 of" in capfd.readouterr().err
    with pytest.raises(ValueError, match="min_sparsity must be 0 to 1"):
        runtime.delegate(min_sparsity=2)
    with pytest.raises(ValueError, match="cache_dir must be a path of at most"):
        runtime.delegate(cache_dir="x" * 2000)
    with pytest.raises(ValueError, match='verbose must be 0 or 1, not "yes"'):
        runtime.delegate(verbose="yes")


def test_a_folder_without_a_name_is_none(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    load = [sys.executable, "-c", LOAD, "model.tflite"]
    (tmp_path / "model.tflite").write_bytes(sparse("classifier"))
    subprocess.run([*load, ""], check=True, timeout=300)
    assert len(list(tmp_path.iterdir())) == 1
