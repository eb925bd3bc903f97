"""A classification, pair or regression task from csv, tsv or jsonl files."""

from collections.abc import Sequence
import csv
import io
import math
import os
import re

import numpy as np

from tf_pof import files
from tf_pof.tasks import classification
from tf_pof.tasks import metrics
from tf_pof.tasks.classification import Examples
from tf_pof.tasks.columns import Columns, read_columns
from tf_pof.tasks.features import Features
from tf_pof.tasks.text_files import RowError, listed, quoted

_NUMBER = re.compile(r"[-+]?\d+(\.\d*)?", re.ASCII)


class Table(classification.ClassificationTask):
    """A task of the user's own files, as `columns` reads them.

    Args:
        train_file: examples to learn from; None if there is no training.
        validation_file: examples to score, or None.
        text_column: name of the text's column.
        pair_column: name of the second text's, or None.
        label_column: name of the label's.
        labels: names of the classes by id; by default those of the train
            file, sorted, as numbers if all are. A saved model's own must be
            given to evaluate it.
        regression: whether labels are numbers to come close to.
        sequence_length: tokens of an example at most.
        test_file: examples to predict, whose label column may be missing.
        name: of the task.

    Raises:
        OSError: if the train file is needed for its labels and not readable.
        ValueError: if the labels are not to be found out or are no two
            different names.
    """

    def __init__(
        self,
        train_file: str | None,
        validation_file: str | None,
        text_column: str,
        pair_column: str | None = None,
        label_column: str = "label",
        labels: Sequence[str] | None = None,
        regression: bool = False,
        sequence_length: int = 128,
        test_file: str | None = None,
        name: str = "custom",
    ):
        self._files = {
            "train": train_file,
            "validation": validation_file,
            "test": test_file,
        }
        self._texts = [text_column]
        if pair_column is not None:
            self._texts.append(pair_column)
        self._label_column = label_column
        chosen = {"pearson": metrics.pearson, "spearman": metrics.spearman}
        if regression:
            labels = None
        else:
            if labels is None:
                labels = self._labels_of(train_file)
            if len(labels) < 2 or len(set(labels)) != len(labels):
                raise ValueError(
                    f"The labels of {train_file or name} are "
                    f"{listed(labels)}: a classifier needs two different ones "
                    "at least."
                )
            f1 = metrics.f1 if len(labels) == 2 else metrics.macro_f1
            chosen = {"accuracy": metrics.accuracy, "f1": f1}
        super().__init__(
            name,
            labels,
            chosen,
            ["validation"] if validation_file else [],
            ["test"] if test_file else [],
            sequence_length,
        )

    def _labels_of(self, train_file: str | None) -> list[str]:
        """The labels of a file, sorted."""
        if train_file is None:
            raise ValueError(
                "The labels of a task without a train file are not known: "
                "name them with --labels."
            )
        columns = read_columns(train_file, [*self._texts, self._label_column])
        found = set(self._labels(train_file, columns))
        if all(_NUMBER.fullmatch(label) for label in found):
            return sorted(found, key=lambda label: (float(label), label))
        return sorted(found)

    def _labels(self, path: str, columns: Columns) -> list[str]:
        """The label column without spaces around."""
        labels = [text.strip() for text in columns.values[self._label_column]]
        if "" in labels:
            raise RowError(
                path,
                columns.lines[labels.index("")],
                f'the label in column "{self._label_column}" is empty: fill '
                "it in or remove the row.",
            )
        return labels

    def data_files(self, split: str) -> list[str]:
        """See `Task.data_files`."""
        path = self._files.get(split)
        if path is None:
            there = [name for name, file in self._files.items() if file]
            raise ValueError(
                f'The task {self.name} has no split "{split}" but '
                f"{listed(there) or 'nothing'}: name a file for it."
            )
        return [path]

    def examples(self, split: str) -> Examples:
        """See `Task.examples`; splits are train, validation and test."""
        (path,) = self.data_files(split)
        label = [self._label_column]
        if split == "test":
            columns = read_columns(path, self._texts, label)
        else:
            columns = read_columns(path, self._texts + label)
        # So that a row that was not told from its neighbour is noticed.
        total = f"{len(columns.lines):,}"
        self._notes["read " + path] = " ".join(
            [f"{path} has {total} row{'s' * (total != '1')}.", *columns.notes]
        )
        labels = None
        if self._label_column in columns.values:
            convert = self._score if self.is_regression else self._class_id
            labels = np.array(
                [
                    convert(path, line, text)
                    for line, text in zip(
                        columns.lines, self._labels(path, columns)
                    )
                ],
                np.float32 if self.is_regression else np.int32,
            )
        return Examples(
            columns.values[self._texts[0]],
            columns.values[self._texts[1]] if len(self._texts) > 1 else None,
            labels,
            np.arange(len(columns.lines)),
            path,
        )

    def _class_id(self, path: str, line: int, text: str) -> int:
        if text not in self.labels:
            raise RowError(
                path,
                line,
                f"unknown label {quoted(text)}, the labels are "
                f"{listed(self.labels)}: correct the row, or name all labels "
                "with --labels.",
            )
        return self.labels.index(text)

    def _score(self, path: str, line: int, text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise RowError(
                path,
                line,
                f"the label {quoted(text)} is not a number: correct the row, "
                "or leave out --regression for a classifier.",
            )
        return value

    def write_predictions(
        self,
        folder: str,
        split: str,
        examples: Examples,
        features: Features,
        outputs: dict[str, np.ndarray],
    ) -> list[str]:
        """Writes predictions.tsv, quoted where needed.

        Its columns are index (of the row, from 0), prediction (the label or
        the score) and for each class its probability.
        """
        del split, features
        logits = outputs["logits"]
        predictions = self.predictions(logits)
        header = ["index", "prediction"]
        if self.is_regression:
            rows = [[f"{score:.6g}"] for score in predictions]
        else:
            header += [f"probability_{label}" for label in self.labels]
            rows = [
                [self.labels[i], *(f"{p:.6f}" for p in row)]
                for i, row in zip(
                    predictions, classification.probabilities(logits)
                )
            ]
        text = io.StringIO()
        writer = csv.writer(text, delimiter="\t", lineterminator="\n")
        writer.writerow(header)
        for index, row in zip(examples.indices, rows):
            writer.writerow([index, *row])
        path = os.path.join(folder, "predictions.tsv")
        files.write_text(path, text.getvalue())
        return [path]
