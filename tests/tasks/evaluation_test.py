"""Scores of every kind of model folder are those that its run reported."""

import io
import json
import pathlib
import shutil

import tf_pof

import numpy as np
import pytest
import rich.console
from safetensors.numpy import save_file

from tests.tasks import tiny
from tf_pof.data.tokenizer import WordPiece
from tf_pof.data.tokenizer_settings import TokenizerSettings
from tf_pof.tasks import evaluation, registry


def run(spec, options, **changes):
    """Metrics, and what was printed."""
    console = rich.console.Console(file=io.StringIO(), width=200)
    metrics = evaluation.run(str(spec), options, console, **changes)
    return metrics, console.file.getvalue()


def reported(output):
    return json.loads((output / "report.json").read_text())["metrics"]


def files(folder):
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in folder.rglob("*")
        if path.is_file() and path.name != "metrics.json"
    }


@pytest.mark.parametrize("name", ["scores", "squad_v2"])
def test_a_run_scores_and_predicts_as_it_reported(
    name, finished, tiny_tasks, tmp_path
):
    output = finished(name)
    # The run's own batch size: others round otherwise.
    metrics, printed = run(
        output, tiny_tasks[name], output=str(tmp_path), batch_size=16
    )
    assert metrics == reported(output)
    assert files(tmp_path) == files(output / "predictions")
    assert json.loads((tmp_path / "metrics.json").read_text()) == metrics
    first, value = next(iter(metrics["validation"].items()))
    assert first in printed and f"{value:.4f}" in printed


@pytest.mark.parametrize(
    "what", ["model", "checkpoints/ckpt-48", "unfinished"]
)
def test_model_folder_checkpoint_and_unfinished_run_score_alike(
    what, finished, tiny_tasks, tmp_path
):
    output = finished("sst2")
    spec = output / what
    if what == "unfinished":
        spec = shutil.copytree(output, tmp_path / "run")
        shutil.rmtree(spec / "model")
        (spec / "report.json").unlink()
    metrics, _ = run(spec, tiny_tasks["sst2"], batch_size=7)
    assert metrics == reported(output)


def test_a_checkpoint_of_pruning_on_the_task_scores_as_its_model(
    finished, tiny_tasks
):
    pruned = finished("pruned")
    metrics, _ = run(pruned / "checkpoints/ckpt-48", tiny_tasks["sst2"])
    assert metrics == reported(pruned)
    assert run(pruned, tiny_tasks["sst2"])[0] == metrics


def as_hugging_face(folder, copy, labels):
    """The folder as other tools write it, its classes in reverse order."""
    shutil.copytree(folder, copy)
    tensors = tiny.tensors(folder)
    for name in ("classifier.weight", "classifier.bias"):
        tensors[name] = np.ascontiguousarray(tensors[name][::-1])
    save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((copy / "config.json").read_text())
    del config["tf_pof"]
    config["id2label"] = {str(i): label for i, label in enumerate(labels)}
    (copy / "config.json").write_text(json.dumps(config))
    (copy / "sparsity.json").unlink()
    return copy


def test_a_foreign_model_may_order_and_write_its_classes_otherwise(
    finished, tiny_tasks, tmp_path
):
    output = finished("sst2")
    spec = as_hugging_face(
        output / "model", tmp_path / "hf", ["POSITIVE", "NEGATIVE"]
    )
    metrics, _ = run(spec, tiny_tasks["sst2"], output=str(tmp_path / "out"))
    assert metrics == reported(output)
    assert files(tmp_path / "out") == files(output / "predictions")


def test_classes_without_names_are_taken_in_their_order(
    finished, tiny_tasks, tmp_path
):
    output = finished("sst2")
    spec = as_hugging_face(
        output / "model", tmp_path / "hf", ["LABEL_0", "LABEL_1"]
    )
    metrics, _ = run(spec, tiny_tasks["sst2"])
    # Reversed: what was right is wrong.
    right = reported(output)["validation"]["accuracy"]
    assert metrics["validation"]["accuracy"] == pytest.approx(1 - right)


