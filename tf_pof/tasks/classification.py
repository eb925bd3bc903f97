"""Classification and regression of single texts and of pairs."""

from collections.abc import Sequence
import dataclasses
import re

import numpy as np
from scipy import special

from tf_pof.data.tokenizer import WordPiece
from tf_pof.tasks.features import Features
from tf_pof.tasks.metrics import Metric
from tf_pof.tasks.task import Task
from tf_pof.tasks.text_files import listed

# Examples that are tokenized and padded together: about 12 MB at 128 tokens.
_CHUNK = 8192


@dataclasses.dataclass(frozen=True)
class Examples:
    """n texts of a split.

    Attributes:
        texts: n strings.
        pairs: n second texts; None if the task is on single texts.
        labels: [n] int32 class or float32 score; None if unknown.
        indices: [n] int64, the number that a submission gives an example.
        source: the file or the data set and split, for messages.
    """

    texts: Sequence[str]
    pairs: Sequence[str] | None
    labels: np.ndarray | None
    indices: np.ndarray
    source: str

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, rows: slice) -> "Examples":
        return Examples(
            self.texts[rows],
            None if self.pairs is None else self.pairs[rows],
            None if self.labels is None else self.labels[rows],
            self.indices[rows],
            self.source,
        )


class ClassificationTask(Task):
    """What GLUE's tasks and those from a user's own files share.

    Args:
        name: of the task.
        labels: names of the classes by id; None for a score.
        metrics: functions of labels and predictions, the main one first.
        evaluation_splits: names of the labelled splits to score.
        test_splits: names of the splits that only get predictions.
        sequence_length: tokens of an example at most.

    Attributes:
        test_splits, sequence_length: as given.

    Raises:
        ValueError: if the length leaves no room for text.
    """

    head = "classifier"
    train_split = "train"

    def __init__(
        self,
        name: str,
        labels: Sequence[str] | None,
        metrics: dict[str, Metric],
        evaluation_splits: Sequence[str],
        test_splits: Sequence[str],
        sequence_length: int,
    ):
        if sequence_length < 5:
            raise ValueError(
                f"A sequence length of {sequence_length} leaves no room for a "
                "pair of texts and three special tokens: give at least 5."
            )
        self.name = name
        self.labels = None if labels is None else tuple(labels)
        self.num_labels = 1 if labels is None else len(self.labels)
        self.evaluation_splits = tuple(evaluation_splits)
        self.test_splits = tuple(test_splits)
        self.sequence_length = sequence_length
        self.main_metric = next(iter(metrics))
        self._metrics = metrics
        self._notes: dict[str, str] = {}

    def features(
        self, examples: Examples, tokenizer: WordPiece, training: bool
    ) -> Features:
        """Token ids, cut to `sequence_length` from the longer text's end.

        Targets are there whenever the examples have labels.

        Raises:
            ValueError: if there are none and `training` needs them.
        """
        if training and examples.labels is None:
            raise ValueError(
                f"{examples.source} has no labels: train on a split that has."
            )
        parts = []
        truncated = 0
        for start in range(0, len(examples), _CHUNK):
            rows = slice(start, start + _CHUNK)
            texts = examples.texts[rows]
            pairs = None if examples.pairs is None else examples.pairs[rows]
            encoded = tokenizer.encode(texts, self.sequence_length, pairs)
            truncated += self._truncated(encoded, tokenizer, texts, pairs)
            targets = {}
            if examples.labels is not None:
                targets["logits"] = examples.labels[rows]
            parts.append(Features.from_padded(encoded, targets))
        if training:
            self._note_absent(examples)
        self._notes.pop("truncated " + examples.source, None)
        if truncated:
            self._notes["truncated " + examples.source] = (
                f"{truncated:,} of {len(examples):,} examples of "
                f"{examples.source} were cut to {self.sequence_length} tokens."
            )
        return Features.concatenate(parts)

    def _note_absent(self, examples: Examples) -> None:
        """Notes what no model can learn from the examples."""
        key = "absent " + examples.source
        self._notes.pop(key, None)
        if self.labels is None:
            if len(examples) > 1 and np.ptp(examples.labels) == 0:
                self._notes[key] = (
                    f"All scores of {examples.source} are the same: nothing "
                    "else can be learned."
                )
            return
        seen = np.bincount(examples.labels, minlength=self.num_labels) > 0
        if not seen.all():
            absent = [label for label, s in zip(self.labels, seen) if not s]
            self._notes[key] = (
                f"{examples.source} has no example of {listed(absent)}, which "
                "cannot be learned from it."
            )

    def _truncated(self, encoded, tokenizer, texts, pairs) -> int:
        """How many of the encoded texts have lost tokens."""
        # Only sequences without padding may have; they are tokenized again.
        full = np.flatnonzero(encoded["padding_mask"].all(1))
        if not len(full):
            return 0
        sides = [texts] if pairs is None else [texts, pairs]
        lengths = 1 + sum(
            1
            + tokenizer.tokenize_strings([side[i] for i in full])
            .row_lengths()
            .numpy()
            for side in sides
        )
        return int(np.sum(lengths > self.sequence_length))

    def predictions(self, logits: np.ndarray) -> np.ndarray:
        """Classes [n] int32, or scores [n] float32, of logits [n, labels].

        Raises:
            ValueError: if the logits hold NaN or infinity.
        """
        broken = int(np.sum(~np.isfinite(logits).all(1)))
        if broken:
            raise ValueError(
                f"The model gives NaN or infinity for {broken:,} of "
                f"{len(logits):,} examples of {self.name}: its training "
                "diverged, try a lower learning rate."
            )
        if self.is_regression:
            return logits[:, 0].astype(np.float32)
        return logits.argmax(1).astype(np.int32)

    def score(
        self,
        examples: Examples,
        features: Features,
        outputs: dict[str, np.ndarray],
    ) -> dict[str, float]:
        """See `Task.score`."""
        del features
        if examples.labels is None:
            raise ValueError(
                f"{examples.source} has no labels to score against: only "
                "predictions can be written for it."
            )
        predictions = self.predictions(outputs["logits"])
        return {
            name: metric(examples.labels, predictions)
            for name, metric in self._metrics.items()
        }

    def class_order(
        self, labels: Sequence[str] | None, name: str = "The model"
    ) -> np.ndarray | None:
        """See `Task.class_order`."""
        order = label_order(self.labels, labels, name)
        key = "classes of " + name
        self._notes.pop(key, None)
        if order is not None:
            self._notes[key] = (
                f"{name} has the classes in the order {listed(labels)}: they "
                "were matched by name."
            )
        elif self.labels is not None and is_assumed(self.labels, labels):
            told = f" tells {listed(labels)} apart" if labels else (
                " does not name its classes"
            )
            self._notes[key] = (
                f"{name}{told}: they are assumed to be in the order of the "
                f"task's, {listed(self.labels)}."
            )
        return order

    def notes(self) -> list[str]:
        """See `Task.notes`."""
        return list(self._notes.values())


