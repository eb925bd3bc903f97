"""The life of a fine-tuning run: epochs, the best model, and its end."""

import dataclasses
import json
import os
import pathlib
import shlex
import shutil

import tf_pof

import numpy as np
import pytest

from tests.tasks import tiny
from tf_pof.pruning.schedules import PruneOnceSchedule
from tf_pof.tasks import evaluation, program, registry, summary

# 96 examples of batches of 16: 6 steps an epoch.
RUN = tiny.SHORT | {
    "train_steps": 0,
    "epochs": 2.5,
    "log_every": 4,
    "evaluate_every": "epoch",
    "keep_checkpoints": False,
}


@pytest.fixture
def settings(tiny_tasks, tiny_model, tmp_path):
    return tiny.settings(
        tiny_tasks["sst2"], tiny_model, tmp_path / "run", **RUN
    )


@pytest.fixture
def accuracies(monkeypatch):
    """Values that evaluations give, one after the other."""
    values = []
    real = evaluation.Splits.score

    def score(self, *args, **kwargs):
        return real(self, *args, **kwargs) | {"accuracy": values.pop(0)}

    monkeypatch.setattr(evaluation.Splits, "score", score)
    return values


def report(settings):
    return json.loads(pathlib.Path(settings.output, "report.json").read_text())


def test_each_epoch_is_validated_and_the_best_is_kept_beside_the_last(
    settings, accuracies
):
    accuracies += [0.7, 0.9, 0.8]
    _, printed = tiny.run(settings)
    assert "96 examples are 6 steps an epoch; the run has 15 steps of 16: " in (
        printed
    )
    points = tiny.curve(settings.output)
    assert [(p["step"], p.get("validation_accuracy")) for p in points] == [
        (4, None),
        (6, 0.7),
        (8, None),
        (12, 0.9),
        (15, None),
    ]
    assert report(settings)["best"] == {
        "step": 12,
        "metric": "accuracy",
        "value": 0.9,
    }
    best = f"{settings.output}/best"
    assert f"Step 12 was better, with accuracy 0.9000: its model is {best}" in (
        printed
    )
    last = tiny.tensors(f"{settings.output}/model")
    kept = tiny.tensors(best)
    assert any((last[name] != kept[name]).any() for name in last)
    model = tf_pof.load(best)
    assert model.labels == ("negative", "positive")
    assert model.sparsity["sparsity"] == tiny.SPARSITY
    assert not os.path.exists(f"{settings.output}/checkpoints")
    task = settings.task
    assert printed.splitlines()[-1] == (
        f"Next: bin/finetune --qat --model={settings.output} --task=sst2 "
        f"--raw_dir={task['raw_dir']} --sequence_length=24 --output=INT8"
    )


def test_evaluations_do_not_change_what_is_learned(settings, accuracies):
    accuracies += [0.7, 0.8, 0.8, 0.5]
    tiny.run(settings)
    # The last one is as good.
    assert "best" not in report(settings)
    assert not os.path.exists(f"{settings.output}/best")
    plain = dataclasses.replace(
        settings, output=f"{settings.output}_plain", evaluate_every=0
    )
    tiny.run(plain)
    one, other = (
        tiny.tensors(f"{given.output}/model") for given in (settings, plain)
    )
    for name, value in one.items():
        np.testing.assert_array_equal(other[name], value, name)


def test_a_model_that_is_still_dense_is_not_the_best(
    settings, accuracies, tiny_vocab, tmp_path
):
    dense = tiny.save_model(tmp_path / "dense", tiny_vocab, sparse=False)
    accuracies += [0.9, 0.8, 0.7]
    pruned = dataclasses.replace(
        settings,
        model=dense,
        schedule=PruneOnceSchedule(0.0, 0.5, 0, 8, 10, 1),
        pruning={},
        ramp_end_step=8,
        lock=False,
    )
    tiny.run(pruned)
    assert report(pruned)["best"]["step"] == 12
    kept = tf_pof.load(f"{pruned.output}/best")
    assert kept.sparsity["sparsity"] == 0.5


