"""What the fine-tuning program asks of a task."""

import abc
from collections.abc import Sequence
import hashlib
import os
from typing import Any

import numpy as np
import tensorflow as tf

from tf_pof.data.tokenizer import WordPiece
from tf_pof.tasks.features import Features

# Bytes of a file that are held at once.
_BLOCK = 1 << 20


class Task(abc.ABC):
    """A labelled data set, the head it needs, and how it is scored.

    Attributes:
        name: such as "sst2" or "squad".
        head: "classifier" or "span".
        labels: names of the classes by id; None for scores and spans.
        num_labels: width of the classifier's logits; 1 for scores, 2 for
            spans.
        train_split: name of the split to train on.
        evaluation_splits: names of the labelled splits to score, the first
            one the task's own.
        main_metric: name of the metric that stands for the task.
    """

    name: str
    head: str
    labels: tuple[str, ...] | None
    num_labels: int
    train_split: str
    evaluation_splits: tuple[str, ...]
    main_metric: str

    @property
    def is_regression(self) -> bool:
        """Whether the model gives a score instead of classes."""
        return self.head == "classifier" and self.num_labels == 1

    @abc.abstractmethod
    def examples(self, split: str) -> Any:
        """Reads a split.

        Raises:
            ValueError: if it is not there, empty or malformed, in one
                sentence.
        """

    @abc.abstractmethod
    def data_files(self, split: str) -> list[str]:
        """Paths of the files that a split is read from, in a fixed order.

        Raises:
            ValueError: if the split is not there.
        """

    def fingerprint(self) -> str:
        """SHA-256, in hex, of what a run trains on and is scored on.

        The names and contents of the splits count, and the number of their
        files. Where the files are does not, so that they may be moved.

        Raises:
            ValueError: if a split is not there.
            OSError: if a file cannot be read.
        """
        digest = hashlib.sha256()
        for split in (self.train_split, *self.evaluation_splits):
            digest.update(f"{split}\n".encode())
            for path in self.data_files(split):
                digest.update(_digest_of(path))
        return digest.hexdigest()

    @abc.abstractmethod
    def features(
        self, examples: Any, tokenizer: WordPiece, training: bool
    ) -> Features:
        """Turns examples into what a model reads.

        Args:
            examples: of `examples`.
            tokenizer: of the model's vocabulary.
            training: whether targets are needed; what has none is left out
                then.
        """

    def class_order(
        self, labels: Sequence[str] | None, name: str
    ) -> np.ndarray | None:
        """Where a model has the classes of the task.

        Args:
            labels: of the model, by id, or None.
            name: of the model; `notes` say what was matched or assumed.

        Returns:
            As of `classification.label_order`; None for scores and spans.

        Raises:
            ValueError: if the model has other classes.
        """
        del labels, name
        return None

    @abc.abstractmethod
    def score(
        self, examples: Any, features: Features, outputs: dict[str, np.ndarray]
    ) -> dict[str, float]:
        """Metrics, the main one first, in [0, 1] or [-1, 1] (percent for
        SQuAD's exact match and F1, as its official script prints them).

        Args:
            examples: a labelled split.
            features: of these examples, with training=False.
            outputs: "logits" [n, num_labels], or "start_logits" and
                "end_logits" [n, S], float32; row i belongs to feature i.
        """

    @abc.abstractmethod
    def write_predictions(
        self,
        folder: str,
        split: str,
        examples: Any,
        features: Features,
        outputs: dict[str, np.ndarray],
    ) -> list[str]:
        """Writes the official submission files; returns their paths."""

    def notes(self) -> list[str]:
        """Sentences on what was met while reading, for the user."""
        return []


def _digest_of(path: str) -> bytes:
    """SHA-256 of a file, local or of any file system of TensorFlow's."""
    digest = hashlib.sha256()
    try:
        with tf.io.gfile.GFile(os.path.expanduser(path), "rb") as file:
            while block := file.read(_BLOCK):
                digest.update(block)
    except tf.errors.OpError as error:
        raise OSError(
            f"{path} cannot be read ({error.message}): check the path."
        ) from None
    return digest.digest()