def probabilities(logits: np.ndarray) -> np.ndarray:
    """Softmax over the classes, [n, classes] float64."""
    return special.softmax(logits.astype(np.float64), axis=-1)


def label_order(
    task_labels: Sequence[str] | None,
    model_labels: Sequence[str] | None,
    name: str = "The model",
) -> np.ndarray | None:
    """Where a model has the classes of a task.

    Models from elsewhere may order them otherwise: Hugging Face's for MNLI
    often begin with contradiction. Names are compared without regard to case,
    and to what stands between their words, unless they differ in that alone.

    Args:
        task_labels: of the task; None for scores and spans.
        model_labels: of the model, LABEL_0 and so on if it knows no names,
            or None.
        name: of the model, for messages.

    Returns:
        `order` such that `logits[:, order]` is in the task's order, int64;
        None if the logits are in it already, or if names do not tell
        (`is_assumed`).

    Raises:
        ValueError: if the model has other classes than the task.
    """
    if task_labels is None or model_labels is None:
        return None
    for fold in (str, str.casefold, _fold):
        wanted = [fold(label) for label in task_labels]
        found = [fold(label) for label in model_labels]
        # Names that differ in case only must be told apart by it.
        if len(set(wanted)) == len(wanted) and sorted(wanted) == sorted(found):
            order = np.array([found.index(label) for label in wanted])
            return order if np.any(np.diff(order) != 1) else None
    if is_assumed(task_labels, model_labels):
        return None
    raise ValueError(
        f"{name} tells {listed(model_labels)} apart but the task "
        f"{listed(task_labels)}: choose the task it was trained on, or train "
        "it on this one."
    )


def is_assumed(
    task_labels: Sequence[str], model_labels: Sequence[str] | None
) -> bool:
    """Whether classes can be matched by their numbers alone.

    So it is if the model's have no names, or if names on one side are the
    numbers themselves.
    """
    if model_labels is None:
        return True
    if len(model_labels) != len(task_labels):
        return False
    if all(map(_same_class, task_labels, model_labels)):
        return False
    return any(
        is_numbered(labels, prefix)
        for labels in (model_labels, task_labels)
        for prefix in ("LABEL_", "")
    )


def _same_class(name: str, other: str) -> bool:
    return _fold(name) == _fold(other)


def is_numbered(labels: Sequence[str], prefix: str) -> bool:
    """Whether each label is its own number behind a prefix."""
    return all(label == f"{prefix}{i}" for i, label in enumerate(labels))


def _fold(label: str) -> str:
    """A label as those compare it who write "Not entailment" for one."""
    return re.sub(r"[\s_-]+", "_", label.strip().casefold())
