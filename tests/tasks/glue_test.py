"""GLUE's tasks out of TFDS and its official files, and what is submitted."""

import pathlib

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from tf_pof.data.sample import vocab_path
from tf_pof.data.tokenizer import WordPiece
from tf_pof.tasks import glue
from tf_pof.tasks.classification import Examples


def _outputs(classes, num_labels):
    """Logits that are largest for the classes given."""
    return {"logits": np.eye(num_labels, dtype=np.float32)[classes]}


@pytest.mark.parametrize("name", glue.NAMES)
def test_tfds_and_the_official_files_hold_the_same(name, glue_raw, glue_tfds):
    raw = glue.Glue(name, raw_dir=str(glue_raw))
    prepared = glue.Glue(name, tfds_data_dir=glue_tfds)
    for split in ["train", *raw.evaluation_splits, *raw.test_splits]:
        ours, theirs = raw.examples(split), prepared.examples(split)
        order = np.argsort(theirs.indices)
        assert list(ours.texts) == [theirs.texts[i] for i in order], split
        if ours.pairs is None:
            assert theirs.pairs is None
        else:
            assert ours.pairs == [theirs.pairs[i] for i in order]
        if split.startswith("test"):
            assert ours.labels is None and theirs.labels is None
        else:
            np.testing.assert_array_equal(ours.labels, theirs.labels[order])
            assert ours.labels.dtype == theirs.labels.dtype
        # Microsoft's train file, which TFDS reads, holds MRPC's validation.
        if name != "mrpc" or split == "test":
            np.testing.assert_array_equal(ours.indices, theirs.indices[order])


@pytest.mark.parametrize("name", glue.NAMES)
def test_classes_and_texts_are_tfds_own(name):
    config = tfds.builder_cls("glue").builder_configs[name]
    task = glue.Glue(name)
    labels = config.label_classes
    assert task.labels == (None if labels is None else tuple(labels))
    assert task.num_labels == len(labels or [1])
    assert task._task.texts == tuple(config.text_features)


def test_mnli_has_two_evaluation_splits(glue_raw):
    task = glue.Glue("mnli", raw_dir=str(glue_raw))
    assert task.evaluation_splits == (
        "validation_matched",
        "validation_mismatched",
    )
    assert task.test_splits == ("test_matched", "test_mismatched")
    # The labels of the conftest, gold_label and not the first annotator's.
    matched, mismatched = map(task.examples, task.evaluation_splits)
    assert matched.labels.tolist() == [1, 0, 2, 1]
    assert mismatched.labels.tolist() == [1, 0, 2]
    assert pathlib.Path(mismatched.source).name == "dev_mismatched.tsv"


@pytest.mark.parametrize(
    "name, metrics",
    [
        ("cola", ["matthews"]),
        ("sst2", ["accuracy"]),
        ("mrpc", ["accuracy", "f1"]),
        ("stsb", ["pearson", "spearman"]),
        ("qqp", ["accuracy", "f1"]),
        ("mnli", ["accuracy"]),
        ("qnli", ["accuracy"]),
        ("rte", ["accuracy"]),
        ("wnli", ["accuracy"]),
    ],
)
def test_metrics_are_glues(name, metrics):
    task = glue.Glue(name)
    n = task.num_labels
    labels = np.array([0, 1, 1, 1], np.float32 if n == 1 else np.int32)
    examples = Examples([""] * 4, None, labels, np.arange(4), "here")
    if n == 1:
        outputs = {"logits": np.array([[0], [2], [2], [2]], np.float32)}
    else:
        outputs = _outputs([0, 0, 1, 1], n)
    scores = task.score(examples, None, outputs)
    assert list(scores) == metrics and task.main_metric == metrics[0]
    # 3 of 4 are right; class 1 has precision 2/2 and recall 2/3; Matthews is
    # (2 * 1 - 0 * 1) / sqrt(2 * 3 * 1 * 2).
    known = {"accuracy": 0.75, "f1": 0.8, "matthews": 1 / 3**0.5}
    for metric, value in scores.items():
        assert value == pytest.approx(known.get(metric, 1.0))


_INDICES = np.array([2, 0, 1])


def _write(name, split, outputs, folder):
    task = glue.Glue(name)
    examples = Examples([""] * 3, None, None, _INDICES, "here")
    paths = task.write_predictions(
        str(folder), split, examples, None, outputs
    )
    return [(pathlib.Path(p).name, pathlib.Path(p).read_bytes()) for p in paths]


