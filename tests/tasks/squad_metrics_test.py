"""Exact match and F1; the numbers are worked out beside each case."""

import json
import os

import pytest

from tf_pof.tasks import squad_files
from tf_pof.tasks import squad_metrics
from tf_pof.tasks.squad_files import SquadExample


def example(name, *answers):
    return SquadExample(name, "", "?", "", answers, (0,) * len(answers))


# Prediction, answer, exact match, F1 as a fraction.
CASES = [
    ("Denver Broncos", "Denver Broncos", 1, 1),
    ("denver broncos", "Denver BRONCOS", 1, 1),
    ("The Denver Broncos", "Denver Broncos", 1, 1),
    ("an apple", "the apple", 1, 1),
    ("A cat and a dog", "cat and dog", 1, 1),
    ("Denver, Broncos!", "Denver Broncos", 1, 1),
    ("  Denver \n Broncos\t", "Denver Broncos", 1, 1),
    ("U.S.", "US", 1, 1),
    ("$5", "5", 1, 1),
    ("(1895–1943)", "1895–1943", 1, 1),
    # An en dash is no ASCII punctuation; a hyphen is and joins.
    ("1895–1943", "1895-1943", 0, 0),
    ("1895-1943", "18951943", 1, 1),
    ("mid-Eocene", "mid Eocene", 0, 0),
    # Articles are taken out after punctuation, as whole words.
    ("a.b", "ab", 1, 1),
    ("theatre", "atre", 0, 0),
    ("A", "the", 1, 0),  # Nothing is left: no common word.
    ("", "Denver", 0, 0),
    # 1 common word: 2 * 1/2 * 1/1 / (1/2 + 1) = 2/3.
    ("Denver Broncos", "Broncos", 0, 2 / 3),
    ("Broncos", "Denver Broncos", 0, 2 / 3),
    # 2 of 3 and 2 of 4: 2 * 2/3 * 1/2 / (2/3 + 1/2) = 4/7.
    ("red green blue", "green blue pink grey", 0, 4 / 7),
    ("green red", "red green", 0, 1),  # Order does not count.
    # "very" is common once: 2 * 1/2 * 1/1 / (3/2) = 2/3.
    ("very very", "very", 0, 2 / 3),
    # "very" twice and "good": 3 of 3 and 3 of 4, 2 * 3/4 / (7/4) = 6/7.
    ("very very good", "very good very very", 0, 6 / 7),
    ("no match here", "something else", 0, 0),
    # Accents are kept.
    ("café", "cafe", 0, 0),
    ("CAFÉ", "café", 1, 1),
    ("İstanbul", "i̇stanbul", 1, 1),
    ("7,000,000 square kilometres", "7000000 km", 0, 2 / 5),
    ("東京 tower", "東京", 0, 2 / 3),
    ("the end of the day", "end of day", 1, 1),
]


@pytest.mark.parametrize("prediction, answer, exact, f1", CASES)
def test_scores_a_prediction(prediction, answer, exact, f1):
    found = squad_metrics.evaluate_v1(
        [example("q", answer)], {"q": prediction}
    )
    assert found == pytest.approx({"f1": 100 * f1, "exact_match": 100 * exact})


def test_takes_the_best_of_the_answers_and_the_mean_of_the_questions():
    examples = [
        example("a", "red", "red car"),  # 1 and 1, by the second answer.
        example("b", "blue sky", "sea"),  # 2/3 and 0, by the first.
        example("c", "x", "y"),  # 0 and 0.
    ]
    predictions = {"a": "the red car", "b": "blue", "c": "z", "other": "x"}
    found = squad_metrics.evaluate_v1(examples, predictions)
    assert list(found) == ["f1", "exact_match"]
    assert found["f1"] == pytest.approx(100 * (1 + 2 / 3 + 0) / 3)
    assert found["exact_match"] == pytest.approx(100 * 1 / 3)


@pytest.mark.parametrize(
    "evaluate", [squad_metrics.evaluate_v1, squad_metrics.evaluate_v2]
)
def test_an_unanswered_question_scores_0_and_is_reported(evaluate):
    examples = [example("a", "red"), example("b", "blue")]
    assert evaluate(examples, {"a": "red"})["f1"] == 50
    assert squad_metrics.unanswered(examples, {"a": "red"}) == ["b"]
    assert squad_metrics.unanswered(examples, {"a": "", "b": ""}) == []


