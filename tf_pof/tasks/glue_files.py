"""The files of GLUE's official downloads (gluebenchmark.com/tasks).

They are tab-separated without any quoting: a quote is a character like
others. MRPC is read as GLUE's scripts write it and as Microsoft ships it.
"""

from collections.abc import Iterator, Sequence
import dataclasses
import math
import os

import numpy as np
import tensorflow as tf

from tf_pof.tasks.classification import Examples
from tf_pof.tasks.text_files import RowError, listed, quoted, read_text


@dataclasses.dataclass(frozen=True)
class Format:
    """How the files of a task look.

    Attributes:
        folder: name of the task's folder within GLUE's.
        texts: columns of the text, or of both texts.
        label: column of the label.
        named: whether labels are written as names of classes, not numbers.
        header: columns of train and dev if their first line is an example.
        skips_broken: whether rows without all columns are left out, as every
            reader of GLUE does with the few that QQP has.
    """

    folder: str
    texts: tuple[str, ...]
    label: str = "label"
    named: bool = False
    header: tuple[str, ...] | None = None
    skips_broken: bool = False


_SENTENCES = ("sentence1", "sentence2")
FORMATS = {
    "cola": Format(
        "CoLA",
        ("sentence",),
        header=("source", "label", "mark", "sentence"),
    ),
    "sst2": Format("SST-2", ("sentence",)),
    "mrpc": Format("MRPC", ("#1 String", "#2 String"), "Quality"),
    "stsb": Format("STS-B", _SENTENCES, "score"),
    "qqp": Format(
        "QQP", ("question1", "question2"), "is_duplicate", skips_broken=True
    ),
    "mnli": Format("MNLI", _SENTENCES, "gold_label", named=True),
    "qnli": Format("QNLI", ("question", "sentence"), named=True),
    "rte": Format("RTE", _SENTENCES, named=True),
    "wnli": Format("WNLI", _SENTENCES),
}
_MICROSOFT = "msr_paraphrase_{}.txt"
_MICROSOFT_IDS = ("#1 ID", "#2 ID")
# GLUE's choice of pairs of Microsoft's train file for validation.
_DEV_IDS = ("dev_ids.tsv", "mrpc_dev_ids.tsv")


def read(
    name: str, raw_dir: str, split: str, labels: Sequence[str] | None
) -> tuple[Examples, list[str]]:
    """Reads a split.

    Args:
        name: of the task, a key of FORMATS.
        raw_dir: the folder that holds the tasks' folders, or the task's own.
        split: as TFDS names it, such as "validation_matched".
        labels: names of the classes by id; None for scores.

    Returns:
        The examples, and sentences on what was met.

    Raises:
        OSError: if a file cannot be read.
        ValueError: if it is not there or malformed.
    """
    form = FORMATS[name]
    path, ids_path = _locate(name, raw_dir, split)
    chosen, notes = _choice(path, ids_path, split)
    is_test = split.startswith("test")
    names = labels
    if labels is not None and not form.named:
        names = [str(i) for i in range(len(labels))]
    rows = _Rows(path, form, is_test)
    texts, ids, found = [], [], []
    for line, row in rows:
        if chosen and not chosen(rows.values(row, _MICROSOFT_IDS)):
            continue
        texts.append(rows.values(row, form.texts))
        if rows.labelled:
            (label,) = rows.values(row, [form.label])
            found.append(_label(path, line, label, names))
        # Otherwise TFDS' number, which counts the rows left out as well.
        index = row[0] if rows.indexed and is_test else line - rows.first
        try:
            ids.append(int(index))
        except ValueError:
            raise RowError(
                path,
                line,
                f"the index {quoted(index)} is not a number: fetch the file "
                "again.",
            ) from None
    if not texts:
        raise ValueError(f"{path} has no examples: fetch the file again.")
    if rows.broken:
        notes.append(
            f"{rows.broken:,} rows of {path} do not have all columns and "
            "were left out."
        )
    sides = [list(side) for side in zip(*texts)]
    kind = np.float32 if labels is None else np.int32
    examples = Examples(
        sides[0],
        sides[1] if len(sides) > 1 else None,
        np.array(found, kind) if rows.labelled else None,
        np.array(ids, np.int64),
        path,
    )
    return examples, notes


def paths(name: str, raw_dir: str, split: str) -> list[str]:
    """The files that `read` reads, see there."""
    return [path for path in _locate(name, raw_dir, split) if path]


