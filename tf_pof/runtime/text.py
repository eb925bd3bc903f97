"""Text in, answers out, from a .tflite with its vocabulary and labels in it.

Threads may share a model. Its interpreter computes one batch at a time, so a
thread waits for the batch of another; texts become ids, and logits answers, in
parallel. Threads that shall not wait open the file once each, which costs the
memory of activations: packed weights are shared.
"""

from collections.abc import Iterable, Sequence
import dataclasses
import os
import tempfile
import threading
from typing import Any

import numpy as np
from scipy import special

from tf_pof.export.evaluation import ScoredFile
from tf_pof.runtime import library
from tf_pof.tasks import evaluation, squad_decoding, squad_features
from tf_pof.tasks.features import Features
from tf_pof.tasks.squad_files import SquadExample

# Of [CLS] question [SEP] context [SEP]: the least that holds a context.
_ROOM = 4
_DEFAULTS = {
    "doc_stride": 128,
    "max_query_length": 64,
    "n_best_size": 20,
    "max_answer_length": 30,
}


class _TextModel:
    """A .tflite with its tokenizer.

    Args:
        path: of a file of bin/export_tflite.
        head: that it must have.
        num_threads: that it computes with.
        batch_size: sequences computed together.
        **options: of `delegate`.

    Raises:
        FileNotFoundError: if there is no such file, or no delegate.
        ValueError: if it is corrupt, has another head or no vocabulary, or an
            option is wrong.
    """

    head: str

    def __init__(
        self,
        path: str | os.PathLike,
        num_threads: int = 1,
        batch_size: int = 32,
        **options: Any,
    ):
        name = os.fspath(path)
        if not isinstance(batch_size, int) or batch_size < 1:
            raise ValueError(
                f"batch_size must be an integer from 1, not {batch_size!r}."
            )
        delegate = library.for_interpreter(num_threads, options)
        with tempfile.TemporaryDirectory(prefix="tf_pof_") as folder:
            self._model = ScoredFile(
                name, folder, num_threads=num_threads, delegates=[delegate]
            )
            if self._model.head != self.head:
                raise ValueError(
                    f"{name} has a {self._model.head} head, and "
                    f"{type(self).__name__} runs models with a {self.head} "
                    "head: take the other class of tf_pof.runtime."
                )
            if self._model.vocab_file is None:
                raise ValueError(
                    f"{name} holds no vocabulary: export it anew with --vocab."
                )
            self._tokenizer = evaluation.load_tokenizer(name, self._model)
        self._lengths = self._model.sequence_lengths
        self._batch_size = batch_size
        self._computing = threading.Lock()

    def _outputs(self, features: Features) -> dict[str, np.ndarray]:
        """Logits of all sequences, each in the shortest signature it fits.

        Returns:
            float32 by name: [n, num_labels], or [n, S] with S the longest
            signature, 0 beyond a sequence's.
        """
        outputs = {}
        signatures = np.searchsorted(self._lengths, features.lengths)
        for index, length in enumerate(self._lengths):
            fitting = np.flatnonzero(signatures == index)
            for i in range(0, len(fitting), self._batch_size):
                rows = fitting[i : i + self._batch_size]
                inputs = features.inputs(rows, length)
                with self._computing:
                    found = self._model(inputs)
                for name, values in found.items():
                    width = values.shape[1]
                    if name != "logits":
                        width = self._lengths[-1]
                    if name not in outputs:
                        shape = len(features), width
                        outputs[name] = np.zeros(shape, np.float32)
                    outputs[name][rows, : values.shape[1]] = values
        return outputs


def _strings(values, name, one):
    """One string, or several, as a list.

    Raises:
        TypeError: if that is not what the values are.
    """
    several = isinstance(values, Iterable) and not isinstance(
        values, (str, bytes)
    )
    found = list(values) if several else [values]
    wrong = [v for v in found if not isinstance(v, str)]
    if several != one and not wrong:
        return found
    kind = type(wrong[0] if wrong else values).__name__
    wanted = (
        "one string, as the first argument" if one else "a list of strings"
    )
    raise TypeError(f"{name} must be {wanted}, not {kind}.")


