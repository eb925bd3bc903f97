"""Exact match and F1 as SQuAD's official scripts count them.

Follows evaluate-v1.1.py and evaluate-v2.0.py of the SQuAD explorer
(rajpurkar.github.io/SQuAD-explorer).
"""

import collections
from collections.abc import Callable, Sequence
import re
import string

from absl import logging
import numpy as np

from tf_pof.tasks.squad_files import SquadExample

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalize_answer(text: str) -> str:
    """Without case, ASCII punctuation, English articles and extra space."""
    text = text.lower().translate(_NO_PUNCTUATION)
    return " ".join(_ARTICLES.sub(" ", text).split())


def exact_match(prediction: str, answer: str) -> float:
    """1 if both are the same once normalised, else 0."""
    return float(normalize_answer(prediction) == normalize_answer(answer))


def f1_score(prediction: str, answer: str) -> float:
    """F1 in [0, 1] of the words, each counted as often as it occurs."""
    predicted = normalize_answer(prediction).split()
    expected = normalize_answer(answer).split()
    common = collections.Counter(predicted) & collections.Counter(expected)
    same = sum(common.values())
    if not same:
        return 0.0
    precision, recall = same / len(predicted), same / len(expected)
    return 2 * precision * recall / (precision + recall)


def f1_score_v2(prediction: str, answer: str) -> float:
    """`f1_score`, but 1 if there is no word on either side."""
    if normalize_answer(answer):
        return f1_score(prediction, answer)
    return exact_match(prediction, answer)


def _answers_v2(example: SquadExample) -> Sequence[str]:
    """What v2.0 accepts: an answer of only articles is none."""
    return [a for a in example.answers if normalize_answer(a)] or [""]


def _of_each(
    examples: Sequence[SquadExample],
    answers: Sequence[Sequence[str]],
    predictions: dict[str, str],
    metric: Callable[[str, str], float],
) -> np.ndarray:
    """[n] float64, the best over the answers; 0 without a prediction."""
    scores = np.zeros(len(examples))
    for i, example in enumerate(examples):
        prediction = predictions.get(example.id)
        if prediction is not None:
            scores[i] = max(metric(prediction, a) for a in answers[i])
    return scores


def unanswered(
    examples: Sequence[SquadExample], predictions: dict[str, str]
) -> list[str]:
    """Ids of the questions without a prediction; they score 0.

    Logs a warning if there are any.
    """
    missing = [e.id for e in examples if e.id not in predictions]
    if missing:
        logging.warning(
            "%d of %d questions have no prediction and score 0, first %s.",
            len(missing),
            len(examples),
            missing[0],
        )
    return missing


def evaluate_v1(
    examples: Sequence[SquadExample], predictions: dict[str, str]
) -> dict[str, float]:
    """Scores as evaluate-v1.1.py does.

    Args:
        examples: n questions with answers.
        predictions: texts by id; a question without one scores 0.

    Returns:
        "f1" and "exact_match" in percent, means over the questions.
    """
    unanswered(examples, predictions)
    answers = [e.answers for e in examples]
    metrics = {"f1": f1_score, "exact_match": exact_match}
    return {
        name: 100
        * float(_of_each(examples, answers, predictions, metric).mean())
        for name, metric in metrics.items()
    }


def evaluate_v2(
    examples: Sequence[SquadExample],
    predictions: dict[str, str],
    null_odds: dict[str, float] | None = None,
    non_null: dict[str, str] | None = None,
) -> dict[str, float]:
    """Scores as evaluate-v2.0.py does.

    Args:
        examples: n questions; those without answers expect "".
        predictions: texts by id, "" for "no answer"; a question without one
            scores 0 (the script leaves it out of the mean).
        null_odds: how much rather each question has no answer, by id.
        non_null: the best texts that are not empty, by id, which the best
            thresholds are looked for with: so the scores found are those
            that this threshold gives. By default the predictions, as in the
            script, which then cannot see what a higher threshold gives.

    Returns:
        In percent: "f1", "exact", the same over questions with answers
        ("HasAns_") and without ("NoAns_") if there are such, and with
        null_odds the best that a threshold on them gives ("best_f1",
        "best_exact") and those thresholds ("best_f1_thresh",
        "best_exact_thresh").
    """
    unanswered(examples, predictions)
    answerable = np.array([bool(e.answers) for e in examples])
    groups = (
        ("", np.ones_like(answerable)),
        ("HasAns_", answerable),
        ("NoAns_", ~answerable),
    )
    answers = [_answers_v2(e) for e in examples]
    metrics = {"f1": f1_score_v2, "exact": exact_match}
    each = {
        name: _of_each(examples, answers, predictions, metric)
        for name, metric in metrics.items()
    }
    scores = {
        group + name: 100 * float(values[rows].mean())
        for group, rows in groups
        if rows.any()
        for name, values in each.items()
    }
    if null_odds is not None:
        texts = predictions if non_null is None else non_null
        for name, metric in metrics.items():
            best, threshold = _best_threshold(
                np.where(
                    answerable,
                    _of_each(examples, answers, texts, metric),
                    [-float(bool(texts.get(e.id))) for e in examples],
                ),
                int((~answerable).sum()),
                np.array([null_odds.get(e.id, np.inf) for e in examples]),
            )
            scores[f"best_{name}"] = best
            scores[f"best_{name}_thresh"] = threshold
    return scores


def _best_threshold(
    gains: np.ndarray, start: int, odds: np.ndarray
) -> tuple[float, float]:
    """The best mean in percent and the odds up to which texts are given.

    Args:
        gains: [n] float64, what giving the text instead of "" adds.
        start: the score of giving none.
        odds: [n] float64, infinite where there is no text.
    """
    order = np.argsort(odds, kind="stable")
    order = order[np.isfinite(odds[order])]
    # The script calls the threshold at which no text is given 0.
    sums = start + np.concatenate([[0.0], np.cumsum(gains[order])])
    thresholds = np.concatenate([[0.0], odds[order]])
    best = int(np.argmax(sums))
    return 100 * float(sums[best]) / len(gains), float(thresholds[best])
