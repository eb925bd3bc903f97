"""Both splits get text, and true next sentences, however it is cut up."""

from hypothesis import given, settings, strategies as st
import numpy as np
import pytest

from tf_pof.data import examples
from tf_pof.data import plan
from tf_pof.data import tokenized
from tf_pof.data import work
from tf_pof.data.examples import PairOptions


def _job(fraction, **arguments):
    return work.Job(
        "w", "v", True, "line", PairOptions(64), fraction, 4, 0, **arguments
    )


def _reports(pieces, held_out=()):
    """pieces: for each the (draw, tokens) of its documents."""
    reports = []
    for number, documents in enumerate(pieces):
        chosen = [(number, i) in held_out for i in range(len(documents))]
        reports.append(
            work.PieceReport(
                number=number,
                parts=[],
                totals={
                    "tokens": sum(tokens for _, tokens in documents),
                    "train_documents": len(chosen) - sum(chosen),
                    "validation_documents": sum(chosen),
                    "validation_tokens": sum(
                        tokens
                        for (_, tokens), is_chosen in zip(documents, chosen)
                        if is_chosen
                    ),
                },
                lowest=[
                    work.Candidate(draw=draw, document=i, tokens=tokens)
                    for i, (draw, tokens) in enumerate(documents)
                ],
            )
        )
    return reports


def _settled(fraction, pieces, held_out=()):
    job = plan.settle_split(_job(fraction), _reports(pieces, held_out))
    if job.held_out is None:
        return None
    return [(h.piece, h.document, h.tokens) for h in job.held_out]


def test_a_split_with_documents_on_both_sides_stays():
    pieces = [[(0.01, 10), (0.5, 10), (0.9, 10)]]
    assert _settled(0.05, pieces, [(0, 0)]) is None
    assert _settled(0.0, pieces) is None


def test_whole_documents_are_taken_in_the_order_of_their_draws():
    # A tenth of 100 tokens: one document of ten.
    pieces = [[(0.9, 10)] * 5, [(0.7, 10), (0.3, 10), *[(0.8, 10)] * 3]]
    assert _settled(0.1, pieces) == [(1, 1, None)]
    # A quarter, 25: three of them.
    first, second, third = _settled(0.25, pieces)
    assert (first, second) == ((1, 1, None), (1, 0, None))
    assert third[2] is None


def test_a_document_that_is_far_too_large_gives_its_end():
    # .05 of 2000 tokens.
    pieces = [[(0.1, 1800), (0.2, 100), (0.3, 100)]]
    assert _settled(0.05, pieces) == [(0, 0, 100)]
    assert _settled(0.05, [[(0.1, 1000)]]) == [(0, 0, 50)]


def test_training_keeps_two_documents():
    # Validation has taken one of two, or both.
    pieces = [[(0.01, 100), (0.04, 100)]]
    assert _settled(0.05, pieces, [(0, 0)]) == [(0, 0, 10)]
    assert _settled(0.05, pieces, [(0, 0), (0, 1)]) == [(0, 0, 10)]
    # A document of a token has no end to give.
    assert _settled(0.5, [[(0.1, 1), (0.2, 9)]]) == [(0, 1, 5)]


def test_few_documents_are_split_by_their_sizes():
    # The hash has chosen the long one of three, or the shortest.
    pieces = [[(0.01, 1000), (0.2, 50), (0.3, 50)]]
    assert _settled(0.05, pieces, [(0, 0)]) == [(0, 0, 55)]
    pieces = [[(0.01, 3), (0.2, 700), (0.3, 300)]]
    assert _settled(0.05, pieces, [(0, 0)]) == [(0, 0, None), (0, 1, 48)]
    # Many are not looked into.
    pieces = [[(0.01, 3), *[(0.5, 100)] * 16]]
    assert _settled(0.05, pieces, [(0, 0)]) is None


def test_says_that_there_is_too_little_text():
    with pytest.raises(ValueError, match="too little text .* validation"):
        _settled(0.05, [[(0.1, 1), (0.2, 1)]])
    with pytest.raises(ValueError, match="holds no text"):
        _settled(0.05, [[]])


def _documents(shapes):
    lengths = [length for shape in shapes for length in shape]
    return tokenized.Documents(
        np.arange(sum(lengths), dtype=np.int32),
        np.array(lengths, np.int64),
        np.array([len(shape) for shape in shapes], np.int64),
        np.arange(1, len(shapes) + 1, dtype=np.uint64),
    )


@settings(max_examples=200)
@given(st.data())
def test_cutting_a_document_keeps_all_others_and_all_text(data):
    shapes = data.draw(
        st.lists(
            st.lists(st.integers(0, 9), min_size=1, max_size=6),
            min_size=1,
            max_size=4,
        ).filter(lambda shapes: max(map(sum, shapes)) > 1)
    )
    index = data.draw(
        st.sampled_from([i for i, s in enumerate(shapes) if sum(s) > 1])
    )
    total = sum(shapes[index])
    tokens = data.draw(st.integers(1, total - 1))
    before = _documents(shapes)
    found = before.cut(index, tokens)
    counts = [sum(shape) for shape in shapes]
    [*first, head, tail] = found.token_counts()[: index + 2].tolist()
    assert first == counts[:index]
    assert found.token_counts()[index + 2 :].tolist() == counts[index + 1 :]
    assert head + tail == total and head > 0 and tail >= tokens
    # At a sentence's beginning, unless that takes more than half of the rest.
    starts = np.cumsum(shapes[index])[:-1].tolist()
    assert tail == tokens or head in starts
    assert 2 * tail <= tokens + total
    assert found.sentence_lengths.sum() == before.sentence_lengths.sum()
    assert found.sentence_counts.sum() == len(found.sentence_lengths)
    assert found.token_ids is before.token_ids
    assert len(set(found.seeds.tolist())) == len(shapes) + 1


def _random_share(shapes, length=64):
    made = examples.build(_documents(shapes), PairOptions(length), -1, -2)
    return made.next_sentence_label.mean()


@pytest.mark.parametrize(
    "shapes",
    [
        [[12]] * 400,  # a sentence a document
        [[12], [9, 4]] * 200,
        [[5000]] * 5,  # no end of a sentence anywhere
        [[70, 90, 100] * 20] * 5,  # sentences longer than an example
    ],
)
def test_not_all_next_sentences_are_random(shapes):
    """With two halves left of a sentence, 1 / (1 + 2) of the pairs follow.

    A chunk of two sentences gives one true pair, or one random pair and its
    second sentence, which has nothing behind it, another.
    """
    assert 0.45 < _random_share(shapes) < 0.75


def test_usual_sentences_are_not_cut():
    bounds, _ = _documents([[12, 9, 20]] * 10).boundaries(61)
    assert not examples._mostly_alone(bounds, 61)
    # Two in a document: half of them are followed.
    bounds, _ = _documents([[12, 9]] * 10).boundaries(61)
    assert not examples._mostly_alone(bounds, 61)


@pytest.mark.parametrize("shape", [[1], [2], [30], [20, 1], [9, 9]])
def test_an_only_short_document_has_no_false_labels(shape):
    """A random segment of it would be the first one or what follows it."""
    made = examples.build(_documents([shape]), PairOptions(64, 0), -1, -2)
    assert not made.next_sentence_label.any()
    text = made.token_ids[made.token_ids >= 0].tolist()
    assert text == list(range(sum(shape)))
