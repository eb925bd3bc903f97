"""Fine-tuning: zeros stay, tasks are learned, pruning on the task."""

import json
import os

import tf_pof  # noqa: F401  (legacy Keras before TensorFlow)

import pytest

from tests.tasks import tiny
from tf_pof.pruning import lock
from tf_pof.tasks import program, registry

LABELS = {
    "sst2": ["negative", "positive"],
    "pairs": ["maybe", "no", "yes"],
    "scores": ["LABEL_0"],
}
PREDICTIONS = {
    "sst2": ["SST-2.tsv"],
    "pairs": ["predictions.tsv"],
    "scores": ["predictions.tsv"],
    "squad": ["nbest_predictions.json", "predictions.json"],
    "squad_v2": [
        "nbest_predictions.json",
        "null_odds.json",
        "predictions.json",
    ],
}


@pytest.mark.parametrize("name", tiny.TASKS)
def test_sparse_model_learns_a_task_and_keeps_its_zeros(
    name, finished, tiny_model
):
    output = finished(name)
    tiny.assert_zeros_stayed(tiny_model, output / "model")
    report = json.loads((output / "report.json").read_text())
    metric, least = tiny.GOOD[name]
    assert report["metrics"]["validation"][metric] > least
    assert list(report["metrics"]["validation"])[0] == metric
    points = tiny.curve(output)
    assert [point["step"] for point in points] == list(range(8, 49, 8))
    assert points[-1]["loss"] < points[0]["loss"] / 2
    assert "hard" in points[0] and "distillation" not in points[0]
    found = sorted(os.listdir(output / "predictions"))
    assert found == PREDICTIONS[name]


@pytest.mark.parametrize("name", tiny.TASKS)
def test_model_folder_tells_labels_zeros_and_fine_tuning(
    name, finished, tiny_model
):
    folder = finished(name) / "model"
    config = json.loads((folder / "config.json").read_text())
    if name in LABELS:
        ids = {str(i): label for i, label in enumerate(LABELS[name])}
        assert config["id2label"] == ids
        assert config["tf_pof"]["labels"] == LABELS[name]
    told = json.loads((folder / "sparsity.json").read_text())
    # What pre-training told stays, today's zeros are counted.
    assert told["provenance"] == {"train_steps": 9}
    assert told["fine_tuning"]["learning_rate"] == 1e-2
    assert told["fine_tuning"]["model"] == tiny_model
    assert told["sparsity"] == tiny.SPARSITY
    query = told["tensors"]["layer_0_query/kernel"]
    assert query["zeros"] == 192 and query["size"] == 256
    assert query["threshold"] == 0.1
    assert (folder / "vocab.txt").read_text().split() == tiny.VOCABULARY


def test_predictions_are_the_official_files(finished):
    lines = (finished("sst2") / "predictions/SST-2.tsv").read_text()
    index, predicted = zip(*(x.split("\t") for x in lines.splitlines()))
    assert (index[0], predicted[0]) == ("index", "prediction")
    assert index[1:] == tuple(str(i) for i in range(48))
    assert set(predicted[1:]) == {"0", "1"}
    path = finished("squad") / "predictions/predictions.json"
    answers = json.loads(path.read_text())
    assert set(answers) == {f"validation{i}" for i in range(48)}
    assert list(answers.values()).count("x") > 40


def test_there_is_no_lock_on_a_dense_model_or_without_the_flag(
    tiny_tasks, tiny_model, tiny_vocab, tmp_path
):
    dense = tiny.save_model(tmp_path / "dense", tiny_vocab, sparse=False)
    found = []
    for model, locked in (
        (tiny_model, True),
        (tiny_model, False),
        (dense, True),
    ):
        given = tiny.settings(
            tiny_tasks["sst2"], model, tmp_path, lock=locked, **tiny.SHORT
        )
        task = registry.create(**given.task)
        distiller = program.build(
            given, task, program.load_student(given, task)
        )
        found.append(len(lock.locked(distiller.student)))
    assert found == [7, 0, 0]


def test_pruning_on_the_task_ends_at_its_sparsity(finished):
    pruned = finished("pruned")
    report = json.loads((pruned / "report.json").read_text())
    assert report["sparsity"]["sparsity"] == 0.75
    # Its embeddings were frozen, and random.
    assert report["metrics"]["validation"]["accuracy"] > 0.6
    tensors = tiny.tensors(pruned / "model")
    for name, tensor in tensors.items():
        if name.endswith(("dense.weight", "query.weight")):
            assert (tensor == 0).sum() == tensor.size * 3 // 4, name
    assert (tensors["classifier.weight"] != 0).all()
    # 8 steps into the ramp of 24, zeros of a kernel rounded down.
    expected = 0.75 * (1 - (16 / 24) ** 3)
    at_8 = tiny.curve(pruned)[0]["sparsity"]
    assert expected - 0.004 < at_8 <= expected
    config = json.loads((pruned / "model/config.json").read_text())
    assert config["tf_pof"]["labels"] == LABELS["sst2"]
    told = json.loads((pruned / "model/sparsity.json").read_text())
    assert told["fine_tuning"]["schedule"]["config"]["ramp_end_step"] == 24
    assert told["tensors"]["pooler/kernel"]["selected_at_step"] == 38


def test_frozen_embeddings_stay_as_they_are(finished):
    after = tiny.tensors(finished("pruned") / "model")
    before = tiny.tensors(finished("pruned").parent / "dense")
    embeddings = [name for name in before if "_embeddings.weight" in name]
    assert len(embeddings) == 3
    for name in after.keys() & before.keys():
        same = (after[name] == before[name]).all()
        assert same if name in embeddings else not same, name
