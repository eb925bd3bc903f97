"""Tasks of a user's own files."""

import csv
import json
import pathlib

import numpy as np
import pytest

from tf_pof.data.sample import vocab_path
from tf_pof.data.tokenizer import WordPiece
from tf_pof.tasks.table_files import Table

ROWS = [("good film", "pos"), ("bad film", "neg"), ("fine, really", "pos")]


def _save(path, header, rows):
    """Writes rows as the ending of the name says."""
    if path.suffix == ".jsonl":
        lines = [json.dumps(dict(zip(header, row))) for row in rows]
    else:
        separator = {".csv": ",", ".tsv": "\t"}[path.suffix]
        lines = [
            separator.join(f'"{v}"' if "," in str(v) else str(v) for v in row)
            for row in [header, *rows]
        ]
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return str(path)


def _table(folder, rows=ROWS, test=None, header=("text", "label"), **options):
    train = _save(folder / "train.tsv", header, rows)
    dev = _save(folder / "dev.csv", header, rows[:2])
    if test is not None:
        options["test_file"] = _save(folder / "test.csv", *test)
    return Table(train, dev, header[0], **options)


@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl"])
def test_reads_texts_pairs_and_labels(tmp_path, ending):
    rows = [("a", "b, c", 0), ("d", "e", 1), ("f", "g", 0)]
    path = _save(tmp_path / f"a.{ending}", ("one", "two", "y"), rows)
    task = Table(path, path, "one", "two", label_column="y")
    for split in ("train", "validation"):
        examples = task.examples(split)
        assert examples.texts == ["a", "d", "f"]
        assert examples.pairs == ["b, c", "e", "g"]
        assert examples.labels.tolist() == [0, 1, 0]
        assert examples.labels.dtype == np.int32
        assert examples.indices.tolist() == [0, 1, 2]
        assert examples.source == path
    assert task.labels == ("0", "1")
    assert task.evaluation_splits == ("validation",)
    assert task.test_splits == ()


@pytest.mark.parametrize(
    "given, expected",
    [
        (["pos", "neg", "neg"], ("neg", "pos")),
        (["10", "9", "-1"], ("-1", "9", "10")),
        (["1.5", "10", "2"], ("1.5", "2", "10")),
        (["10", "9", "x"], ("10", "9", "x")),
        (["nan", "1", "inf"], ("1", "inf", "nan")),
        ([" b ", "a", "b"], ("a", "b")),
    ],
)
def test_labels_are_the_sorted_ones_of_the_train_file(
    tmp_path, given, expected
):
    task = _table(tmp_path, [("text", label) for label in given])
    assert task.labels == expected
    found = task.examples("train").labels
    assert [expected[i] for i in found] == [label.strip() for label in given]


def test_given_labels_win(tmp_path):
    task = _table(tmp_path, labels=["pos", "other", "neg"])
    assert task.labels == ("pos", "other", "neg") and task.num_labels == 3
    assert task.examples("train").labels.tolist() == [0, 2, 0]
    # Then no train file is needed.
    path = str(tmp_path / "dev.csv")
    task = Table(None, path, "text", labels=["neg", "pos"])
    assert task.examples("validation").labels.tolist() == [1, 0]


def test_the_number_of_rows_is_told(tmp_path):
    task = _table(tmp_path)
    for split in ("train", "validation", "train"):
        task.examples(split)
    train, dev = task.notes()
    assert train.startswith(f"{tmp_path / 'train.tsv'} has 3 rows. ")
    # It holds "fine, really" in quotes.
    assert train.endswith("was read without the quotes of its fields.")
    assert dev == f"{tmp_path / 'dev.csv'} has 2 rows."
    (tmp_path / "dev.csv").write_text("Text;label\na;pos\n")
    task.examples("validation")
    assert task.notes()[1] == (
        f"{tmp_path / 'dev.csv'} has 1 row. {tmp_path / 'dev.csv'} was read "
        f"with semicolons between its fields. {tmp_path / 'dev.csv'} has no "
        'column "text": "Text" was taken for it.'
    )


def test_a_regression_reads_numbers(tmp_path):
    rows = [("a", 1.5), ("b", -2), ("c", "1e1")]
    task = _table(tmp_path, rows, regression=True)
    assert task.is_regression and task.labels is None
    labels = task.examples("train").labels
    assert labels.tolist() == [1.5, -2, 10] and labels.dtype == np.float32
    outputs = {"logits": np.array([[1], [0]], np.float32)}
    scores = task.score(task.examples("validation"), None, outputs)
    assert list(scores) == ["pearson", "spearman"]
    assert list(scores.values()) == pytest.approx([1, 1])


def test_f1_is_of_class_1_or_the_mean_of_many_classes(tmp_path):
    labels = np.array([0, 0, 1, 1])
    logits = np.eye(3, dtype=np.float32)[[0, 0, 0, 1]]
    for count, f1 in [(2, 2 / 3), (3, (4 / 5 + 2 / 3) / 2)]:
        names = ["a", "b", "c"][:count]
        rows = [("text", names[i]) for i in labels]
        dev = _save(tmp_path / "dev.tsv", ("text", "label"), rows)
        task = Table(None, dev, "text", labels=names)
        scores = task.score(
            task.examples("validation"), None, {"logits": logits[:, :count]}
        )
        # Class a: 2 hits, 1 wrong; class b: 1 hit, 1 missed.
        assert list(scores.items()) == [
            ("accuracy", 0.75),
            ("f1", pytest.approx(f1)),
        ]