@pytest.mark.parametrize("name", ["pairs", "scores"])
def test_a_custom_task_needs_no_train_file_to_be_scored(
    name, finished, tiny_tasks
):
    options = {
        k: v
        for k, v in tiny_tasks[name].items()
        if k not in ("train_file", "regression")
    }
    metrics, _ = run(finished(name), options, batch_size=16)
    assert metrics == reported(finished(name))


def test_a_split_without_labels_gets_predictions_only(
    finished, tiny_tasks, tmp_path
):
    metrics, printed = run(
        finished("sst2"),
        tiny_tasks["sst2"],
        splits=["test"],
        output=str(tmp_path),
    )
    assert metrics == {"test": {}} and "metric" not in printed
    lines = (tmp_path / "SST-2.tsv").read_text().splitlines()
    assert lines[0] == "index\tprediction"
    # As the file of `tiny` is made: every third text has an "x".
    assert lines[1:] == [f"{i}\t{int(i % 3 == 0)}" for i in range(8)]


def test_predictions_of_several_splits_do_not_overwrite_each_other(
    finished, tiny_tasks, tmp_path
):
    metrics, _ = run(
        finished("sst2"),
        tiny_tasks["sst2"],
        splits=["validation", "test"],
        output=str(tmp_path),
    )
    assert metrics == reported(finished("sst2")) | {"test": {}}
    own = files(finished("sst2") / "predictions")["SST-2.tsv"]
    found = files(tmp_path)
    assert found["validation/SST-2.tsv"] == own
    assert found["test/SST-2.tsv"].count("\n") == 9


def test_an_output_that_cannot_be_is_said_before_the_scoring(
    finished, tiny_tasks, tmp_path, monkeypatch
):
    monkeypatch.setattr(evaluation.Splits, "score", None)
    (tmp_path / "file").touch()
    (tmp_path / "out").mkdir()
    (tmp_path / "out/test").touch()
    for output, splits in (
        (tmp_path / "file", None),
        (tmp_path / "out", ["validation", "test"]),
        ("/", None),
    ):
        with pytest.raises(ValueError, match="The output /.* name another"):
            run(
                finished("sst2"),
                tiny_tasks["sst2"],
                splits=splits,
                output=str(output),
            )


def test_brackets_in_paths_are_printed_and_found(
    finished, tiny_tasks, tmp_path
):
    folder = tmp_path / "d[v1]*" / "[/x]"
    options = dict(tiny_tasks["scores"])
    copy = shutil.copytree(
        pathlib.Path(options["validation_file"]).parent, folder
    )
    options["validation_file"] = str(copy / "validation.tsv")
    model = shutil.copytree(finished("scores") / "model", folder / "m?[a]")
    metrics, printed = run(
        model, options, output=str(folder / "out"), batch_size=16
    )
    assert metrics == reported(finished("scores"))
    assert f"{copy}/validation.tsv has 48 rows." in printed
    assert f"Predictions: {folder}/out" in printed


def test_that_nothing_would_come_out_is_said(finished, tiny_tasks, tmp_path):
    with pytest.raises(ValueError, match="test gives predictions.*--output"):
        run(finished("sst2"), tiny_tasks["sst2"], splits=["test"])
    options = dict(tiny_tasks["pairs"])
    del options["validation_file"]
    with pytest.raises(ValueError, match="--validation_file"):
        run(finished("pairs"), options, output=str(tmp_path))
    with pytest.raises(ValueError, match='no split "dev"'):
        run(finished("sst2"), tiny_tasks["sst2"], splits=["dev"])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_precision_of_the_forward_pass_may_be_chosen(
    precision, finished, tiny_tasks
):
    metrics, _ = run(
        finished("scores"), tiny_tasks["scores"], precision=precision
    )
    expected = reported(finished("scores"))["validation"]["pearson"]
    found = metrics["validation"]["pearson"]
    assert found != expected
    assert found == pytest.approx(expected, abs=0.02)


