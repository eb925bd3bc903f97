"""Whatever is in a run's files, reading them works or is one sentence."""

import json
import os

import tf_pof  # noqa: F401  (legacy Keras before TensorFlow)

import hypothesis
from hypothesis import strategies as st
import pytest

from tf_pof import files
from tf_pof.training import curve, report, run_folder
from tf_pof.training.best import Best
from tf_pof.training.program import Settings

_SETTINGS = Settings(
    model="bert_tiny",
    data="d64",
    output="run",
    train_steps=10,
    batch_size=8,
    learning_rate=1e-3,
)
_GOOD = {
    "settings.json": _SETTINGS.identity()
    | {"paths": {"data": "/d64"}, "hashes": {"data": "ab"}},
    "report.json": {
        "settings": _SETTINGS.identity(),
        "seconds": 1.5,
        "student": {"mlm": 2.5},
        "teacher": None,
        "sparsity": {
            "sparsity": 0.5,
            "tensors": {"a": {"shape": [2, 4], "sparsity": 0.5}},
        },
    },
    "best.json": {"step": 3, "metric": "f1", "value": 0.5},
    "curve.jsonl": {"step": 3, "loss": 0.5},
}
_READERS = {
    "settings.json": lambda: (
        run_folder.check(_SETTINGS),
        run_folder.check_hashes(_SETTINGS, {"data": "ab"}),
    ),
    "report.json": lambda: report.read(_SETTINGS),
    "best.json": lambda: Best("run/best", "f1", 0, print).offer(1, {"f1": 0}),
    "curve.jsonl": lambda: curve.drop_points_after("run/curve.jsonl", 5),
}
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda parts: st.lists(parts) | st.dictionaries(st.text(), parts),
    max_leaves=5,
)


@st.composite
def mutated(draw, value):
    """The JSON of a value with one thing replaced, in it or in its bytes."""
    if draw(st.booleans()):
        contents = bytearray(json.dumps(value).encode() + b"\n")
        begin = draw(st.integers(0, len(contents) - 1))
        end = draw(st.integers(begin, min(begin + 8, len(contents))))
        contents[begin:end] = draw(st.binary(max_size=8))
        return bytes(contents)
    value = json.loads(json.dumps(value))
    place = value
    while True:
        key = draw(st.sampled_from(sorted(place)))
        inner = place[key]
        if isinstance(inner, dict) and inner and draw(st.booleans()):
            place = inner
            continue
        place[key] = draw(_JSON)
        return json.dumps(value).encode() + b"\n"


@pytest.mark.parametrize("name", _GOOD)
@hypothesis.given(data=st.data())
@hypothesis.settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)
def test_files_of_a_run_may_hold_anything(name, data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.makedirs("run/best", exist_ok=True)
    os.makedirs("run/checkpoints", exist_ok=True)
    files.write_bytes("run/checkpoints/ckpt-5.index", b"")
    good = json.dumps(_GOOD[name]).encode() + b"\n"
    files.write_bytes(f"run/{name}", good)
    _READERS[name]()
    files.write_bytes(f"run/{name}", data.draw(mutated(_GOOD[name])))
    try:
        _READERS[name]()
    except ValueError as error:
        sentence = str(error)
        assert "run" in sentence and len(sentence) < 2000
        assert sentence.strip().endswith(".")
