"""The nine tasks of GLUE (Wang et al. 2018), from TFDS or the raw files."""

from collections.abc import Sequence
import dataclasses
import os

import numpy as np

from tf_pof import files
from tf_pof.tasks import classification
from tf_pof.tasks import glue_files
from tf_pof.tasks import metrics
from tf_pof.tasks import tfds_source
from tf_pof.tasks.classification import Examples
from tf_pof.tasks.features import Features
from tf_pof.tasks.metrics import Metric


@dataclasses.dataclass(frozen=True)
class _Definition:
    """A task of GLUE.

    Attributes:
        texts: TFDS' features of the text, or of both texts.
        labels: names of the classes by TFDS' id; None for a score.
        metrics: GLUE's, the first one stands for the task.
        variants: endings of the evaluation splits and of what is submitted
            for them.
    """

    texts: tuple[str, ...]
    labels: tuple[str, ...] | None
    metrics: dict[str, Metric]
    variants: tuple[tuple[str, str], ...] = (("", ""),)


_ACCURACY = {"accuracy": metrics.accuracy}
_ACCURACY_F1 = {"accuracy": metrics.accuracy, "f1": metrics.f1}
_MATTHEWS = {"matthews": metrics.matthews}
_CORRELATIONS = {"pearson": metrics.pearson, "spearman": metrics.spearman}
_SENTENCES = ("sentence1", "sentence2")
_ENTAILMENT = ("entailment", "not_entailment")
_TASKS = {
    "cola": _Definition(
        ("sentence",), ("unacceptable", "acceptable"), _MATTHEWS
    ),
    "sst2": _Definition(("sentence",), ("negative", "positive"), _ACCURACY),
    "mrpc": _Definition(
        _SENTENCES, ("not_equivalent", "equivalent"), _ACCURACY_F1
    ),
    "stsb": _Definition(_SENTENCES, None, _CORRELATIONS),
    "qqp": _Definition(
        ("question1", "question2"),
        ("not_duplicate", "duplicate"),
        _ACCURACY_F1,
    ),
    "mnli": _Definition(
        ("premise", "hypothesis"),
        ("entailment", "neutral", "contradiction"),
        _ACCURACY,
        variants=(("_matched", "-m"), ("_mismatched", "-mm")),
    ),
    "qnli": _Definition(("question", "sentence"), _ENTAILMENT, _ACCURACY),
    "rte": _Definition(_SENTENCES, _ENTAILMENT, _ACCURACY),
    # Unlike in QNLI and RTE, class 0 is not_entailment.
    "wnli": _Definition(_SENTENCES, _ENTAILMENT[::-1], _ACCURACY),
}
NAMES = tuple(_TASKS)