@pytest.mark.parametrize(
    "name, split, file, predictions",
    [
        ("cola", "test", "CoLA.tsv", [0, 1, 1]),
        ("sst2", "test", "SST-2.tsv", [0, 1, 1]),
        ("sst2", "validation", "SST-2.tsv", [0, 1, 1]),
        ("mrpc", "test", "MRPC.tsv", [0, 1, 1]),
        ("qqp", "test", "QQP.tsv", [0, 1, 1]),
        ("wnli", "test", "WNLI.tsv", [0, 1, 1]),
        ("qnli", "test", "QNLI.tsv", "e n n"),
        ("rte", "test", "RTE.tsv", "e n n"),
        ("mnli", "test_matched", "MNLI-m.tsv", "e u u"),
        ("mnli", "test_mismatched", "MNLI-mm.tsv", "e u u"),
        ("mnli", "validation_mismatched", "MNLI-mm.tsv", "e u u"),
    ],
)
def test_submission_files(name, split, file, predictions, tmp_path):
    if isinstance(predictions, str):
        words = {"e": "entailment", "n": "not_entailment", "u": "neutral"}
        predictions = [words[letter] for letter in predictions.split()]
    found = _write(
        name, split, _outputs([1, 0, 1], glue.Glue(name).num_labels), tmp_path
    )
    # In the order of the official index, not of the examples.
    text = "index\tprediction\n" + "".join(
        f"{i}\t{p}\n" for i, p in enumerate(predictions)
    )
    assert found == [(file, text.encode())]
    assert len(list(tmp_path.iterdir())) == 1


def test_submitted_scores_have_three_decimals_within_0_and_5(tmp_path):
    logits = np.array([[5.7], [-0.2], [2.34567]], np.float32)
    found = _write("stsb", "test", {"logits": logits}, tmp_path / "new/folder")
    text = b"index\tprediction\n0\t0.000\n1\t2.346\n2\t5.000\n"
    assert found == [("STS-B.tsv", text)]


def test_nothing_is_submitted_for_a_train_split(tmp_path):
    with pytest.raises(ValueError, match="choose test_matched or test_mis"):
        _write("mnli", "train", _outputs([0, 1, 2], 3), tmp_path)


def test_from_tfds_to_scores(glue_tfds):
    task = glue.Glue("qnli", tfds_data_dir=glue_tfds, sequence_length=16)
    tokenizer = WordPiece(vocab_path())
    examples = task.examples("validation")
    features = task.features(examples, tokenizer, training=False)
    assert len(features) == len(examples) == 4
    np.testing.assert_array_equal(features.targets["logits"], examples.labels)
    right = _outputs(examples.labels, 2)
    assert task.score(examples, features, right) == {"accuracy": 1.0}
    test = task.examples("test")
    assert task.features(test, tokenizer, training=False).targets == {}


def test_says_which_tasks_and_splits_there_are():
    with pytest.raises(ValueError, match='"sst-2": choose cola, sst2, mrpc'):
        glue.Glue("sst-2")
    with pytest.raises(
        ValueError,
        match='mnli has no split "validation": choose train, validation_match',
    ):
        glue.Glue("mnli").examples("validation")


def test_what_is_not_prepared_is_said_before_any_download(tmp_path):
    with pytest.raises(ValueError, match="--tfds_data_dir.*--raw_dir"):
        glue.Glue("rte", tfds_data_dir=str(tmp_path)).examples("train")


def test_a_prepared_text_that_is_not_utf8_is_named(tmp_path):
    features = {
        "sentence": tfds.features.Text(),
        "label": tfds.features.ClassLabel(names=["negative", "positive"]),
        "idx": tf.int32,
    }
    columns = {"sentence": [b"fine", b"a\xff"], "label": [0, 1], "idx": [0, 1]}
    tfds.dataset_builders.store_as_tfds_dataset(
        name="glue",
        config="sst2",
        version="2.0.0",
        features=tfds.features.FeaturesDict(features),
        split_datasets={"train": tf.data.Dataset.from_tensor_slices(columns)},
        data_dir=str(tmp_path),
        disable_shuffling=True,
    )
    with pytest.raises(
        ValueError,
        match='"sentence" of example 1 of the train split of glue/sst2 is not '
        "UTF-8 at byte 1",
    ):
        glue.Glue("sst2", tfds_data_dir=str(tmp_path)).examples("train")


@pytest.mark.parametrize(
    "name, labels, message",
    [
        ("sst2", [0, 2], "Example 1 of the train split of glue/sst2 has the "),
        ("sst2", [1, -1], "has the label -1, but they are from 0 to 1: prep"),
        ("stsb", [5.0, 5.5], "has the label 5.5, but they are from 0 to 5"),
        ("stsb", [np.nan, 1.0], "Example 0 of .* has the label nan, but they"),
    ],
)
def test_prepared_labels_that_cannot_be_are_named(
    name, labels, message, monkeypatch
):
    rows = [
        {"sentence": b"a", "sentence1": b"a", "sentence2": b"b", "idx": i}
        | {"label": label}
        for i, label in enumerate(labels)
    ]
    monkeypatch.setattr(
        glue.tfds_source, "examples", lambda *args, **kwargs: rows
    )
    with pytest.raises(ValueError, match=message):
        glue.Glue(name).examples("train")
