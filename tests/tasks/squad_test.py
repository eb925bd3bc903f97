"""The whole task on small files: read, cut, decode, score, write."""

import json
import os

import numpy as np
import pytest

from tf_pof.data import sample
from tf_pof.data.tokenizer import WordPiece
from tf_pof.tasks import squad_decoding
from tf_pof.tasks import squad_features
from tf_pof.tasks.squad import Squad

CONTEXTS = [
    "The old mill of Ely opened in 1895 and closed in 1943. " * 3
    + "Its owner, José Núñez, moved to Montréal.",
    "A cat sat on the mat. The dog—a spaniel—slept.",
]
QUESTIONS = [
    (0, "Who owned the mill?", ["José Núñez"]),
    (0, "Where did he move?", ["Montréal", "to Montréal"]),
    (1, "Who slept?", ["The dog", "dog", "a spaniel"]),
    (1, "Where did the cat sit?", ["on the mat"]),
]
UNANSWERABLE = [(0, "Who built the church?"), (1, "What did the cat eat?")]


def document(version):
    paragraphs = [{"context": c, "qas": []} for c in CONTEXTS]
    for number, (index, question, answers) in enumerate(QUESTIONS):
        paragraphs[index]["qas"].append(
            {
                "id": f"q{number}",
                "question": question,
                "answers": [
                    {"text": a, "answer_start": CONTEXTS[index].index(a)}
                    for a in answers
                ],
            }
        )
    if version == "2.0":
        for paragraph in paragraphs:
            for question in paragraph["qas"]:
                question["is_impossible"] = False
        for number, (index, question) in enumerate(UNANSWERABLE):
            paragraphs[index]["qas"].append(
                {
                    "id": f"n{number}",
                    "question": question,
                    "answers": [],
                    "is_impossible": True,
                }
            )
    return {
        "version": version,
        "data": [{"title": "Ely", "paragraphs": paragraphs}],
    }


@pytest.fixture(scope="module")
def raw_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("squad")
    for version in ("1.1", "2.0"):
        for split in ("train", "dev"):
            path = folder / f"{split}-v{version}.json"
            path.write_text(json.dumps(document(version)), "utf-8")
    return str(folder)


@pytest.fixture(scope="module")
def tokenizer():
    return WordPiece(sample.vocab_path())


def make(raw_dir, version="1.1", **arguments):
    arguments = {"sequence_length": 32, "doc_stride": 10, **arguments}
    return Squad(version, raw_dir=raw_dir, **arguments)


def oracle(examples, tokenizer, high=8.0):
    """Outputs that point at the first answers, or at [CLS]."""
    targets = squad_features.build(
        examples, tokenizer, 32, 10, 64, training=True
    ).targets
    outputs = {}
    for name, columns in targets.items():
        outputs[name] = np.zeros((len(columns), 40), np.float32)
        outputs[name][np.arange(len(columns)), columns] = high
    return outputs


def test_says_what_the_program_asks_of_a_task(raw_dir):
    task = make(raw_dir)
    assert (task.name, task.head, task.main_metric) == ("squad", "span", "f1")
    assert (task.labels, task.num_labels) == (None, 2)
    assert not task.is_regression
    assert task.evaluation_splits == ("validation",)
    assert make(raw_dir, "2.0").name == "squad_v2"


