"""Scores a fine-tuned model on the splits of a task.

What is scored is a Keras model or anything else that a `Scored` is.
"""

from collections.abc import Sequence
import os
from typing import Any, Protocol

import numpy as np
import rich.console
import rich.table

from tf_pof._keras import keras
from tf_pof import files
from tf_pof.data import tokenizer_files
from tf_pof.data.tokenizer import WordPiece
from tf_pof.data.tokenizer_settings import TokenizerSettings
from tf_pof.tasks import registry, scoring, trained
from tf_pof.tasks.classification import is_numbered
from tf_pof.tasks.features import Features
from tf_pof.tasks.task import Task
from tf_pof.training import strategy as strategies


class Scored(Protocol):
    """What a model tells; called, it maps inputs to logits.

    Attributes:
        head: "classifier" or "span".
        num_labels: width of the classifier's logits.
        labels: names of the classes by id, or None.
        vocab_file: path, or None.
        tokenizer_settings: what is done to its texts, or None if unknown.
        config: with `vocabulary_size` and `max_sequence_length`.
    """

    head: str
    num_labels: int
    labels: Sequence[str] | None
    vocab_file: str | None
    tokenizer_settings: TokenizerSettings | None
    config: Any


class Splits:
    """Scores models on the splits of a task, each read once.

    Args:
        task: whose splits.
        tokenizer: of the models.
        batch_size: sequences computed together.
        most: examples of a split to take, the first ones; None takes all.
    """

    def __init__(
        self,
        task: Task,
        tokenizer: WordPiece,
        batch_size: int,
        most: int | None = None,
    ):
        self.task, self._tokenizer = task, tokenizer
        self._batch_size, self._most = batch_size, most
        self._read: dict[str, tuple[Any, Features]] = {}

    def read(self, split: str, model: Scored) -> tuple[Any, Features]:
        """Examples and features of a split, for a model.

        Raises:
            ValueError: if the split is not there, or the model has fewer
                positions than it needs.
        """
        if split not in self._read:
            examples = self.task.examples(split)[: self._most]
            features = self.task.features(
                examples, self._tokenizer, training=False
            )
            self._read[split] = examples, features
        examples, features = self._read[split]
        check_length(model, self.task, features)
        return examples, features

    def score(
        self,
        model: Scored,
        split: str,
        console: rich.console.Console | None = None,
        predictions: str | None = None,
    ) -> dict[str, float]:
        """Metrics of a model; none for a split without labels.

        Args:
            model: with the task's head.
            split: its name.
            console: for the progress.
            predictions: folder to write the submission files to.

        Raises:
            ValueError: if the model has other labels or fewer positions than
                the task needs, or the split is not there.
        """
        examples, features = self.read(split, model)
        outputs = self.outputs(model, split, console)
        if predictions:
            self.task.write_predictions(
                predictions, split, examples, features, outputs
            )
        if split not in self.task.evaluation_splits:
            return {}
        return self.task.score(examples, features, outputs)

    def outputs(
        self,
        model: Scored,
        split: str,
        console: rich.console.Console | None = None,
    ) -> dict[str, np.ndarray]:
        """Logits of a split as `Task.score` takes them, see `score`."""
        features = self.read(split, model)[1]
        outputs = scoring.outputs_of(
            model, features, self._batch_size, console
        )
        order = self.task.class_order(
            getattr(model, "labels", None), "The model"
        )
        if order is not None:
            outputs["logits"] = outputs["logits"][:, order]
        return outputs


def run(
    spec: str,
    options: dict[str, Any],
    console: rich.console.Console,
    splits: Sequence[str] | None = None,
    output: str | None = None,
    batch_size: int = 32,
    precision: str = "float32",
    vocab: str | None = None,
    lowercase: bool | None = None,
) -> dict[str, dict[str, float]]:
    """Scores a model, prints the metrics and writes predictions.

    Args:
        spec: the model, see `trained.load`.
        options: of `registry.create`.
        console: to print on.
        splits: names; all labelled ones by default.
        output: folder for metrics.json and predictions, or None.
        batch_size: sequences computed together.
        precision: of the forward pass, a Keras policy.
        vocab: path, by default the model's own.
        lowercase: whether the vocabulary is of lower-cased text; by default
            as the model or its vocabulary tells.

    Returns:
        Metrics by split.

    Raises:
        ValueError: if model, task and data do not fit together.
        OSError: if something cannot be read or written.
    """
    check_output(output)
    # As in the run that trained it, so that its own figures come out.
    strategies.fix_order_of_sums()
    keras.mixed_precision.set_global_policy(precision)
    return evaluate(
        trained.load(spec),
        spec,
        options,
        console,
        splits,
        output,
        batch_size,
        vocab,
        lowercase,
    )


