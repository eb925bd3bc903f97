"""N-best answers, held against run_squad.py's way written out plainly."""

import numpy as np
import pytest

from tf_pof.data import sample
from tf_pof.data.tokenizer import WordPiece
from tf_pof.tasks import squad_decoding
from tf_pof.tasks import squad_features
from tf_pof.tasks.squad_files import SquadExample

CONTEXT = (
    "In 1895 the Café—an old mill—opened in the town of Ely. The mill closed "
    "in 1943, and its Embeddings went to the Museum of the town."
)
LENGTH = 20


@pytest.fixture(scope="module")
def tokenizer():
    return WordPiece(sample.vocab_path())


@pytest.fixture(scope="module")
def examples():
    contexts = [CONTEXT, "A cat sat.", " ", CONTEXT[::-1]]
    return [
        SquadExample(f"q{i}", "", "what is it ?", context, (), ())
        for i, context in enumerate(contexts)
    ]


@pytest.fixture(scope="module")
def features(tokenizer, examples):
    return squad_features.build(examples, tokenizer, LENGTH, 5, 64, False)


def random_outputs(features, seed, columns=LENGTH + 3):
    draw = np.random.default_rng(seed)
    shape = (len(features), columns)
    return {
        name: draw.normal(0, 3, shape).astype(np.float32)
        for name in ("start_logits", "end_logits")
    }


def reference(examples, features, outputs, n_best, longest, threshold=None):
    """For each question its text, [(text, start, end logit)] and odds."""
    results = {}
    details = features.details
    for index, example in enumerate(examples):
        pairs, null, nulls = [], 1e6, (1e6, 0.0)
        for row in np.flatnonzero(details.questions == index):
            starts = outputs["start_logits"][row].astype(float)
            ends = outputs["end_logits"][row].astype(float)
            if starts[0] + ends[0] < null:
                null, nulls = starts[0] + ends[0], (starts[0], ends[0])
            context = range(
                features.second_starts[row], features.lengths[row] - 1
            )
            best_starts = [
                c
                for c in sorted(context, key=lambda c: -starts[c])
                if details.max_context[row, 0]
                <= c
                < details.max_context[row, 1]
            ][:n_best]
            best_ends = sorted(context, key=lambda c: -ends[c])[:n_best]
            row_tokens = details.tokens.row(details.contexts[row])
            shift = details.doc_starts[row] - features.second_starts[row]
            for start in best_starts:
                for end in best_ends:
                    if end < start or end - start + 1 > longest:
                        continue
                    begin = details.tokens.starts[row_tokens][start + shift]
                    stop = details.tokens.ends[row_tokens][end + shift]
                    text = example.context[begin:stop]
                    pairs.append((text, starts[start], ends[end]))
        pairs.sort(key=lambda p: -(p[1] + p[2]))
        best = []
        for pair in pairs:
            if pair[0] not in [b[0] for b in best] and len(best) < n_best:
                best.append(pair)
        best = best or [("", 0.0, 0.0)]
        odds = null - best[0][1] - best[0][2]
        text = best[0][0]
        if threshold is not None:
            if "" not in [b[0] for b in best]:
                best.append(("", *nulls))
            if odds > threshold:
                text = ""
        best.sort(key=lambda p: -(p[1] + p[2]))
        results[example.id] = (text, best, odds)
    return results


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("threshold", [None, 0.0, 2.5])
@pytest.mark.parametrize("n_best, longest", [(20, 30), (4, 6), (1, 1)])
def test_answers_are_the_references(
    examples, features, seed, threshold, n_best, longest
):
    outputs = random_outputs(features, seed)
    found = squad_decoding.decode(
        examples, features, outputs, n_best, longest, threshold
    )
    expected = reference(
        examples, features, outputs, n_best, longest, threshold
    )
    for name, (text, best, odds) in expected.items():
        assert found.texts[name] == text
        n_best_found = found.n_best[name]
        assert [b["text"] for b in n_best_found] == [b[0] for b in best]
        scores = np.array(
            [[b["start_logit"], b["end_logit"]] for b in n_best_found]
        )
        np.testing.assert_allclose(scores, [b[1:] for b in best])
        powers = np.exp(scores.sum(1) - scores.sum(1).max())
        np.testing.assert_allclose(
            [b["probability"] for b in n_best_found], powers / powers.sum()
        )
        if threshold is not None:
            assert found.null_odds[name] == pytest.approx(odds)
    if threshold is None:
        assert not found.null_odds


