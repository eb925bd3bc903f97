"""The model of the best evaluation."""

import json
import os

import tf_pof  # noqa: F401  (legacy Keras before TensorFlow)

import pytest

from tf_pof import files
from tf_pof.training.best import Best


@pytest.fixture
def saved():
    """Values of the saves."""
    return []


@pytest.fixture
def best(tmp_path, saved):
    def save(path):
        saved.append(len(saved))
        config = json.dumps({"tf_pof": {}, "save": len(saved)})
        files.write_set(path, {"config.json": config.encode()})

    return Best(str(tmp_path / "best"), "f1", 4, save)


def test_the_first_of_the_best_is_kept(best, saved):
    for step, value in ((2, 0.9), (4, 0.5), (6, 0.7), (8, 0.7), (10, 0.6)):
        best.offer(step, {"accuracy": 1.0, "f1": value})
    # Step 2 came too early, 8 is no better than 6.
    assert dict(best.noted) == {"step": 6, "metric": "f1", "value": 0.7}
    assert len(saved) == 2
    assert best.compare({"f1": 0.69}).step == 6
    assert best.compare({}).step == 6
    assert os.path.exists(best.folder)


@pytest.mark.parametrize("last", [0.7, 0.8])
def test_a_last_model_that_is_as_good_makes_it_go(last, best, tmp_path):
    best.offer(6, {"f1": 0.7})
    assert best.compare({"f1": last}) is None
    assert os.listdir(tmp_path) == []


def test_metrics_that_are_no_number_do_not_count(best, saved):
    best.offer(6, {"f1": float("nan")})
    best.offer(8, {})
    assert best.noted is None and not saved
    assert best.compare({"f1": 0.1}) is None


def test_what_is_of_steps_to_come_is_forgotten(best):
    best.offer(6, {"f1": 0.7})
    best.begin(6)
    assert best.noted.step == 6
    best.begin(5)
    assert best.noted is None and not os.path.exists(best.folder)


def test_files_of_others_stay(best):
    best.offer(6, {"f1": 0.7})
    files.write_bytes(os.path.join(best.folder, "notes.txt"), b"mine")
    best.drop()
    assert os.listdir(best.folder) == ["notes.txt"]


@pytest.mark.parametrize("note", ["[]", "{", '{"step": "6"}'])
def test_a_note_that_is_none_is_one_sentence(note, best):
    best.offer(6, {"f1": 0.7})
    files.write_bytes(f"{best.folder}.json", note.encode())
    with pytest.raises(ValueError, match="best.json"):
        best.offer(8, {"f1": 0.8})