class Glue(classification.ClassificationTask):
    """A task of GLUE.

    Args:
        name: one of NAMES.
        raw_dir: folder of the official files, GLUE's or the task's own;
            without it the task is read from TFDS.
        tfds_data_dir: folder of prepared TFDS data sets, TFDS' own by
            default.
        download: whether TFDS may download what is not prepared.
        sequence_length: tokens of an example at most.

    Raises:
        ValueError: if there is no such task.
    """

    def __init__(
        self,
        name: str,
        raw_dir: str | None = None,
        tfds_data_dir: str | None = None,
        download: bool = False,
        sequence_length: int = 128,
    ):
        if name not in _TASKS:
            raise ValueError(
                f'GLUE has no task "{name}": choose {", ".join(NAMES)}.'
            )
        self._task = _TASKS[name]
        self._format = glue_files.FORMATS[name]
        self._raw_dir = raw_dir
        self._tfds = {"data_dir": tfds_data_dir, "download": download}
        endings = [ending for ending, _ in self._task.variants]
        super().__init__(
            name,
            self._task.labels,
            self._task.metrics,
            ["validation" + ending for ending in endings],
            ["test" + ending for ending in endings],
            sequence_length,
        )

    def data_files(self, split: str) -> list[str]:
        """See `Task.data_files`."""
        self._check_split(split)
        if self._raw_dir is None:
            return tfds_source.paths(f"glue/{self.name}", split, **self._tfds)
        return glue_files.paths(self.name, self._raw_dir, split)

    def _check_split(self, split: str) -> None:
        splits = [self.train_split, *self.evaluation_splits, *self.test_splits]
        if split not in splits:
            raise ValueError(
                f'{self.name} has no split "{split}": choose '
                f"{', '.join(splits)}."
            )

    def examples(self, split: str) -> Examples:
        """See `Task.examples`; splits are named as in TFDS."""
        self._check_split(split)
        if self._raw_dir is None:
            return self._from_tfds(split)
        examples, notes = glue_files.read(
            self.name, self._raw_dir, split, self.labels
        )
        self._notes.update({note: note for note in notes})
        return examples

    def _from_tfds(self, split: str) -> Examples:
        name = f"glue/{self.name}"
        source = f"the {split} split of {name}"
        rows = tfds_source.examples(name, split, **self._tfds)
        sides = [
            _texts([row[feature] for row in rows], feature, source)
            for feature in self._task.texts
        ]
        labels = np.array([row["label"] for row in rows])
        # Splits that are to be submitted have -1 throughout.
        known = not np.all(labels == -1)
        if known:
            self._check_labels(labels, source)
        kind = np.float32 if self.is_regression else np.int32
        return Examples(
            sides[0],
            sides[1] if len(sides) > 1 else None,
            labels.astype(kind) if known else None,
            np.array([row["idx"] for row in rows], np.int64),
            source,
        )

    def _check_labels(self, labels: np.ndarray, source: str) -> None:
        """Raises ValueError for classes or scores that the task has not."""
        most = 5 if self.is_regression else self.num_labels - 1
        # Not "less or greater": NaN is wrong, too.
        wrong = np.flatnonzero(~((labels >= 0) & (labels <= most)))
        if len(wrong):
            raise ValueError(
                f"Example {wrong[0]} of {source} has the label "
                f"{labels[wrong[0]]}, but they are from 0 to {most}: prepare "
                "the data set again."
            )

    def write_predictions(
        self,
        folder: str,
        split: str,
        examples: Examples,
        features: Features,
        outputs: dict[str, np.ndarray],
    ) -> list[str]:
        """Writes the file that GLUE's server takes, such as MNLI-mm.tsv.

        Its columns are index and prediction: the name of the class in MNLI,
        QNLI and RTE, its number in other tasks, and a score from 0.000 to
        5.000 in STS-B.

        Raises:
            ValueError: if the split is the train split.
        """
        del features
        for ending, suffix in self._task.variants:
            if split in ("validation" + ending, "test" + ending):
                break
        else:
            raise ValueError(
                f'GLUE takes no predictions for the split "{split}" of '
                f"{self.name}: choose {' or '.join(self.test_splits)}."
            )
        predictions = self.predictions(outputs["logits"])
        if self.is_regression:
            texts = [f"{score:.3f}" for score in np.clip(predictions, 0, 5)]
        elif self._format.named:
            texts = [self.labels[i] for i in predictions]
        else:
            texts = [str(i) for i in predictions]
        # TFDS shuffles what it prepares.
        lines = ["index\tprediction\n"] + [
            f"{examples.indices[row]}\t{texts[row]}\n"
            for row in np.argsort(examples.indices, kind="stable")
        ]
        # GLUE names the files after the folders of its download.
        path = os.path.join(folder, f"{self._format.folder}{suffix}.tsv")
        files.write_text(path, "".join(lines))
        return [path]


def _texts(values: Sequence[bytes], feature: str, source: str) -> list[str]:
    """TFDS' bytes as strings."""
    texts = []
    for number, value in enumerate(values):
        try:
            texts.append(value.decode("utf-8"))
        except UnicodeDecodeError as error:
            raise ValueError(
                f'The feature "{feature}" of example {number} of {source} is '
                f"not UTF-8 at byte {error.start}: prepare the data set again."
            ) from None
    return texts
