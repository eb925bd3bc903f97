"""What all classification tasks share: features, scores, label order."""

import itertools

import numpy as np
import pytest

from tf_pof.data.sample import vocab_path
from tf_pof.data.tokenizer import WordPiece
from tf_pof.tasks import classification
from tf_pof.tasks import metrics
from tf_pof.tasks.classification import Examples, label_order

WORDS = "the of and to in was for that on with".split()


class _Task(classification.ClassificationTask):
    """With nothing but the base class's."""

    def __init__(self, labels=("no", "yes"), sequence_length=10):
        chosen = {"accuracy": metrics.accuracy, "f1": metrics.f1}
        if labels is None:
            chosen = {"pearson": metrics.pearson}
        super().__init__("it", labels, chosen, ["dev"], [], sequence_length)

    examples = write_predictions = data_files = None


@pytest.fixture(scope="module")
def tokenizer():
    return WordPiece(vocab_path())


def _examples(texts, pairs=None, labels=None):
    return Examples(texts, pairs, labels, np.arange(len(texts)), "my.tsv")


def _text(count):
    """A text of that many tokens."""
    return " ".join(itertools.islice(itertools.cycle(WORDS), count))


def _sequence(tokenizer, features, i):
    ids = features.token_ids[features.starts[i] : features.starts[i + 1]]
    return " ".join(tokenizer.vocabulary[j] for j in ids)


def test_features_hold_text_pair_and_label(tokenizer):
    labels = np.array([1, 0], np.int32)
    examples = _examples(["The of", "and"], ["to", ""], labels)
    features = _Task().features(examples, tokenizer, training=True)
    assert _sequence(tokenizer, features, 0) == "[CLS] the of [SEP] to [SEP]"
    assert _sequence(tokenizer, features, 1) == "[CLS] and [SEP] [SEP]"
    assert features.second_starts.tolist() == [4, 3]
    assert features.targets["logits"].tolist() == [1, 0]
    assert features.targets["logits"].dtype == np.int32


def test_the_longer_text_is_cut_from_its_end(tokenizer):
    # 10 tokens less three special ones leave 7: 4 + 3, 3 + 4, 1 + 6, 6 + 1.
    texts = [_text(9), _text(3), _text(1), _text(9)]
    pairs = [_text(3), _text(5), _text(9), _text(1)]
    task = _Task()
    features = task.features(_examples(texts, pairs), tokenizer, False)
    assert features.lengths.tolist() == [10] * 4
    assert features.second_starts.tolist() == [6, 5, 3, 8]
    assert (
        _sequence(tokenizer, features, 1)
        == "[CLS] the of and [SEP] the of and to [SEP]"
    )
    assert task.notes() == ["4 of 4 examples of my.tsv were cut to 10 tokens."]


@pytest.mark.parametrize("pairs", [False, True])
def test_what_was_cut_is_counted(tokenizer, pairs):
    # Texts of 8 tokens, or two of 7 together, fit in 10 exactly.
    lengths = [3, 8, 9, 20, 1]
    texts = [_text(n) for n in lengths]
    seconds = None
    if pairs:
        lengths = [(1, 1), (4, 3), (4, 4), (20, 0), (7, 0)]
        texts, seconds = zip(*[(_text(a), _text(b)) for a, b in lengths])
    task = _Task()
    for _ in range(2):
        task.features(_examples(texts, seconds), tokenizer, False)
        assert task.notes() == [
            "2 of 5 examples of my.tsv were cut to 10 tokens."
        ]
    task.features(_examples([_text(8)]), tokenizer, False)
    assert task.notes() == []