def check_output(output: str | None) -> None:
    """Makes sure, before any work, that the output can be written.

    Raises:
        ValueError: if it is no folder.
        OSError: if it cannot be written to.
    """
    if output is not None:
        files.require_folder_path(output, "The output")
        path = os.path.join(output, "metrics.json")
        files.require_file_path(path, "The file")


def evaluate(
    model: Scored,
    spec: str,
    options: dict[str, Any],
    console: rich.console.Console,
    splits: Sequence[str] | None = None,
    output: str | None = None,
    batch_size: int = 32,
    vocab: str | None = None,
    lowercase: bool | None = None,
) -> dict[str, dict[str, float]]:
    """Like `run`, of a model that is loaded; `spec` is its name."""
    task = task_for(model, spec, options)
    tokenizer_files.override(model, vocab, lowercase)
    scores = Splits(task, load_tokenizer(spec, model), batch_size)
    names = splits or task.evaluation_splits
    for split in names:
        scores.read(split, model)
    folders = _folders(task, names, output)
    for folder in filter(None, {output, *folders.values()}):
        files.require_folder_path(folder, "The output")
    metrics = {
        split: scores.score(model, split, console, folders[split])
        for split in names
    }
    for note in task.notes():
        _say(console, note)
    show(metrics, console)
    if output:
        files.write_json(os.path.join(output, "metrics.json"), metrics)
        _say(console, f"Predictions: {output}")
    return metrics


def _say(console: rich.console.Console, text: str) -> None:
    # Paths may hold brackets, which are no markup.
    console.print(text, soft_wrap=True, markup=False)


def task_for(model: Scored, spec: str, options: dict[str, Any]) -> Task:
    """The task of `registry.create`'s options, if the model has its head.

    Raises:
        ValueError: if it has another.
    """
    if options["name"] == "custom" and model.head == "classifier":
        labels = getattr(model, "labels", None)
        is_named = labels and not is_numbered(labels, "LABEL_")
        if options.get("train_file") and not is_named:
            # The data know better.
            labels = None
        options = {
            "labels": labels,
            "regression": model.num_labels == 1,
            **options,
        }
    task = registry.create(**options)
    if (model.head, model.num_labels) != (task.head, task.num_labels):
        raise ValueError(
            f"{spec} has a {model.head} head of {model.num_labels} outputs, "
            f"but {task.name} needs a {task.head} of {task.num_labels}: "
            "choose the task it was trained on."
        )
    return task


def _folders(
    task: Task, splits: Sequence[str], output: str | None
) -> dict[str, str | None]:
    """Where the predictions of each split go.

    Raises:
        ValueError: if nothing would come out.
    """
    if not splits:
        raise ValueError(
            f"{task.name} has no labelled split to score: give a "
            "--validation_file, or --split=test for predictions."
        )
    unlabelled = [s for s in splits if s not in task.evaluation_splits]
    if unlabelled and not output:
        raise ValueError(
            f"The split {unlabelled[0]} gives predictions only: say with "
            "--output where to write them."
        )
    # Test and validation files have one name.
    kinds = {split.partition("_")[0] for split in splits}
    if output is None or len(kinds) == 1:
        return dict.fromkeys(splits, output)
    return {split: os.path.join(output, split) for split in splits}


def load_tokenizer(spec: str, model: Scored) -> WordPiece:
    """The tokenizer of a model.

    Raises:
        ValueError: if there is no vocabulary, or it is not the model's.
    """
    path = model.vocab_file
    if not path:
        raise ValueError(
            f"{spec} has no vocab.txt: name its vocabulary with --vocab."
        )
    tokenizer = WordPiece(path, settings=model.tokenizer_settings)
    size = model.config.vocabulary_size
    # Some tables have rows more, so that their number suits a processor.
    if len(tokenizer.vocabulary) > size:
        raise ValueError(
            f"{path} has {len(tokenizer.vocabulary)} tokens, but {spec} was "
            f"made with {size}: give its own vocabulary."
        )
    return tokenizer


def check_length(
    model: Scored,
    task: Task,
    features: Features,
    name: str = "The model",
) -> None:
    """Raises ValueError for sequences longer than the model's positions."""
    longest = int(features.lengths.max(initial=0))
    limit = model.config.max_sequence_length
    if longest > limit:
        raise ValueError(
            f"{name} has {limit} positions, but examples of {task.name} "
            f"are up to {longest} tokens long: lower --sequence_length."
        )


def show(
    metrics: dict[str, dict[str, float]], console: rich.console.Console
) -> None:
    """Prints metrics by split as a table."""
    scored = {split: m for split, m in metrics.items() if m}
    if not scored:
        return
    table = rich.table.Table("metric")
    for split in scored:
        table.add_column(split, justify="right")
    for name in dict.fromkeys(n for m in scored.values() for n in m):
        table.add_row(
            name,
            *(f"{m[name]:.4f}" if name in m else "" for m in scored.values()),
        )
    console.print(table)
