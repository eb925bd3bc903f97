"""Windows and targets, held against run_squad.py written out plainly."""

import dataclasses

from hypothesis import given, settings, strategies as st
import numpy as np
import pytest

from tf_pof.data import sample
from tf_pof.data.tokenizer import WordPiece
from tf_pof.tasks import squad_features
from tf_pof.tasks.squad_files import SquadExample

WORDS = (
    "the men of the old town went to the river and met a king with two "
    "young sons who had come from far away by night"
).split()
CONTEXT = " ".join(WORDS)


@pytest.fixture(scope="module")
def tokenizer():
    return WordPiece(sample.vocab_path())


def example(answer, question="who met a king ?", context=CONTEXT, start=None):
    """A question with one answer, or with none."""
    if answer is None:
        return SquadExample("q", "", question, context, (), ())
    start = context.find(answer) if start is None else start
    return SquadExample("q", "", question, context, (answer,), (start,))


def build(tokenizer, examples, length=16, stride=4, query=64, training=True):
    return squad_features.build(
        examples, tokenizer, length, stride, query, training
    )


def words(tokenizer, features):
    """The tokens of each sequence."""
    return [
        [tokenizer.vocabulary[i] for i in features.token_ids[start:end]]
        for start, end in zip(features.starts, features.starts[1:])
    ]


def reference_windows(total, size, stride):
    """[(start, length, tokens with the most context)]."""
    spans, start = [], 0
    while start < total:
        length = min(total - start, size)
        spans.append((start, length))
        if start + length == total:
            break
        start += min(length, stride)
    owned = [[] for _ in spans]
    for position in range(total):
        best_score, best = None, None
        for index, (start, length) in enumerate(spans):
            end = start + length - 1
            if not start <= position <= end:
                continue
            score = min(position - start, end - position) + 0.01 * length
            if best_score is None or score > best_score:
                best_score, best = score, index
        owned[best].append(position)
    return [(*span, tokens) for span, tokens in zip(spans, owned)]