class TextClassifier(_TextModel):
    """Classifies texts, or pairs of texts.

        classifier = tf_pof.runtime.TextClassifier("sst2.tflite")
        classifier("a moving film")  # {"negative": 0.03, "positive": 0.97}

    Args:
        path: of a classifier's .tflite of bin/export_tflite.
        num_threads: that it computes with.
        batch_size: texts computed together.
        **options: of `delegate`.

    Attributes:
        labels: names of the classes in the order of the logits; "score" alone
            for a model of scores.

    Raises:
        FileNotFoundError: if there is no such file, or no delegate.
        ValueError: if it is corrupt, no classifier, or has no vocabulary.
    """

    head = "classifier"

    def __init__(self, path, num_threads=1, batch_size=32, **options):
        super().__init__(path, num_threads, batch_size, **options)
        count = self._model.num_labels
        generic = [f"LABEL_{i}" for i in range(count)]
        self.labels = list(self._model.labels or generic)
        if count == 1:
            self.labels = ["score"]

    def __call__(
        self,
        texts: str | Sequence[str],
        pairs: str | Sequence[str] | None = None,
    ) -> dict[str, float] | list[dict[str, float]]:
        """Probabilities of the classes by name, or {"score": the score}.

        Args:
            texts: one, or several; what is longer than the longest signature
                is cut off at its end.
            pairs: the second text of each, for tasks on pairs.

        Returns:
            One dictionary, or a list of them for several texts.

        Raises:
            TypeError: if they are no strings, or texts is one and pairs are
                several.
            ValueError: if the numbers of texts and pairs differ.
        """
        one = isinstance(texts, str)
        texts = _strings(texts, "texts", one)
        if pairs is not None:
            pairs = _strings(pairs, "pairs", one)
        found = self._classify(texts, pairs) if texts or pairs else []
        return found[0] if one else found

    def _classify(self, texts, pairs):
        encoded = self._tokenizer.encode(texts, self._lengths[-1], pairs)
        logits = self._outputs(Features.from_padded(encoded, {}))["logits"]
        values = logits.astype(np.float64)
        if len(self.labels) > 1:
            values = special.softmax(values, axis=1)
        return [dict(zip(self.labels, row)) for row in values.tolist()]


@dataclasses.dataclass(frozen=True)
class Answer:
    """What a context says to a question.

    Attributes:
        text: cut out of the context; "" is "no answer".
        probability: of this text among the candidates.
        candidates: the best ones, best first: "text", "probability",
            "start_logit" and "end_logit" each.
    """

    text: str
    probability: float
    candidates: list[dict]


class QuestionAnswerer(_TextModel):
    """Answers questions by a span of a context of any length.

        answerer = tf_pof.runtime.QuestionAnswerer("squad.tflite")
        answerer("Who wrote it?", "It was written by Ada.").text  # "Ada"

    A long context is read in windows, as the model was trained: see
    `tasks.squad_features` and `tasks.squad_decoding`. "No answer" is
    an answer of models of SQuAD v2.0 only.

    Args:
        path: of a span model's .tflite of bin/export_tflite.
        num_threads: that it computes with.
        batch_size: windows computed together.
        **options: of `delegate`.

    Raises:
        FileNotFoundError: if there is no such file, or no delegate.
        ValueError: if it is corrupt, no span model, has no vocabulary, or its
            sequences are too short for a question and a context.
    """

    head = "span"

    def __init__(self, path, num_threads=1, batch_size=32, **options):
        super().__init__(path, num_threads, batch_size, **options)
        length = self._lengths[-1]
        if length < _ROOM:
            raise ValueError(
                f"{path} takes {length} tokens, and a question with a context "
                f"has {_ROOM} at least: export it with longer "
                "--sequence_lengths."
            )
        task = _DEFAULTS | self._model.task
        length = min(length, task.get("sequence_length", length))
        self._cutting = {
            "sequence_length": length,
            "doc_stride": task["doc_stride"],
            "max_query_length": min(task["max_query_length"], length - _ROOM),
        }
        threshold = task.get("null_score_diff_threshold", 0.0)
        self._decoding = {
            "n_best_size": task["n_best_size"],
            "max_answer_length": task["max_answer_length"],
            "null_score_diff_threshold": threshold
            if task.get("name") == "squad_v2"
            else None,
        }

    def __call__(
        self, questions: str | Sequence[str], contexts: str | Sequence[str]
    ) -> Answer | list[Answer]:
        """The answer to a question, or to several.

        Args:
            questions: one, or several.
            contexts: the text that each is answered from.

        Raises:
            TypeError: if they are no strings, or one is given and several of
                the other.
            ValueError: if the numbers of questions and contexts differ.
        """
        one = isinstance(questions, str)
        questions = _strings(questions, "questions", one)
        contexts = _strings(contexts, "contexts", one)
        found = self._answer(questions, contexts)
        return found[0] if one else found

    def _answer(self, questions, contexts):
        if len(questions) != len(contexts):
            raise ValueError(
                f"{len(questions)} questions came with {len(contexts)} "
                "contexts: give one for each."
            )
        if not questions:
            return []
        examples = [
            SquadExample(str(i), "", question, context, (), ())
            for i, (question, context) in enumerate(zip(questions, contexts))
        ]
        features = squad_features.build(
            examples, self._tokenizer, training=False, **self._cutting
        )
        found = squad_decoding.decode(
            examples, features, self._logits(features), **self._decoding
        )
        return [
            _answer(found.texts[example.id], found.n_best[example.id])
            for example in examples
        ]

    def _logits(self, features):
        empty = np.zeros((0, self._lengths[-1]), np.float32)
        outputs = {"start_logits": empty, "end_logits": empty}
        return outputs | self._outputs(features)


def _answer(text, candidates):
    (chance,) = (c["probability"] for c in candidates if c["text"] == text)
    return Answer(text, chance, candidates)
