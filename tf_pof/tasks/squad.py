"""SQuAD: questions on paragraphs of Wikipedia, answered by a span.

Rajpurkar et al. 2016 (v1.1) and 2018 (v2.0, where a question may have no
answer).
"""

from collections.abc import Sequence
import os

import numpy as np

from tf_pof import files
from tf_pof.data.tokenizer import WordPiece
from tf_pof.tasks import squad_decoding
from tf_pof.tasks import squad_features
from tf_pof.tasks import squad_files
from tf_pof.tasks import squad_metrics
from tf_pof.tasks import tfds_source
from tf_pof.tasks.features import Features
from tf_pof.tasks.squad_files import SquadExample
from tf_pof.tasks.task import Task
from tf_pof.tasks.text_files import listed

_OFFICIAL_NAMES = {"train": "train", "validation": "dev"}


class Squad(Task):
    """SQuAD out of its official json files or out of TFDS.

    Args:
        version: "1.1" or "2.0".
        train_file, validation_file: json files of their own.
        raw_dir: folder of the official files, where no file is given:
            train-v1.1.json, dev-v1.1.json or those of v2.0.
        tfds_data_dir: folder of prepared TFDS data sets, read where there is
            neither file nor folder; TFDS' own by default.
        download: whether TFDS may fetch what is not prepared.
        sequence_length: tokens of question and window at most.
        doc_stride: tokens between the beginnings of windows.
        max_query_length: tokens of a question at most.
        n_best_size: starts and ends tried, and answers in n-best.
        max_answer_length: tokens of an answer at most.
        null_score_diff_threshold: v2.0: how much the score of "no answer"
            must exceed the best answer's.

    Raises:
        ValueError: if the version is unknown or a number makes no sense.
    """

    head = "span"
    labels = None
    num_labels = 2
    train_split = "train"
    evaluation_splits = ("validation",)
    main_metric = "f1"

    def __init__(
        self,
        version: str = "1.1",
        train_file: str | None = None,
        validation_file: str | None = None,
        raw_dir: str | None = None,
        tfds_data_dir: str | None = None,
        download: bool = False,
        sequence_length: int = 384,
        doc_stride: int = 128,
        max_query_length: int = 64,
        n_best_size: int = 20,
        max_answer_length: int = 30,
        null_score_diff_threshold: float = 0.0,
    ):
        if version not in squad_files.VERSIONS:
            raise ValueError(
                f'There is no SQuAD "{version}": choose '
                f"{' or '.join(squad_files.VERSIONS)}."
            )
        for name, value in (
            ("doc_stride", doc_stride),
            ("max_query_length", max_query_length),
            ("n_best_size", n_best_size),
            ("max_answer_length", max_answer_length),
        ):
            if value < 1:
                raise ValueError(f"{name} is {value}: take 1 or more.")
        if sequence_length < 4:
            raise ValueError(
                f"sequence_length is {sequence_length}: take 4 or more, for "
                "[CLS], two [SEP] and a token of the context."
            )
        self.name = "squad" if version == "1.1" else "squad_v2"
        self.version = version
        self._files = {"train": train_file, "validation": validation_file}
        self._raw_dir = raw_dir
        self._tfds = {"data_dir": tfds_data_dir, "download": download}
        self._cutting = {
            "sequence_length": sequence_length,
            "doc_stride": doc_stride,
            "max_query_length": max_query_length,
        }
        self._decoding = {
            "n_best_size": n_best_size,
            "max_answer_length": max_answer_length,
            "null_score_diff_threshold": null_score_diff_threshold
            if version == "2.0"
            else None,
        }
        # By split, of reading it, and by whether features were to train on.
        self._notes: dict[str | bool, list[str]] = {}

    def data_files(self, split: str) -> list[str]:
        """See `Task.data_files`."""
        path = self._path(split)
        if path is not None:
            return [path]
        return tfds_source.paths(f"squad/v{self.version}", split, **self._tfds)

    def _path(self, split: str) -> str | None:
        """The json file of a split; None if it is TFDS'."""
        if split not in _OFFICIAL_NAMES:
            raise ValueError(
                f'SQuAD has no split "{split}": choose train or validation.'
            )
        path = self._files[split]
        if path is None and self._raw_dir is not None:
            name = f"{_OFFICIAL_NAMES[split]}-v{self.version}.json"
            path = os.path.join(self._raw_dir, name)
        return path

    def examples(self, split: str) -> list[SquadExample]:
        """Reads "train" or "validation", see `Task.examples`."""
        path = self._path(split)
        if path is None:
            return squad_files.read_tfds(self.version, split, **self._tfds)
        examples, self._notes[split] = squad_files.read_json(
            path, self.version
        )
        return examples

    def features(
        self,
        examples: Sequence[SquadExample],
        tokenizer: WordPiece,
        training: bool,
    ) -> Features:
        """Windows of the contexts, see `squad_features.build`.

        Raises:
            ValueError: if no window is left, or a question leaves no room
                for its context.
        """
        features = squad_features.build(
            examples, tokenizer, training=training, **self._cutting
        )
        if not len(features):
            raise ValueError(
                f"None of {len(examples)} questions has a context"
                + " that holds its answer" * training
                + ": give a file in the format of SQuAD."
            )
        self._notes[training] = _notes(
            features.details,
            len(examples),
            self._cutting["max_query_length"],
            training,
        )
        return features

    def _answers(
        self,
        examples: Sequence[SquadExample],
        features: Features,
        outputs: dict[str, np.ndarray],
    ) -> squad_decoding.Answers:
        return squad_decoding.decode(
            examples, features, outputs, **self._decoding
        )

    def score(
        self,
        examples: Sequence[SquadExample],
        features: Features,
        outputs: dict[str, np.ndarray],
    ) -> dict[str, float]:
        """F1 first, in percent; see `squad_metrics`.

        v2.0: the best thresholds are those to give as
        null_score_diff_threshold.
        """
        answers = self._answers(examples, features, outputs)
        if self.version == "1.1":
            return squad_metrics.evaluate_v1(examples, answers.texts)
        return squad_metrics.evaluate_v2(
            examples, answers.texts, answers.null_odds, answers.non_null
        )

    def write_predictions(
        self,
        folder: str,
        split: str,
        examples: Sequence[SquadExample],
        features: Features,
        outputs: dict[str, np.ndarray],
    ) -> list[str]:
        """Writes predictions.json, which the official scripts read,
        nbest_predictions.json, and for v2.0 null_odds.json.
        """
        del split
        answers = self._answers(examples, features, outputs)
        contents = {
            "predictions.json": answers.texts,
            "nbest_predictions.json": answers.n_best,
        }
        if self.version == "2.0":
            contents["null_odds.json"] = answers.null_odds
        paths = []
        for name, content in contents.items():
            paths.append(os.path.join(folder, name))
            files.write_json(paths[-1], content)
        return paths

    def notes(self) -> list[str]:
        """What was met in the examples that were last read and made features
        of."""
        return [note for notes in self._notes.values() for note in notes]


def _notes(
    windows: squad_features.Windows,
    total: int,
    max_query_length: int,
    training: bool,
) -> list[str]:
    what = "training" if training else "evaluation"
    notes = []
    if windows.missing:
        count = len(windows.missing)
        notes.append(
            f"The answers of {count} of {total} {what} questions are not in "
            "their contexts"
            + ("; they were left out" if training else "; they cannot be found")
            + f" ({listed(windows.missing, 3)})."
        )
    if windows.moved:
        notes.append(
            f"The answers of {windows.moved} of {total} {what} questions are "
            "not where the data says, or with other blanks, but in one place "
            "of their contexts"
            + ("; they were taken there." if training else ".")
        )
    if windows.shortened:
        notes.append(
            f"{windows.shortened} of {total} {what} questions were cut to "
            f"{max_query_length} tokens."
        )
    return notes