@pytest.mark.parametrize(
    "model,task,what",
    [
        ("sst2", "squad", "classifier head of 2 outputs, but squad needs a s"),
        ("squad", "sst2", "span head of 2 outputs, but sst2 needs a class"),
        ("sst2", "mnli", "2 outputs, but mnli needs a classifier of 3"),
        ("squad", "pairs", "span head of 2 outputs, but custom needs a class"),
        ("pairs", "scores", "3 outputs, but custom needs a classifier of 1"),
        ("sst2", "cola", '"positive" apart but the task "unacceptable"'),
    ],
)
def test_a_model_of_another_task_is_refused(
    model, task, what, finished, tiny_tasks, glue_raw
):
    options = tiny_tasks.get(task, {"name": task, "raw_dir": str(glue_raw)})
    with pytest.raises(ValueError, match=what):
        run(finished(model), options)


def test_a_model_without_its_vocabulary_asks_for_it(
    finished, tiny_tasks, tiny_vocab, tmp_path
):
    copy = shutil.copytree(finished("sst2") / "model", tmp_path / "model")
    (copy / "vocab.txt").unlink()
    with pytest.raises(ValueError, match="no vocab.txt.*--vocab"):
        run(copy, tiny_tasks["sst2"])
    metrics, _ = run(copy, tiny_tasks["sst2"], vocab=tiny_vocab)
    assert metrics == reported(finished("sst2"))
    longer = tmp_path / "vocab.txt"
    longer.write_text(pathlib.Path(tiny_vocab).read_text() + "more\n")
    with pytest.raises(ValueError, match="has 23 tokens, but .* with 22"):
        run(copy, tiny_tasks["sst2"], vocab=str(longer))


def test_sequences_longer_than_the_model_are_refused(
    tiny_tasks, tiny_vocab, tmp_path
):
    short = tiny.save_model(
        tmp_path / "model",
        tiny_vocab,
        head="classifier",
        labels=("negative", "positive"),
        max_sequence_length=12,
    )
    with pytest.raises(ValueError, match="12 positions.*sequence_length"):
        run(short, tiny_tasks["sst2"])
    metrics, printed = run(short, tiny_tasks["sst2"] | {"sequence_length": 12})
    assert 0 <= metrics["validation"]["accuracy"] <= 1
    assert "were cut to 12 tokens" in printed


def test_tokenizer_is_as_the_model_says(finished):
    model = tf_pof.load(finished("sst2") / "model")
    for settings in (
        TokenizerSettings(False),
        TokenizerSettings(True, False, False),
    ):
        model.tokenizer_settings = settings
        assert evaluation.load_tokenizer("m", model).settings == settings
    # The vocabulary of the tests is of lower-cased words.
    model.tokenizer_settings = None
    tokenizer = evaluation.load_tokenizer("m", model)
    assert tokenizer.settings == TokenizerSettings(True)


def test_splits_are_read_once(finished, tiny_tasks, tiny_vocab, monkeypatch):
    task = registry.create(**tiny_tasks["sst2"])
    splits = evaluation.Splits(task, WordPiece(tiny_vocab), 16)
    model = tf_pof.load(finished("sst2") / "model")
    first = splits.score(model, "validation")
    monkeypatch.setattr(task, "examples", None)
    assert splits.score(model, "validation") == first


def test_an_output_that_cannot_be_written_is_said_first(
    tiny_tasks, tmp_path, monkeypatch
):
    def load(spec):
        raise AssertionError("The model is loaded.")

    monkeypatch.setattr(evaluation.trained, "load", load)
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder/metrics.json").mkdir(parents=True)
    for output, what in (
        (str(tmp_path / "file"), "is no folder"),
        ("", "empty name"),
        ("/", "root folder"),
        (str(tmp_path / "folder"), "metrics.json is a folder"),
    ):
        with pytest.raises(ValueError, match=what):
            run("model", tiny_tasks["sst2"], output=output)