EXAMPLES_V2 = [
    example("a", "red"),
    example("b", "blue sky"),
    example("c"),
    example("d"),
    example("e", "the"),  # Only an article: v2.0 takes no answer for it.
]


def test_no_answer_is_right_where_there_is_none():
    predictions = {"a": "red", "b": "blue", "c": "", "d": "pink", "e": ""}
    found = squad_metrics.evaluate_v2(EXAMPLES_V2, predictions)
    # a 1, b 2/3 and 0, c 1, d 0, e 1.
    assert found == pytest.approx(
        {
            "f1": 100 * (1 + 2 / 3 + 1 + 0 + 1) / 5,
            "exact": 100 * 3 / 5,
            "HasAns_f1": 100 * (1 + 2 / 3 + 1) / 3,
            "HasAns_exact": 100 * 2 / 3,
            "NoAns_f1": 50,
            "NoAns_exact": 50,
        }
    )
    assert list(found)[0] == "f1"


def test_an_answer_of_only_articles_is_none_of_several():
    examples = [example("a", "the", "red")]
    assert squad_metrics.evaluate_v2(examples, {"a": ""})["f1"] == 0
    assert squad_metrics.evaluate_v1(examples, {"a": ""})["exact_match"] == 100


def test_groups_without_questions_are_left_out():
    found = squad_metrics.evaluate_v2(EXAMPLES_V2[:2], {"a": "", "b": ""})
    assert found == {"f1": 0, "exact": 0, "HasAns_f1": 0, "HasAns_exact": 0}


def test_finds_the_thresholds_that_give_most():
    texts = {"a": "red", "b": "blue", "c": "grey", "d": "pink", "e": "x"}
    odds = {"a": -3.0, "c": -2.0, "b": -1.0, "d": 1.0, "e": 2.0}
    predictions = {k: "" if odds[k] > 0 else v for k, v in texts.items()}
    found = squad_metrics.evaluate_v2(EXAMPLES_V2, predictions, odds, texts)
    # No text at all scores 2 (c and d). In the order of the odds: a +1 = 3,
    # c -1 = 2, b +2/3 (exact: +0), d -1, e +0.
    assert found["best_f1"] == pytest.approx(100 * 3 / 5)
    assert found["best_f1_thresh"] == -3
    assert found["best_exact"] == pytest.approx(100 * 3 / 5)
    assert found["best_exact_thresh"] == -3
    # With c last, b is worth it: 2 + 1 + 2/3.
    odds["c"] = 3.0
    found = squad_metrics.evaluate_v2(EXAMPLES_V2, predictions, odds, texts)
    assert found["best_f1"] == pytest.approx(100 * (3 + 2 / 3) / 5)
    assert found["best_f1_thresh"] == -1
    # If every text is wrong, giving none scores 2.
    texts = dict.fromkeys(texts, "wrong")
    found = squad_metrics.evaluate_v2(EXAMPLES_V2, texts, odds)
    assert found["best_exact"] == pytest.approx(100 * 2 / 5)
    assert found["best_exact_thresh"] == 0


@pytest.mark.slow
def test_official_predictions_score_as_with_the_official_script():
    """Needs the folder of dev-v1.1.json and the predictions of Google's
    ensemble (the files bert-ensemble-dev-v1.1.json and dev-v1.1*.json).
    """
    folder = os.environ.get("SQUAD_OFFICIAL_DIR", "")
    predictions = os.path.join(
        folder, "official_predictions", "bert-ensemble-dev-v1.1.json"
    )
    if not os.path.exists(predictions):
        pytest.skip("SQUAD_OFFICIAL_DIR names no folder of the predictions.")
    name = next(n for n in os.listdir(folder) if n.startswith("dev-v1.1"))
    examples, _ = squad_files.read_json(os.path.join(folder, name), "1.1")
    with open(predictions, encoding="utf-8") as file:
        found = squad_metrics.evaluate_v1(examples, json.load(file))
    assert found["exact_match"] == pytest.approx(86.206, abs=5e-4)
    assert found["f1"] == pytest.approx(92.196, abs=5e-4)