@settings(deadline=None, max_examples=200)
@given(st.integers(1, 900), st.integers(1, 400), st.integers(1, 300))
def test_windows_and_their_context_are_the_references(total, size, stride):
    stride = max(stride, total // 60)  # Keeps the plain loop short.
    found = squad_features._cut(total, size, stride)
    expected = reference_windows(total, size, stride)
    assert len(found) == len(expected)
    for (start, length, first, last), window in zip(found, expected):
        assert (start, length, list(range(first, last))) == window


def test_a_window_is_cls_question_sep_context_sep(tokenizer):
    features = build(tokenizer, [example("two young sons")])
    # 16 - 5 words of the question - 3 = 8 tokens of the context, every 4.
    head = ["[CLS]", "who", "met", "a", "king", "?", "[SEP]"]
    assert len(WORDS) == 26
    assert words(tokenizer, features) == [
        [*head, *WORDS[start : start + 8], "[SEP]"]
        for start in (0, 4, 8, 12, 16, 20)
    ]
    assert features.second_starts.tolist() == [7] * 6
    assert features.details.doc_starts.tolist() == [0, 4, 8, 12, 16, 20]
    inputs = features.inputs(np.array([5]), 16)
    assert inputs["segment_ids"].tolist() == [[0] * 7 + [1] * 7 + [0] * 2]
    assert inputs["padding_mask"].tolist() == [[1] * 14 + [0] * 2]


def test_targets_are_the_answer_or_cls_where_it_is_not_whole(tokenizer):
    assert WORDS[15:18] == ["two", "young", "sons"]
    features = build(tokenizer, [example("two young sons")])
    # Windows 8..16 and 12..20: only the second holds words 15 to 17.
    assert features.targets["start_logits"].tolist() == [0, 0, 0, 10, 0, 0]
    assert features.targets["end_logits"].tolist() == [0, 0, 0, 12, 0, 0]
    assert words(tokenizer, features)[3][10:13] == ["two", "young", "sons"]
    # Word 15 ends the window 8..16; the answer goes on.
    features = build(tokenizer, [example("two young")])
    assert features.targets["end_logits"].tolist() == [0, 0, 0, 11, 0, 0]


def test_targets_are_the_fewest_tokens_that_hold_the_answer(tokenizer):
    context = "John Smith (1895-1943) liked Embeddings."
    for answer, expected in (
        ("1895", ["1895"]),
        ("1895-1943", ["1895", "-", "1943"]),
        ("(1895-1943)", ["(", "1895", "-", "1943", ")"]),
        ("Smit", ["smith"]),
        ("ohn Smith", ["john", "smith"]),
        ("Embed", ["em", "##bed"]),
        ("bed", ["##bed"]),
    ):
        features = build(
            tokenizer, [example(answer, "who ?", context)], 32, 16
        )
        start, end = (int(t[0]) for t in features.targets.values())
        found = words(tokenizer, features)[0][start : end + 1]
        assert found == expected, answer


def test_a_question_without_an_answer_points_at_cls(tokenizer):
    features = build(tokenizer, [example(None)])
    assert len(features) == 6
    assert not features.targets["start_logits"].any()
    assert not features.targets["end_logits"].any()
    assert features.details.missing == ()


def test_answers_that_are_not_there_are_counted_and_left_out(tokenizer):
    questions = [
        example("two young", start=0),  # Elsewhere, once.
        example("the", start=5),  # Elsewhere, more than once.
        example("a queen", start=3),
        example("", start=3),
        example(" ", start=3),
        example("the men", start=-len(CONTEXT)),
        example("far away"),
        example("\u200b", "who ?", "the \u200b king"),  # Not in any token.
    ]
    features = build(tokenizer, questions, 64, 16)
    details = features.details
    assert details.questions.tolist() == [0, 5, 6]
    assert details.moved == 2 and len(details.missing) == 5
    assert features.targets["start_logits"].tolist() == [
        7 + WORDS.index("two"),
        7,
        7 + WORDS.index("far"),
    ]
    # They must be answered all the same.
    features = build(tokenizer, questions, 64, 16, training=False)
    assert features.details.questions.tolist() == list(range(8))
    assert features.targets == {}


def test_answers_counted_otherwise_are_learned_and_counted(tokenizer):
    context = "\U0001f600 the king met the  queen in caf\xe9s"
    at = context.rindex("the")
    questions = [
        # UTF-16 counts the face twice; "the" alone stands in two places.
        example("the  queen", context=context, start=at + 1),
        example("the", context=context, start=at + 1),
        example("the queen", context=context, start=at),
        example("cafe\u0301s", context=context, start=0),
    ]
    features = build(tokenizer, questions, 64, 16)
    assert (features.details.moved, features.details.missing) == (4, ())
    found = [
        row[start : end + 1]
        for row, start, end in zip(
            words(tokenizer, features), *features.targets.values()
        )
    ]
    assert found[:3] == [["the", "queen"], ["the"], ["the", "queen"]]
    assert "".join(found[3]).replace("#", "") == "cafes"
    begins = features.targets["start_logits"]
    assert begins[0] == begins[1] == begins[2]


def test_the_first_answer_is_learnt(tokenizer):
    question = dataclasses.replace(
        example("two"), answers=("king", "two"), answer_starts=(52, 62)
    )
    assert CONTEXT[52:56] == "king"
    features = build(tokenizer, [question], 64, 16)
    start = features.targets["start_logits"][0]
    assert words(tokenizer, features)[0][start] == "king"


def test_long_questions_are_cut_and_counted(tokenizer):
    questions = [example("king"), example("king", "who met ?")]
    features = build(tokenizer, questions, 64, 16, query=3)
    found = words(tokenizer, features)
    assert found[0][:5] == ["[CLS]", "who", "met", "a", "[SEP]"]
    assert found[1][:5] == ["[CLS]", "who", "met", "?", "[SEP]"]
    assert features.details.shortened == 1


def test_a_sequence_must_have_room_for_the_context(tokenizer):
    assert len(build(tokenizer, [example("king")], 9)) == len(WORDS)
    with pytest.raises(ValueError, match='Question "q" has 5 tokens, .* 8: '):
        build(tokenizer, [example("king")], 8)


def test_contexts_are_tokenized_once_and_empty_ones_have_no_window(tokenizer):
    questions = [
        example("king"),
        example(None, "why ?", " "),
        example("two"),
        example("cat", "why ?", "cat"),
    ]
    features = build(tokenizer, questions, 64, 16, training=False)
    details = features.details
    assert details.questions.tolist() == [0, 2, 3]
    assert details.contexts.tolist() == [0, 0, 2]
    assert len(details.tokens.token_ids) == len(WORDS) + 1
    assert len(build(tokenizer, [], training=False)) == 0


def test_max_context_is_in_positions_of_the_sequence(tokenizer):
    features = build(tokenizer, [example("king")])
    for index, (start, _, tokens) in enumerate(reference_windows(26, 8, 4)):
        first, last = features.details.max_context[index]
        assert list(range(first, last)) == [7 + t - start for t in tokens]