def _locate(name: str, raw_dir: str, split: str) -> tuple[str, str | None]:
    """Where a split is, and the ids that choose among its rows, or None."""
    form = FORMATS[name]
    file = split.replace("validation", "dev") + ".tsv"
    path, ids_path = _find(form, raw_dir, file), None
    if path is None and name == "mrpc":
        path, ids_path = _microsoft(form, raw_dir, split)
    if path is None:
        raise ValueError(
            f"There is no {file} of {form.folder} in "
            f"{os.path.join(raw_dir, form.folder)} or {raw_dir}: give the "
            "folder of GLUE's official download with --raw_dir."
        )
    return path, ids_path


def _find(form: Format, raw_dir: str, file: str) -> str | None:
    """The path of a task's file, or None."""
    for folder in (os.path.join(raw_dir, form.folder), raw_dir):
        path = os.path.join(os.path.expanduser(folder), file)
        if tf.io.gfile.exists(path):
            return path
    return None


class _Rows:
    """The rows of a file, by the names of their columns.

    Attributes:
        labelled: whether there is a label column.
        indexed: whether the first column numbers the examples.
        first: line of the first row.
        broken: rows left out so far.
    """

    def __init__(self, path: str, form: Format, is_test: bool):
        self._path = path
        self._skips = form.skips_broken
        # Only a line feed ends a row, as split("\n") has it: some texts hold
        # characters that str.splitlines would break at.
        self._lines = read_text(path).split("\n")
        if form.header is None or is_test:
            header = self._fields(self._lines[0])
            self.first = 2
        else:
            header = list(form.header)
            self.first = 1
        self._places = {name: i for i, name in enumerate(header)}
        needed = [*form.texts, *(() if is_test else [form.label])]
        for name in needed:
            if name not in self._places:
                raise ValueError(
                    f'{path} has no column "{name}" but {listed(header)}: '
                    f"give the {form.folder} folder of GLUE's official "
                    "download."
                )
        self.labelled = form.label in self._places
        self.indexed = header[0] in ("index", "id")
        needed += [form.label] if self.labelled else []
        self._width = 1 + max(self._places[name] for name in needed)
        self._label = self._places.get(form.label)
        self.broken = 0

    @staticmethod
    def _fields(line: str) -> list[str]:
        return line.removesuffix("\r").split("\t")

    def __iter__(self) -> Iterator[tuple[int, list[str]]]:
        """Yields the lines' numbers and fields."""
        lines = self._lines
        for line, content in enumerate(lines[self.first - 1 :], self.first):
            if not content and line == len(lines):
                return
            row = self._fields(content)
            if len(row) >= self._width and not (
                self._skips and self.labelled and not row[self._label]
            ):
                yield line, row
            elif self._skips:
                self.broken += 1
            else:
                raise RowError(
                    self._path,
                    line,
                    f"{len(row)} columns where {self._width} are needed: "
                    "fetch the file again.",
                )

    def values(self, row: list[str], names: Sequence[str]) -> tuple[str, ...]:
        """The columns named."""
        return tuple(row[self._places[name]] for name in names)


def _label(path: str, line: int, text: str, names: Sequence[str] | None):
    """A class by how the task's files write it, or a score."""
    if names is not None:
        if text in names:
            return names.index(text)
        needed = f"not one of {listed(names)}"
    else:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        # STS-B's, the only scores of GLUE.
        if 0 <= value <= 5:
            return value
        needed = "not a number from 0 to 5"
    raise RowError(
        path,
        line,
        f"the label {quoted(text)} is {needed}: give the folder of the task "
        "that is asked for.",
    )


def _microsoft(
    form: Format, raw_dir: str, split: str
) -> tuple[str | None, str | None]:
    """Where a split of MRPC is in Microsoft's files, and GLUE's ids."""
    train = _find(form, raw_dir, _MICROSOFT.format("train"))
    test = _find(form, raw_dir, _MICROSOFT.format("test"))
    if split == "test":
        return test, None
    ids_path = next(
        (p for f in _DEV_IDS if (p := _find(form, raw_dir, f))), None
    )
    return (train if ids_path or split == "train" else test), ids_path


def _choice(path: str, ids_path: str | None, split: str):
    """Which pairs of Microsoft's ids a split has (None: all), and notes."""
    if ids_path is not None:
        pairs = {
            tuple(line.split("\t")[:2])
            for line in read_text(ids_path).splitlines()
        }
        dev = split == "validation"
        return lambda ids: (ids in pairs) == dev, []
    is_microsofts_test = os.path.basename(path) == _MICROSOFT.format("test")
    if split != "validation" or not is_microsofts_test:
        return None, []
    note = (
        f"MRPC is validated on Microsoft's test pairs, as there is no "
        f"{_DEV_IDS[0]} next to {path} that chooses GLUE's."
    )
    return None, [note]
