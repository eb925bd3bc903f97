"""Answers out of start and end logits.

Follows write_predictions in run_squad.py of google-research/bert: the best
pairs among the best starts and the best ends of each window, then the best
of all windows of a question. The texts are cut out of the context by the
exact characters of the tokens, so nothing has to be projected back
(get_final_text there).
"""

from collections.abc import Iterator, Sequence
import dataclasses

import numpy as np

from tf_pof.tasks.features import Features
from tf_pof.tasks.squad_features import Windows
from tf_pof.tasks.squad_files import SquadExample

# Windows that are searched together.
_CHUNK = 256
# The null score of a question without any window, as in run_squad.py.
_NO_WINDOW = 1e6


@dataclasses.dataclass(frozen=True)
class Answers:
    """What is predicted, by question id.

    Attributes:
        texts: the answer; "" is "no answer".
        n_best: candidates, best first: "text", "probability" among these
            candidates, "start_logit" and "end_logit".
        non_null: the best text that is not "no answer"; "" if there is none.
        null_odds: score of "no answer" less that of the best text; empty if
            every question has an answer (v1.1).
    """

    texts: dict[str, str]
    n_best: dict[str, list[dict]]
    non_null: dict[str, str]
    null_odds: dict[str, float]


def _top(
    logits: np.ndarray, allowed: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Columns of the largest logits and these, best first, [b, count]."""
    masked = np.where(allowed, logits, -np.inf).astype(np.float64)
    best = np.argsort(-masked, axis=1, kind="stable")[:, :count]
    return best, np.take_along_axis(masked, best, 1)


def _pairs(
    features: Features,
    outputs: dict[str, np.ndarray],
    n_best_size: int,
    max_answer_length: int,
) -> Iterator[tuple[np.ndarray, ...]]:
    """Yields valid pairs of some windows at a time.

    As arrays: row of the features, first and last position in the sequence,
    start and end logit.
    """
    windows: Windows = features.details
    columns = np.arange(outputs["start_logits"].shape[1])
    for begin in range(0, len(features), _CHUNK):
        rows = slice(begin, begin + _CHUNK)
        first, stop = windows.max_context[rows].T[:, :, None]
        context = features.second_starts[rows, None]
        # The last token is [SEP].
        length = features.lengths[rows, None] - 1
        start, start_logit = _top(
            outputs["start_logits"][rows],
            (columns >= first) & (columns < stop),
            n_best_size,
        )
        end, end_logit = _top(
            outputs["end_logits"][rows],
            (columns >= context) & (columns < length),
            n_best_size,
        )
        tokens = end[:, None, :] - start[:, :, None] + 1
        valid = (tokens >= 1) & (tokens <= max_answer_length)
        # What is not allowed stands at -inf; NaN is no score either.
        valid &= np.isfinite(start_logit)[:, :, None]
        valid &= np.isfinite(end_logit)[:, None, :]
        row, i, j = np.nonzero(valid)
        yield (
            (row + begin).astype(np.int32),
            start[row, i].astype(np.int32),
            end[row, j].astype(np.int32),
            start_logit[row, i],
            end_logit[row, j],
        )


def _softmax(scores: list[float]) -> np.ndarray:
    powers = np.exp(np.array(scores) - max(scores))
    return powers / powers.sum()


def _check(features: Features, outputs: dict[str, np.ndarray]) -> None:
    longest = int(features.lengths.max(initial=0))
    for name in ("start_logits", "end_logits"):
        shape = outputs[name].shape
        if len(shape) != 2 or shape[0] != len(features) or shape[1] < longest:
            raise ValueError(
                f"{name} has the shape {list(shape)}: give one row for each "
                f"of the {len(features)} features and at least {longest} "
                "columns."
            )


def decode(
    examples: Sequence[SquadExample],
    features: Features,
    outputs: dict[str, np.ndarray],
    n_best_size: int = 20,
    max_answer_length: int = 30,
    null_score_diff_threshold: float | None = None,
) -> Answers:
    """Predicts an answer to every question.

    A start must be where its window has the most context. A question
    without any valid pair is answered with "".

    Args:
        examples: the questions.
        features: of `squad_features.build`, with training=False.
        outputs: "start_logits" and "end_logits" [n, S] float32.
        n_best_size: starts, ends, and candidates in the result.
        max_answer_length: tokens.
        null_score_diff_threshold: "no answer" is predicted if its score, the
            least start[0] + end[0] of the windows, is higher than the best
            text's by more than this; None if every question has an answer.

    Raises:
        ValueError: if the outputs are not these features'.
    """
    _check(features, outputs)
    windows: Windows = features.details
    found = [
        np.concatenate(values)
        for values in zip(
            *_pairs(features, outputs, n_best_size, max_answer_length)
        )
    ] or [np.zeros(0, np.int32)] * 5
    row, start, end, start_logit, end_logit = found
    # Best first within a question; on a tie the earlier window and better
    # start.
    order = np.lexsort((-(start_logit + end_logit), windows.questions[row]))
    row, start, end, start_logit, end_logit = (v[order] for v in found)
    question = windows.questions[row]
    shift = (
        windows.tokens.splits[windows.contexts[row]]
        + windows.doc_starts[row]
        - features.second_starts[row]
    )
    edges = np.searchsorted(question, np.arange(len(examples) + 1)).tolist()
    begin = windows.tokens.starts[start + shift]
    stop = windows.tokens.ends[end + shift]
    nulls = {}
    if null_score_diff_threshold is not None:
        nulls = _null_logits(windows.questions, outputs)
    answers = Answers({}, {}, {}, {})
    for index, example in enumerate(examples):
        span = slice(edges[index], edges[index + 1])
        best: dict[str, tuple[float, float]] = {}
        for first, last, *logits in zip(
            *(v[span].tolist() for v in (begin, stop, start_logit, end_logit))
        ):
            best.setdefault(example.context[first:last], tuple(logits))
            if len(best) == n_best_size:
                break
        text, logits = next(iter(best.items()), ("", (0.0, 0.0)))
        best.setdefault(text, logits)
        answers.non_null[example.id] = text
        if null_score_diff_threshold is not None:
            null = nulls.get(index, (_NO_WINDOW, 0.0))
            odds = sum(null) - sum(logits)
            answers.null_odds[example.id] = odds
            best.setdefault("", null)
            if odds > null_score_diff_threshold:
                text = ""
        answers.texts[example.id] = text
        # Ranked by score: "no answer" stands where it belongs.
        ranked = sorted(best.items(), key=lambda item: -sum(item[1]))
        chances = _softmax([sum(logits) for _, logits in ranked])
        answers.n_best[example.id] = [
            {
                "text": candidate,
                "probability": chance,
                "start_logit": logits[0],
                "end_logit": logits[1],
            }
            for (candidate, logits), chance in zip(ranked, chances.tolist())
        ]
    return answers


def _null_logits(
    questions: np.ndarray, outputs: dict[str, np.ndarray]
) -> dict[int, tuple[float, float]]:
    """Start and end logit at [CLS] where their sum is least, by question."""
    start = outputs["start_logits"][:, 0].astype(np.float64)
    end = outputs["end_logits"][:, 0].astype(np.float64)
    order = np.lexsort((start + end, questions))
    asked, first = np.unique(questions[order], return_index=True)
    rows = order[first]
    return dict(
        zip(
            asked.tolist(),
            zip(start[rows].tolist(), end[rows].tolist()),
        )
    )