@pytest.mark.parametrize("version", ["1.1", "2.0"])
def test_outputs_that_point_at_the_answers_score_100(
    raw_dir, tokenizer, version, tmp_path
):
    task = make(raw_dir, version)
    examples = task.examples("validation")
    features = task.features(examples, tokenizer, training=False)
    outputs = oracle(examples, tokenizer)
    scores = task.score(examples, features, outputs)
    assert next(iter(scores)) == task.main_metric
    names = {
        "1.1": ["f1", "exact_match"],
        "2.0": ["f1", "exact", "HasAns_f1", "NoAns_exact", "best_f1"],
    }
    for name in names[version]:
        assert scores[name] == pytest.approx(100), name

    folder = str(tmp_path / "predictions")
    paths = task.write_predictions(
        folder, "validation", examples, features, outputs
    )
    assert sorted(os.listdir(folder)) == sorted(map(os.path.basename, paths))
    contents = {}
    for path in paths:
        with open(path, encoding="utf-8") as file:
            contents[os.path.basename(path)] = json.load(file)
    expected = {f"q{i}": q[2][0] for i, q in enumerate(QUESTIONS)}
    if version == "2.0":
        expected.update({"n0": "", "n1": ""})
        odds = contents.pop("null_odds.json")
        assert {k for k, v in odds.items() if v > 0} == {"n0", "n1"}
    assert contents.pop("predictions.json") == expected
    best = contents.pop("nbest_predictions.json")
    assert {k: v[0]["text"] for k, v in best.items()} == expected
    assert sum(b["probability"] for b in best["q0"]) == pytest.approx(1)
    assert not contents


def test_predictions_are_found_by_odd_ids(tmp_path, tokenizer):
    ids = ["../../up", "a\nb", "\t", "ü" * 3000, "", "0", '"', "\0"]
    context = "The mill closed in 1943."
    answers = [{"text": "1943", "answer_start": 19}]
    rows = [
        {"id": i, "context": context, "question": "?", "answers": answers}
        for i in ids
    ]
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(rows))
    task = make(None, validation_file=str(path))
    examples = task.examples("validation")
    features = task.features(examples, tokenizer, training=False)
    outputs = {
        name: np.zeros((len(features), 40), np.float32)
        for name in ("start_logits", "end_logits")
    }
    paths = task.write_predictions(
        str(tmp_path / "out"), "validation", examples, features, outputs
    )
    for written in paths:
        with open(written, encoding="utf-8") as file:
            assert list(json.load(file)) == ids
    assert sorted(os.listdir(tmp_path)) == ["out", "rows.json"]
    assert len(os.listdir(tmp_path / "out")) == len(paths) == 2


def test_half_of_the_answers_score_half(raw_dir, tokenizer):
    task = make(raw_dir)
    examples = task.examples("validation")
    features = task.features(examples, tokenizer, training=False)
    outputs = oracle(examples, tokenizer)
    # Questions 0 and 1 are answered with "a" of "A cat": nothing at all.
    contexts = features.details.contexts
    for values in outputs.values():
        values[contexts == 0] = 0
        values[contexts == 0, features.second_starts[contexts == 0]] = 9
    scores = task.score(examples, features, outputs)
    assert scores == {"f1": 50.0, "exact_match": 50.0}


def test_the_best_threshold_gives_the_best_score(raw_dir, tokenizer):
    task = make(raw_dir, "2.0")
    examples = task.examples("validation")
    features = task.features(examples, tokenizer, training=False)
    outputs = oracle(examples, tokenizer)
    for values in outputs.values():
        values[:, 0] += 9  # Too much for a threshold of 0.
    scores = task.score(examples, features, outputs)
    assert scores["NoAns_f1"] == 100 and scores["HasAns_f1"] < 100
    assert scores["best_f1"] == pytest.approx(100)
    threshold = scores["best_f1_thresh"]
    again = make(raw_dir, "2.0", null_score_diff_threshold=threshold).score(
        examples, features, outputs
    )
    assert again["f1"] == pytest.approx(scores["best_f1"])


def test_training_features_have_targets_of_both_logits(raw_dir, tokenizer):
    task = make(raw_dir)
    features = task.features(task.examples("train"), tokenizer, training=True)
    assert set(features.targets) == {"start_logits", "end_logits"}
    for target in features.targets.values():
        assert target.dtype == np.int32 and target.shape == (len(features),)
    assert task.notes() == []


