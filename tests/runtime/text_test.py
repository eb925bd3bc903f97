"""Texts go in and labels or answers come out, as LiteRT alone computes them.

A dry run leaves all to LiteRT, so that what comes out is exact.
"""

from concurrent import futures

import numpy as np
import pytest
from ai_edge_litert import interpreter as litert

from tests.export import converted, exported
from tests.quantization import small
from tests.runtime import built
from tests.tasks import tiny
from tf_pof import runtime
from tf_pof.data.tokenizer import WordPiece
from tf_pof.export import archive, convert, metadata

SHORT, LONG = 8, 24
CONTEXT = "c d x e f"


@pytest.fixture(scope="module", autouse=True)
def library():
    return built.library()


@pytest.fixture(scope="module")
def vocab(tmp_path_factory):
    return tiny.write_vocabulary(tmp_path_factory.mktemp("vocab") / "v.txt")


@pytest.fixture(scope="module")
def write(tmp_path_factory, vocab):
    """Writes a .tflite that says of itself what is given besides."""

    def write(contents, model, lengths, vocab=vocab, **changes):
        described = metadata.details(model, lengths) | changes
        path = tmp_path_factory.mktemp("file") / "model.tflite"
        path.write_bytes(
            metadata.add(contents, metadata.About(), described, vocab)
        )
        return str(path)

    return write


@pytest.fixture(scope="module")
def sst2(write):
    made = exported.sst2()
    contents = convert.convert(made.model, [SHORT, LONG])
    return write(contents, made.model, [SHORT, LONG])


@pytest.fixture(scope="module")
def span(write):
    made = converted.make("span")
    return write(made.contents, made.model, [12], batch_size=2)


def probabilities(path, vocab, length, text, pair=None):
    """By LiteRT alone, in the signature of a length."""
    pairs = None if pair is None else [pair]
    inputs = WordPiece(vocab).encode([text], length, pairs)
    runner = litert.Interpreter(path).get_signature_runner(f"seq_{length}")
    powers = np.exp(runner(**inputs)["logits"][0].astype(np.float64))
    return powers / powers.sum()


CASES = [
    ("x", None, SHORT),
    # [CLS] and [SEP] make it 8, and 9.
    ("c d e f g h", None, SHORT),
    ("c d e f g h i", None, LONG),
    ("x d", "e y", SHORT),
    ("x d e f", "e y", LONG),
    ("", None, SHORT),
]


@pytest.mark.parametrize("text, pair, length", CASES)
def test_texts_get_the_probabilities_of_the_shortest_signature(
    sst2, vocab, text, pair, length
):
    classifier = runtime.TextClassifier(sst2, dry_run=True)
    found = classifier(text, pair)
    expected = probabilities(sst2, vocab, length, text, pair)
    assert list(found) == ["negative", "positive"] == classifier.labels
    np.testing.assert_allclose(list(found.values()), expected, rtol=1e-12)


def test_several_texts_keep_their_order(sst2):
    classifier = runtime.TextClassifier(sst2, batch_size=2, dry_run=True)
    texts = ["c d e f g h i x", "y", "x d", "c", "y c d e f g h i k"]
    found = classifier(texts)
    assert found == [classifier(text) for text in texts]
    assert len({tuple(f.values()) for f in found}) > 1
    assert classifier([]) == []
    pairs = classifier(texts, texts[::-1])
    assert pairs[1] == classifier(texts[1], texts[3])
    with pytest.raises(ValueError, match="5 texts came with 1 pairs"):
        classifier(texts, ["x"])


def test_long_texts_are_cut_at_their_end(sst2):
    classifier = runtime.TextClassifier(sst2, dry_run=True)
    words = "c d e f g h i k l m n".split() * 2
    assert classifier(" ".join(words + ["x"] * 9)) == classifier(
        " ".join(words)
    )


def test_the_delegate_computes_the_same(sst2):
    expected = runtime.TextClassifier(sst2, dry_run=True)
    found = runtime.TextClassifier(sst2, num_threads=2)
    for text in ("x", "c d e f y g h i"):
        assert found(text) == pytest.approx(expected(text), abs=0.05)


def test_scores_and_classes_without_names(write):
    model = small.calibrated(small.model(num_labels=1))
    path = write(convert.convert(model, [SHORT]), model, [SHORT])
    classifier = runtime.TextClassifier(path, dry_run=True)
    inputs = WordPiece(_vocabulary(path)).encode(["x c"], SHORT)
    runner = litert.Interpreter(path).get_signature_runner()
    ((expected,),) = runner(**inputs)["logits"].tolist()
    assert classifier("x c") == {"score": expected}
    made = converted.make("classifier")
    path = write(made.contents, made.model, [8, 12])
    found = runtime.TextClassifier(path, dry_run=True)("x")
    assert list(found) == ["LABEL_0", "LABEL_1", "LABEL_2"]
    assert sum(found.values()) == pytest.approx(1)


def _vocabulary(path):
    """The vocabulary in a file, as a file of its own."""
    from pathlib import Path

    target = Path(path).with_suffix(".txt")
    target.write_bytes(archive.read(Path(path).read_bytes())["vocab.txt"])
    return str(target)