def pointed(features, row, start, end, high=10.0):
    """Outputs that point at tokens of one window."""
    outputs = {
        name: np.zeros((len(features), LENGTH), np.float32)
        for name in ("start_logits", "end_logits")
    }
    outputs["start_logits"][row, start] = high
    outputs["end_logits"][row, end] = high
    return outputs


def test_the_text_is_cut_out_of_the_context_as_it_stands(examples, features):
    # [CLS] what is it ? [SEP] in 1895 the cafe — an old mill ...
    for start, end, text in (
        (7, 7, "1895"),
        (9, 9, "Café"),
        (8, 13, "the Café—an old mill"),
    ):
        found = squad_decoding.decode(
            examples, features, pointed(features, 0, start, end)
        )
        assert found.texts["q0"] == text
        assert found.n_best["q0"][0]["probability"] > 0.9


def test_an_answer_is_neither_turned_round_nor_too_long(examples, features):
    turned = pointed(features, 0, 9, 7)
    text = squad_decoding.decode(examples, features, turned).texts["q0"]
    # One of the two is kept; the other end is one that gets 0.
    assert text.startswith("Café") or text.endswith("1895")
    long = pointed(features, 0, 8, 13)
    texts = squad_decoding.decode(
        examples, features, long, max_answer_length=5
    ).texts
    assert texts["q0"] != "the Café—an old mill"


def test_question_padding_and_separators_are_never_answers(examples, features):
    for column in (0, 1, 5, LENGTH - 1):
        outputs = pointed(features, 1, column, column, 1000.0)
        row = int(np.flatnonzero(features.details.questions == 1)[0])
        for values in outputs.values():
            values[row, column] = 1000.0
        found = squad_decoding.decode(examples, features, outputs)
        assert found.texts["q1"] in "A cat sat."
        assert found.n_best["q1"][0]["start_logit"] == 0.0


def test_a_start_counts_only_where_its_window_has_most_context(
    examples, features
):
    details = features.details
    # The last token of window 0 that window 1 has more context for.
    column = int(details.max_context[0, 1])
    assert column < features.lengths[0] - 1
    outputs = pointed(features, 0, column, column)
    found = squad_decoding.decode(examples, features, outputs)
    assert found.n_best["q0"][0]["start_logit"] == 0.0
    same = column - int(details.doc_starts[1])
    outputs = pointed(features, 1, same, same)
    found = squad_decoding.decode(examples, features, outputs)
    assert found.n_best["q0"][0]["start_logit"] == 10.0


def test_no_answer_is_judged_by_the_window_least_in_favour(examples, features):
    outputs = pointed(features, 0, 7, 7, 2.0)  # "1895" has 4.
    rows = np.flatnonzero(features.details.questions == 0)
    for values in outputs.values():
        values[rows, 0] = 3.0  # "No answer" has 6 ...
    found = squad_decoding.decode(
        examples, features, outputs, null_score_diff_threshold=0.0
    )
    assert (found.texts["q0"], found.null_odds["q0"]) == ("", 2.0)
    assert found.non_null["q0"] == "1895"
    assert found.n_best["q0"][0]["text"] == ""
    outputs["start_logits"][rows[-1], 0] = 0.5  # ... but 3.5 in one window.
    found = squad_decoding.decode(
        examples, features, outputs, null_score_diff_threshold=0.0
    )
    assert (found.texts["q0"], found.null_odds["q0"]) == ("1895", -0.5)
    found = squad_decoding.decode(
        examples, features, outputs, null_score_diff_threshold=-0.5
    )
    assert found.texts["q0"] == "1895"  # It must exceed the threshold.


def test_what_has_no_window_or_no_number_is_answered_with_nothing(
    examples, features
):
    outputs = random_outputs(features, 0)
    for values in outputs.values():
        values[features.details.questions == 3] = np.nan
    for threshold in (None, 0.0):
        found = squad_decoding.decode(
            examples,
            features,
            outputs,
            null_score_diff_threshold=threshold,
        )
        assert found.texts["q2"] == "" and found.texts["q3"] == ""
        assert [b["text"] for b in found.n_best["q2"]] == [""]
        assert found.texts["q1"] != "" or threshold is not None


def test_outputs_must_belong_to_the_features(examples, features):
    outputs = random_outputs(features, 0)
    for wrong in (
        {**outputs, "end_logits": outputs["end_logits"][1:]},
        {**outputs, "start_logits": outputs["start_logits"][:, : LENGTH - 1]},
    ):
        with pytest.raises(ValueError, match="_logits has the shape .* give"):
            squad_decoding.decode(examples, features, wrong)