def test_predictions_that_fail_do_not_lose_the_model(settings, monkeypatch):
    def fail(*args, **kwargs):
        raise OSError(28, "No space left on device", "predictions")

    kind = type(registry.create(**settings.task))
    monkeypatch.setattr(kind, "write_predictions", fail)
    with pytest.raises(OSError, match="saved in .*/model.*No space left"):
        tiny.run(settings)
    weights = tiny.tensors(f"{settings.output}/model")
    monkeypatch.undo()

    def fit(*args, **kwargs):
        raise AssertionError("The run trains.")

    monkeypatch.setattr(program.Distiller, "fit", fit)
    _, printed = tiny.run(settings)
    assert "Going on from step 15 of 15" in printed and "accuracy" in printed
    for name, value in tiny.tensors(f"{settings.output}/model").items():
        np.testing.assert_array_equal(value, weights[name], name)
    assert os.listdir(f"{settings.output}/predictions") == ["SST-2.tsv"]


def test_a_training_file_that_changed_stops_a_run_that_goes_on(
    settings, tmp_path, monkeypatch
):
    root = shutil.copytree(settings.task["raw_dir"], tmp_path / "glue")
    given = dataclasses.replace(
        settings,
        task=settings.task | {"raw_dir": str(root)},
        train_steps=2,
        keep_checkpoints=True,
    )
    tiny.run(given)
    path = root / "SST-2/train.tsv"
    path.write_text(path.read_text().replace("\t1", "\t0", 1))
    os.unlink(f"{given.output}/report.json")
    with pytest.raises(ValueError, match="The task data is not what the run"):
        tiny.run(given)


@pytest.mark.parametrize(
    "contents",
    ["[]", '{"settings": {}, "seconds": 1, "metrics": []}',
     '{"settings": {}, "seconds": 1, "metrics": {"a": {"b": "c"}}}'],
)  # fmt: skip
def test_a_report_of_wrong_types_is_one_sentence(contents, settings):
    os.mkdir(settings.output)
    pathlib.Path(settings.output, "report.json").write_text(contents)
    with pytest.raises(ValueError, match="report.json "):
        tiny.run(settings)


def test_the_best_of_a_quantized_run_has_ranges_that_stay(
    settings, accuracies, tiny_vocab, tmp_path
):
    trained = tiny.save_model(
        tmp_path / "trained",
        tiny_vocab,
        head="classifier",
        labels=("negative", "positive"),
    )
    # Ranges stay from step 7: the first epoch's model has none yet.
    accuracies += [0.9, 0.8, 0.7, 0.5]
    quantized = dataclasses.replace(
        settings, model=trained, qat=True, qat_freeze_step=7
    )
    _, printed = tiny.run(quantized)
    assert report(quantized)["best"]["step"] == 12
    kept = tf_pof.load(f"{quantized.output}/best")
    assert kept.ranges()
    last = tf_pof.load(f"{quantized.output}/model")
    assert kept.ranges() == last.ranges()
    assert printed.splitlines()[-1] == (
        f"Next: bin/export_tflite --model={quantized.output} "
        "--output=FILE.tflite"
    )
    plain = dataclasses.replace(
        quantized, output=f"{quantized.output}_plain", evaluate_every=0
    )
    tiny.run(plain)
    one, other = (
        tiny.tensors(f"{given.output}/model") for given in (quantized, plain)
    )
    for name, value in one.items():
        np.testing.assert_array_equal(other[name], value, name)


def test_the_next_command_can_be_pasted_into_a_shell(settings):
    given = dataclasses.replace(
        settings,
        output="my run",
        task={
            "name": "custom",
            "train_file": "a b.csv",
            "labels": ["no", "it's"],
            "regression": False,
        },
    )
    words = shlex.split(summary.next_command(given))
    assert words == [
        "Next:",
        "bin/finetune",
        "--qat",
        "--model=my run",
        "--task=custom",
        "--train_file=a b.csv",
        "--labels=no,it's",
        "--regression=False",
        "--output=INT8",
    ]