def test_an_answer_is_the_span_with_the_best_logits(span, vocab):
    answer = runtime.QuestionAnswerer(span, dry_run=True)("o ?", CONTEXT)
    # [CLS] question [SEP] context [SEP]; "?" is not in the vocabulary.
    inputs = WordPiece(vocab).encode(["o ?"] * 2, 12, [CONTEXT] * 2)
    assert inputs["segment_ids"][0].tolist() == [0] * 4 + [1] * 6 + [0] * 2
    outputs = litert.Interpreter(span).get_signature_runner()(**inputs)
    start = outputs["start_logits"][0].astype(np.float64)
    end = outputs["end_logits"][0].astype(np.float64)
    words, scores = CONTEXT.split(), {}
    for i in range(5):
        for j in range(i, 5):
            scores[" ".join(words[i : j + 1])] = start[4 + i] + end[4 + j]
    best = max(scores, key=scores.get)
    assert answer.text == best
    assert answer.candidates[0]["text"] == best
    assert len(answer.candidates) == len(scores) == 15
    powers = np.exp(np.array(list(scores.values())))
    expected = np.exp(scores[best]) / powers.sum()
    assert answer.probability == pytest.approx(expected)


def test_long_contexts_and_several_questions(span):
    answerer = runtime.QuestionAnswerer(span, dry_run=True)
    context = " ".join("c d e f g h i k l m n o x".split() * 4)
    short, long, none = answerer(["o"] * 3, [CONTEXT, context, ""])
    assert short == answerer("o", CONTEXT)
    assert long.text and long.text in context
    # Windows of 8 tokens, so a candidate may be anywhere.
    assert max(len(c["text"].split()) for c in long.candidates) <= 8
    assert none.text == "" and none.probability == 1
    assert answerer([], []) == []
    with pytest.raises(ValueError, match="1 questions came with 2 contexts"):
        answerer(["o"], [CONTEXT, context])
    # More of the question than there is room for is cut off.
    assert answerer("o " * 50, CONTEXT).text in CONTEXT


def test_no_answer_is_one_where_the_task_has_it(write):
    made = converted.make("span")
    texts = set()
    for threshold in (-1e4, 1e4):
        task = {"name": "squad_v2", "null_score_diff_threshold": threshold}
        path = write(made.contents, made.model, [12], batch_size=2, task=task)
        answer = runtime.QuestionAnswerer(path, dry_run=True)("o", CONTEXT)
        texts.add(answer.text)
        assert "" in [c["text"] for c in answer.candidates]
    assert "" in texts and len(texts) == 2


def test_other_files_are_refused(sst2, span, write, tmp_path):
    with pytest.raises(ValueError, match="span head.*TextClassifier.*class"):
        runtime.TextClassifier(span)
    with pytest.raises(ValueError, match="classifier head.*QuestionAnswerer"):
        runtime.QuestionAnswerer(sst2)
    with pytest.raises(FileNotFoundError, match="nowhere.tflite"):
        runtime.TextClassifier(tmp_path / "nowhere.tflite")
    made = converted.make("classifier")
    path = write(made.contents, made.model, [8, 12], vocab=None)
    with pytest.raises(ValueError, match="no vocabulary: .*--vocab"):
        runtime.TextClassifier(path)


def test_what_is_no_text_is_refused(sst2, span):
    classifier = runtime.TextClassifier(sst2, dry_run=True)
    for texts in (b"x", None, 3, [b"x"], ["x", None], [["x"]]):
        with pytest.raises(TypeError, match="texts must be a list of strings"):
            classifier(texts)
    # Letters would be pairs of their own.
    with pytest.raises(TypeError, match="pairs must be a list .* not str"):
        classifier(["x", "y"], "cd")
    with pytest.raises(TypeError, match="pairs must be one string.* not list"):
        classifier("x", ["c"])
    answerer = runtime.QuestionAnswerer(span, dry_run=True)
    with pytest.raises(TypeError, match="contexts must be a list .* not str"):
        answerer(["o"], "x")
    with pytest.raises(TypeError, match="contexts must be one string"):
        answerer("o", [CONTEXT])
    with pytest.raises(TypeError, match="questions must be .* not bytes"):
        answerer(b"o", CONTEXT)


def test_wrong_options_are_refused(sst2):
    for size in (0, -1, "3", None):
        with pytest.raises(ValueError, match="batch_size must be an integer"):
            runtime.TextClassifier(sst2, batch_size=size)
    for make in (runtime.TextClassifier, runtime.Interpreter):
        with pytest.raises(TypeError, match="take num_threads, not threads"):
            make(sst2, threads=2)


def test_threads_that_share_a_model_get_their_own_answers(sst2):
    classifier = runtime.TextClassifier(sst2, batch_size=2, dry_run=True)
    texts = [" ".join("cdxefo"[i % 6 : i % 6 + 3]) * (i % 9) for i in range(40)]
    expected = [classifier(text) for text in texts]
    assert len({tuple(x.values()) for x in expected}) > 8
    with futures.ThreadPoolExecutor(8) as pool:
        for _ in range(5):
            assert list(pool.map(classifier, texts)) == expected
