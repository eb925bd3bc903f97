"""SQuAD's questions and contexts as a BERT reads them.

Follows run_squad.py of google-research/bert: [CLS] question [SEP] window
[SEP], where windows of the context begin every `doc_stride` tokens. A window
that does not hold the whole answer has both targets at [CLS], as there.
Answers are aligned by characters instead of by words, so there is no search
for a better span.
"""

from collections.abc import Sequence
import dataclasses
import functools

import numpy as np

from tf_pof.data import offsets
from tf_pof.data.tokenizer import WordPiece
from tf_pof.tasks import squad_answers
from tf_pof.tasks.features import Features
from tf_pof.tasks.squad_files import SquadExample
from tf_pof.tasks.text_files import quoted


@dataclasses.dataclass(frozen=True)
class Windows:
    """Where in its context each of n features looks.

    Attributes:
        questions: [n] int32, index of the example; never falls.
        contexts: [n] int32, row of `tokens`.
        doc_starts: [n] int32, token of the context that the window begins
            with.
        max_context: [n, 2] int32; at the positions from the first up to the
            second of the sequence no other window has more context.
        tokens: of the different contexts.
        moved: questions whose answer was found elsewhere in the context.
        missing: ids of questions whose answer is not in the context.
        shortened: questions that lost tokens from their end.
    """

    questions: np.ndarray
    contexts: np.ndarray
    doc_starts: np.ndarray
    max_context: np.ndarray
    tokens: offsets.OffsetTokens
    moved: int
    missing: tuple[str, ...]
    shortened: int


@functools.lru_cache(maxsize=4096)
def _cut(total: int, size: int, stride: int) -> list[tuple[int, ...]]:
    """Windows of a context of `total` tokens.

    Returns:
        For each window its first token and its length, and the tokens of
        the context from which on and up to which it is the window with the
        most context: min(left, right) + 0.01 length, the first on a tie.
        (They are neighbours: the score of a later window less that of an
        earlier one never falls along the context.)
    """
    starts, lengths = [], []
    start = 0
    while start < total:
        lengths.append(min(total - start, size))
        starts.append(start)
        if start + lengths[-1] == total:
            break
        start += min(lengths[-1], stride)
    best = np.full(total, -np.inf)
    owner = np.zeros(total, np.int64)
    for window, (start, length) in enumerate(zip(starts, lengths)):
        left = np.arange(length)
        score = np.minimum(left, left[::-1]) + 0.01 * length
        span = slice(start, start + length)
        better = score > best[span]
        best[span][better] = score[better]
        owner[span][better] = window
    ends = np.cumsum(np.bincount(owner, minlength=len(starts))).tolist()
    return list(zip(starts, lengths, [0, *ends[:-1]], ends))


def _answer_tokens(
    example: SquadExample, tokens: offsets.OffsetTokens, row: slice
) -> tuple[int, int, bool] | None:
    """First and last token of the first answer, and whether it was moved.

    They are the fewest tokens that hold all characters of the answer. None
    if it is not in the context.
    """
    text, stated = example.answers[0], example.answer_starts[0]
    place = squad_answers.locate(example.context, text, stated)
    if place is None:
        return None
    start, stop = place
    first = np.searchsorted(tokens.ends[row], start, "right")
    last = np.searchsorted(tokens.starts[row], stop, "left") - 1
    # Characters without tokens (controls) cannot be pointed at.
    if first > last:
        return None
    moved = start != stated or example.context[start:stop] != text
    return int(first), int(last), moved


def build(
    examples: Sequence[SquadExample],
    tokenizer: WordPiece,
    sequence_length: int,
    doc_stride: int,
    max_query_length: int,
    training: bool,
) -> Features:
    """Features of all windows, in the order of the examples.

    Args:
        examples: questions.
        tokenizer: of the model's vocabulary.
        sequence_length: tokens of a sequence at most.
        doc_stride: tokens between the beginnings of windows.
        max_query_length: tokens of a question at most; more are cut off.
        training: whether targets are needed. Then questions whose (first)
            answer is not in the context are left out.

    Returns:
        Features with `Windows` as details. A context without any token has
        none.

    Raises:
        ValueError: if a question leaves no room for its context.
    """
    rows = {}
    for example in examples:
        rows.setdefault(example.context, len(rows))
    tokens = offsets.tokenize(tokenizer, list(rows))
    found = tokenizer.tokenize_strings([e.question for e in examples])
    queries = np.split(found.flat_values.numpy(), found.row_splits[1:-1])
    cls, sep = ([i] for i in (tokenizer.cls_id, tokenizer.sep_id))

    sequences, second_starts, targets = [], [], []
    places, max_context = [], []
    moved = shortened = 0
    missing = []
    for index, (example, query) in enumerate(zip(examples, queries)):
        shortened += len(query) > max_query_length
        query = query[:max_query_length]
        room = sequence_length - len(query) - 3
        if room < 1:
            raise ValueError(
                f"Question {quoted(example.id)} has {len(query)} tokens, which "
                "leaves no room for its context in sequences of "
                f"{sequence_length}: raise --sequence_length or lower "
                "--max_query_length."
            )
        context = rows[example.context]
        row = tokens.row(context)
        answer = None
        if example.answers:
            answer = _answer_tokens(example, tokens, row)
            moved += answer is not None and answer[2]
            if answer is None:
                missing.append(example.id)
                if training:
                    continue
        head = np.concatenate([cls, query, sep])
        for start, length, *span in _cut(
            row.stop - row.start, room, doc_stride
        ):
            begin = row.start + start
            sequences.append(
                np.concatenate(
                    [head, tokens.token_ids[begin : begin + length], sep]
                )
            )
            second_starts.append(len(head))
            places.append((index, context, start))
            max_context.append([len(head) + i - start for i in span])
            target = (0, 0)
            if (
                answer is not None
                and start <= answer[0]
                and answer[1] < start + length
            ):
                target = [len(head) + i - start for i in answer[:2]]
            targets.append(target)
    place = np.array(places, np.int32).reshape(-1, 3)
    target = np.array(targets, np.int32).reshape(-1, 2)
    return Features.pack(
        sequences,
        second_starts,
        {"start_logits": target[:, 0], "end_logits": target[:, 1]}
        if training
        else {},
        Windows(
            *place.T,
            np.array(max_context, np.int32).reshape(-1, 2),
            tokens,
            moved,
            tuple(missing),
            shortened,
        ),
    )