def test_chunks_do_not_show(tokenizer, monkeypatch):
    draw = np.random.default_rng(0)
    texts = [_text(n) for n in draw.integers(0, 15, 11)]
    pairs = [_text(n) for n in draw.integers(0, 15, 11)]
    examples = _examples(texts, pairs, np.arange(11, dtype=np.float32))
    found = []
    for size in (100, 4, 11):
        monkeypatch.setattr(classification, "_CHUNK", size)
        task = _Task(labels=None)
        features = task.features(examples, tokenizer, True)
        found.append((features, task.notes()))
    for features, notes in found[1:]:
        assert notes == found[0][1]
        for name in ("token_ids", "starts", "second_starts"):
            np.testing.assert_array_equal(
                getattr(features, name), getattr(found[0][0], name)
            )
        assert features.targets["logits"].tolist() == list(range(11))
        assert features.targets["logits"].dtype == np.float32


def test_a_part_of_the_examples_has_all_that_belongs_to_them():
    examples = _examples(list("abcd"), list("efgh"), np.arange(4))
    part = examples[1:3]
    assert (len(part), part.texts, part.pairs) == (2, ["b", "c"], ["f", "g"])
    assert part.labels.tolist() == part.indices.tolist() == [1, 2]
    assert part.source == examples.source
    bare = _examples(["a", "b"])[:1]
    assert bare.pairs is None and bare.labels is None and len(bare) == 1


def test_without_labels_there_is_nothing_to_train_on_or_score(tokenizer):
    task = _Task()
    examples = _examples(["the"])
    assert task.features(examples, tokenizer, training=False).targets == {}
    with pytest.raises(ValueError, match="my.tsv has no labels: train on"):
        task.features(examples, tokenizer, training=True)
    with pytest.raises(ValueError, match="my.tsv has no labels to score"):
        task.score(examples, None, {"logits": np.zeros((1, 2), np.float32)})


@pytest.mark.parametrize(
    "labels, values, note",
    [
        (("no", "yes"), [1, 1, 1], 'no example of "no", which cannot be lear'),
        (("a", "b", "c", "d"), [1, 3, 1], 'my.tsv has no example of "a", "c",'),
        (("no", "yes"), [1, 0, 1], None),
        (None, [0.5, 0.5, 0.5], "All scores of my.tsv are the same: nothing"),
        (None, [0.5, 0.5, 0.6], None),
    ],
)
def test_what_cannot_be_learned_is_told(tokenizer, labels, values, note):
    kind = np.float32 if labels is None else np.int32
    task = _Task(labels)
    examples = _examples(["the"] * 3, None, np.array(values, kind))
    task.features(examples, tokenizer, training=False)
    assert task.notes() == []
    task.features(examples, tokenizer, training=True)
    assert len(task.notes()) == (note is not None)
    assert note is None or note in task.notes()[0]


def test_scores_are_of_the_largest_logit():
    labels = np.array([0, 1, 1, 0], np.int32)
    logits = np.array([[2, 1], [0, 1], [3, 2], [0, 5]], np.float32)
    scores = _Task().score(
        _examples([""] * 4, None, labels), None, {"logits": logits}
    )
    # 2 of 4 right; class 1: one hit, one wrong, one missed.
    assert scores == {"accuracy": 0.5, "f1": 0.5}
    assert list(scores)[0] == _Task().main_metric


def test_a_regression_is_scored_by_its_one_logit():
    task = _Task(labels=None)
    assert task.is_regression and task.num_labels == 1
    labels = np.array([1, 2, 4], np.float32)
    outputs = {"logits": (labels * 3 - 7)[:, None]}
    scores = task.score(_examples([""] * 3, None, labels), None, outputs)
    assert scores == {"pearson": pytest.approx(1)}


def test_diverged_models_are_told():
    logits = np.zeros((3, 2), np.float32)
    logits[1, 0] = np.nan
    logits[2, 1] = np.inf
    with pytest.raises(ValueError, match="NaN or infinity for 2 of 3 examples"):
        _Task().predictions(logits)


def test_a_length_without_room_for_text():
    with pytest.raises(ValueError, match="length of 4 .* at least 5"):
        _Task(sequence_length=4)


