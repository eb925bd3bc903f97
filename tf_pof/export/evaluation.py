"""Scores a .tflite on a task, as `tasks.evaluation` scores a model folder."""

from collections.abc import Mapping, Sequence
import os
import pathlib
import tempfile
import types
from typing import Any

from ai_edge_litert import interpreter as litert
import numpy as np
import rich.console

from tf_pof.data import tokenizer_settings
from tf_pof.export import archive
from tf_pof.export.litert import LiteModel
from tf_pof.tasks import evaluation


class ScoredFile:
    """A .tflite of a task, as `tasks.evaluation.Scored`.

    Args:
        path: of a file of bin/export_tflite.
        folder: that the vocabulary of the file is unpacked to.
        num_threads: that it computes with; by default all cores.
        delegates: of LiteRT, see `LiteModel`.

    Attributes besides those of `Scored`:
        sequence_lengths: of its signatures, ascending.
        task: what the file says of the task it was trained on.

    Raises:
        ValueError: if it is corrupt, of another program, without a task's
            head, or needs another runtime.
        OSError: if it cannot be read.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        folder: str | os.PathLike,
        num_threads: int | None = None,
        delegates: Sequence[litert.Delegate] = (),
    ):
        if not os.path.isfile(path):
            raise FileNotFoundError(
                f"There is no file {path}: export it with bin/export_tflite."
            )
        contents = archive.contents_of(path)
        try:
            details = archive.read_details(contents)
            vocabulary = archive.read(contents).get(archive.VOCABULARY)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
        self._name = os.fspath(path)
        threads = num_threads or os.cpu_count() or 1
        self._lite = LiteModel(path, threads, delegates)
        if details is None:
            raise ValueError(
                f"{path} has no {archive.DETAILS}, which says what it "
                "computes: give a file that bin/export_tflite wrote."
            )
        self.head, self.num_labels = details["head"], details["num_labels"]
        if self.head not in ("classifier", "span"):
            raise ValueError(
                f"{path} has no task head: fine-tune its model with "
                "bin/finetune and export that."
            )
        width = self._lite.output_widths.get("logits")
        if self.head == "classifier" and width != self.num_labels:
            raise ValueError(
                f"{path} is corrupt: its {archive.DETAILS} says that it has "
                f"{self.num_labels} classes, and it computes {width}."
            )
        self.labels, self.task = details["labels"], details["task"]
        self.tokenizer_settings = tokenizer_settings.from_dict(
            details, f"{path}: {archive.DETAILS}"
        )
        self.config = types.SimpleNamespace(
            vocabulary_size=details["config"]["vocabulary_size"],
            max_sequence_length=self._lite.sequence_lengths[-1],
        )
        self.sequence_lengths = self._lite.sequence_lengths
        self.vocab_file = None
        if vocabulary is not None:
            unpacked = pathlib.Path(folder, archive.VOCABULARY)
            unpacked.write_bytes(vocabulary)
            self.vocab_file = str(unpacked)

    def __call__(
        self, inputs: Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """Float32 logits by name, see `LiteModel`."""
        try:
            return self._lite(inputs)
        except RuntimeError as error:
            raise ValueError(
                f"LiteRT cannot compute {self._name} "
                f"({' '.join(str(error).split())}): export it anew with "
                "--encoding=dense."
            ) from error


def run(
    path: str,
    options: dict[str, Any],
    console: rich.console.Console,
    splits: Sequence[str] | None = None,
    output: str | None = None,
    batch_size: int = 32,
    vocab: str | None = None,
    lowercase: bool | None = None,
    delegates: Sequence[litert.Delegate] = (),
) -> dict[str, dict[str, float]]:
    """Scores a .tflite, prints the metrics and writes predictions.

    Tokenizer and labels are those in the file. For arguments, result and
    errors see `tasks.evaluation.run` and `ScoredFile`.
    """
    evaluation.check_output(output)
    with tempfile.TemporaryDirectory(prefix="tf_pof_") as folder:
        return evaluation.evaluate(
            ScoredFile(path, folder, delegates=delegates),
            path,
            options,
            console,
            splits,
            output,
            batch_size,
            vocab,
            lowercase,
        )