def test_notes_tell_what_was_left_out_and_cut(tmp_path, raw_dir, tokenizer):
    wrong = document("1.1")
    answers = wrong["data"][0]["paragraphs"][0]["qas"]
    answers[0]["answers"][0]["answer_start"] = 0
    answers[1]["answers"][0]["text"] = "Toronto"
    path = tmp_path / "train.json"
    path.write_text(json.dumps(wrong), "utf-8")
    task = make(raw_dir, train_file=str(path), max_query_length=5)
    examples = task.examples("train")
    for _ in range(2):
        features = task.features(examples, tokenizer, training=True)
        assert set(features.details.questions) == {0, 2, 3}
        assert task.notes() == [
            "The answers of 1 of 4 training questions are not in their "
            'contexts; they were left out ("q1").',
            "The answers of 1 of 4 training questions are not where the data "
            "says, or with other blanks, but in one place of their contexts; "
            "they were taken there.",
            "1 of 4 training questions were cut to 5 tokens.",
        ]
    # "Where did the cat sit?" has 6 tokens.
    validation = task.examples("validation")
    task.features(validation, tokenizer, training=False)
    assert task.notes()[3:] == [
        "1 of 4 evaluation questions were cut to 5 tokens."
    ]


def test_a_training_file_without_any_answer_is_refused(raw_dir, tokenizer):
    task = make(raw_dir)
    examples = task.examples("train")
    for example in examples:
        object.__setattr__(example, "context", "nothing")
    with pytest.raises(ValueError, match="None of 4 .* holds its answer: "):
        task.features(examples, tokenizer, training=True)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"version": "1.0"}, 'no SQuAD "1.0": choose 1.1 or 2.0'),
        ({"doc_stride": 0}, "doc_stride is 0: take 1"),
        ({"n_best_size": 0}, "n_best_size is 0"),
        ({"max_answer_length": -1}, "max_answer_length is -1"),
        ({"max_query_length": 0}, "max_query_length is 0"),
        ({"sequence_length": 3}, "sequence_length is 3: take 4"),
    ],
)
def test_refuses_settings_that_make_no_sense(arguments, message):
    with pytest.raises(ValueError, match=message):
        Squad(**arguments)


def test_says_where_it_looked(raw_dir, tmp_path):
    with pytest.raises(ValueError, match='no split "test": choose train'):
        make(raw_dir).examples("test")
    with pytest.raises(OSError, match=f"{tmp_path}/dev-v2.0.json cannot"):
        make(str(tmp_path), "2.0").examples("validation")
    with pytest.raises(ValueError, match="squad/v2.0 is not prepared in"):
        Squad("2.0", tfds_data_dir=str(tmp_path)).examples("train")


@pytest.mark.slow
def test_the_real_dev_set_can_be_answered(tokenizer):
    """Needs the folder of dev-v1.1.json.

    What is missed begins or ends within a word ("2000" in "2000s") or is
    longer than 30 tokens.
    """
    folder = os.environ.get("SQUAD_OFFICIAL_DIR", "")
    names = os.listdir(folder) if os.path.isdir(folder) else []
    path = [n for n in names if n.startswith("dev-v1.1")]
    if not path:
        pytest.skip("SQUAD_OFFICIAL_DIR names no folder of dev-v1.1.json.")
    task = Squad(validation_file=os.path.join(folder, path[0]))
    examples = task.examples("validation")
    features = task.features(examples, tokenizer, training=False)
    targets = squad_features.build(
        examples, tokenizer, 384, 128, 64, training=True
    ).targets
    outputs = {}
    for name, columns in targets.items():
        outputs[name] = np.zeros((len(columns), 384), np.float32)
        rows = np.flatnonzero(columns)
        outputs[name][rows, columns[rows]] = 10
    scores = task.score(examples, features, outputs)
    assert scores["exact_match"] > 99.3
    answers = squad_decoding.decode(examples, features, outputs).texts
    for example in examples:
        answer, found = example.answers[0], answers[example.id]
        if len(answer) < 60:
            assert answer in found, example.id