def test_probabilities_are_a_softmax():
    found = classification.probabilities(
        np.array([[0, np.log(3)], [1000, 0]], np.float32)
    )
    np.testing.assert_allclose(found, [[0.25, 0.75], [1, 0]], atol=1e-7)


MNLI = ("entailment", "neutral", "contradiction")


def test_labels_are_matched_by_name():
    order = label_order(MNLI, ("CONTRADICTION", "ENTAILMENT", "NEUTRAL"))
    assert order.tolist() == [1, 2, 0]
    # A model sure of class 0, its contradiction: the task's class 2.
    logits = np.array([[9, 1, 2]])
    assert logits[:, order].argmax() == MNLI.index("contradiction")


@pytest.mark.parametrize("count", [2, 3, 4])
def test_every_permutation_comes_back_in_order(count):
    labels = [f"class {i}" for i in range(count)]
    for shuffled in itertools.permutations(labels):
        order = label_order(labels, shuffled)
        if list(shuffled) == labels:
            assert order is None
        else:
            assert [shuffled[i] for i in order] == labels


@pytest.mark.parametrize(
    "task, model",
    [
        (MNLI, MNLI),
        (MNLI, ("LABEL_0", "LABEL_1", "LABEL_2")),
        (MNLI, ("Entailment", "Neutral", "Contradiction")),
        (("not_entailment", "b"), ("Not entailment", "B ")),
        (("no", "yes"), ("0", "1")),
        (("0", "1"), ("no", "yes")),
        (MNLI, None),
        (None, ("LABEL_0",)),
    ],
)
def test_an_order_that_is_the_tasks_is_left(task, model):
    assert label_order(task, model) is None


@pytest.mark.parametrize(
    "labels, model, note",
    [
        (("no", "yes"), ("no", "yes"), None),
        (("no", "yes"), ("No", "Yes"), None),
        (("0", "1"), ("0", "1"), None),
        (("LABEL_0", "LABEL_1"), ("LABEL_0", "LABEL_1"), None),
        (None, ("LABEL_0",), None),
        (
            ("no", "yes"),
            None,
            'M does not name its classes: they are assumed to be in the order '
            'of the task\'s, "no", "yes".',
        ),
        (
            ("no", "yes"),
            ("LABEL_0", "LABEL_1"),
            'M tells "LABEL_0", "LABEL_1" apart: they are assumed to be in '
            'the order of the task\'s, "no", "yes".',
        ),
        (
            ("0", "1"),
            ("no", "yes"),
            'M tells "no", "yes" apart: they are assumed to be in the order '
            'of the task\'s, "0", "1".',
        ),
        (
            ("0", "1"),
            ("1", "0"),
            'M has the classes in the order "1", "0": they were matched by '
            "name.",
        ),
    ],
)
def test_what_is_matched_or_assumed_is_told(labels, model, note):
    task = _Task(labels)
    for _ in range(2):
        order = task.class_order(model, "M")
        assert task.notes() == ([] if note is None else [note])
    assert (order is not None) == (note is not None and "by name" in note)
    assert task.class_order(labels, "M") is None and task.notes() == []


def test_names_that_differ_in_case_are_told_apart():
    assert label_order(("a", "A"), ("A", "a")).tolist() == [1, 0]
    with pytest.raises(ValueError):
        label_order(("a", "A"), ("b", "a"))


@pytest.mark.parametrize(
    "model",
    [
        ("entailment", "not_entailment"),
        ("LABEL_0", "LABEL_1"),
        ("LABEL_1", "LABEL_0", "LABEL_2"),
        ("a", "b", "c"),
        ("entailment", "neutral", "c"),
        ("entailment", "entailment", "neutral"),
    ],
)
def test_other_classes_are_refused(model):
    with pytest.raises(
        ValueError,
        match=f'tells "{model[0]}", .* apart but the task "entailment", ',
    ):
        label_order(MNLI, model)