def test_a_test_file_may_have_labels_or_not(tmp_path):
    test = (("text",), [("new",), ("newer",)])
    task = _table(tmp_path, test=test)
    assert task.test_splits == ("test",)
    assert task.examples("test").labels is None
    assert task.examples("test").texts == ["new", "newer"]
    task = _table(tmp_path, test=(("text", "label"), ROWS))
    assert task.examples("test").labels.tolist() == [1, 0, 1]


def test_predictions_name_labels_and_probabilities(tmp_path):
    test = (("text",), [("new",), ("newer",)])
    task = _table(tmp_path, test=test, labels=["a", 'b "x"'])
    outputs = {"logits": np.array([[0, 0], [0, np.log(3)]], np.float32)}
    (path,) = task.write_predictions(
        str(tmp_path / "out"), "test", task.examples("test"), None, outputs
    )
    assert path == str(tmp_path / "out/predictions.tsv")
    assert pathlib.Path(path).read_bytes() == (
        b'index\tprediction\tprobability_a\t"probability_b ""x"""\n'
        b"0\ta\t0.500000\t0.500000\n"
        b'1\t"b ""x"""\t0.250000\t0.750000\n'
    )
    assert len(list((tmp_path / "out").iterdir())) == 1


def test_odd_labels_come_back_from_the_predictions(tmp_path):
    labels = ["a\tb", "c\nd", '"', "e" * 5000, "../x", "=1+1"]
    test = (("text",), [("new",)] * len(labels))
    task = _table(tmp_path, test=test, labels=labels)
    outputs = {"logits": np.eye(len(labels), dtype=np.float32)}
    (path,) = task.write_predictions(
        str(tmp_path / "out"), "test", task.examples("test"), None, outputs
    )
    with open(path, encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file, delimiter="\t")
    assert header[2:] == [f"probability_{label}" for label in labels]
    assert [row[1] for row in rows] == labels
    assert len(list((tmp_path / "out").iterdir())) == 1


def test_predicted_scores_are_written_alone(tmp_path):
    task = _table(tmp_path, [("a", 1), ("b", 2)], regression=True)
    outputs = {"logits": np.array([[0.5], [-1234.5]], np.float32)}
    examples = task.examples("validation")
    (path,) = task.write_predictions(
        str(tmp_path), "validation", examples, None, outputs
    )
    text = b"index\tprediction\n0\t0.5\n1\t-1234.5\n"
    assert pathlib.Path(path).read_bytes() == text


def test_from_a_file_to_features(tmp_path):
    task = _table(tmp_path, [(text + " " * 9, y) for text, y in ROWS])
    examples = task.examples("train")
    features = task.features(examples, WordPiece(vocab_path()), training=True)
    assert features.lengths.tolist() == [4, 4, 5]
    assert features.targets["logits"].tolist() == [1, 0, 1]


@pytest.mark.parametrize(
    "rows, options, message",
    [
        (
            ROWS,
            {"labels": ["neg", "positive"]},
            'train.tsv:2: unknown label "pos", the labels are "neg", '
            '"positive": correct the row, or name all labels with --labels.',
        ),
        (
            [("a", "pos"), ("b", "neg"), ("c", " ")],
            {},
            'train.tsv:4: the label in column "label" is empty: fill it in',
        ),
        (
            [("a", "1"), ("b", "high")],
            {"regression": True},
            'train.tsv:3: the label "high" is not a number: correct the row',
        ),
        (
            [("a", "1"), ("b", "inf")],
            {"regression": True},
            'train.tsv:3: the label "inf" is not a number',
        ),
        (
            ROWS,
            {"label_column": "class"},
            'train.tsv has no column "class" but "text", "label": choose',
        ),
        (
            ROWS,
            {"pair_column": "second"},
            'train.tsv has no column "second" but "text", "label": choose',
        ),
        (
            [("a", "pos"), ("b", "pos")],
            {},
            'labels of .*train.tsv are "pos": a classifier needs two differ',
        ),
        (ROWS, {"labels": ["pos", "neg", "pos"]}, "needs two different ones"),
    ],
)
def test_one_sentence_says_what_is_wrong(tmp_path, rows, options, message):
    with pytest.raises(ValueError, match=message) as error:
        _table(tmp_path, rows, **options).examples("train")
    assert "\n" not in str(error.value) and str(error.value).endswith(".")


def test_what_has_no_file_is_told(tmp_path):
    with pytest.raises(
        ValueError,
        match='custom has no split "test" but "train", "validation": name',
    ):
        _table(tmp_path).examples("test")
    with pytest.raises(ValueError, match="labels .* not known: name them with"):
        Table(None, str(tmp_path / "dev.csv"), "text")
    with pytest.raises(OSError, match="none.csv cannot be read"):
        Table(str(tmp_path / "none.csv"), None, "text")


def test_labels_are_required_outside_the_test_split(tmp_path):
    task = _table(tmp_path)
    _save(tmp_path / "dev.csv", ("text",), [("new",)])
    with pytest.raises(ValueError, match='dev.csv has no column "label"'):
        task.examples("validation")
