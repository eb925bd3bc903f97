"""The report at the end of a run: report.json and a table."""

import os
from typing import Any, TypeVar

import rich.console
import rich.table

from tf_pof import files, untrusted
from tf_pof.training.pretraining import PretrainingDistiller
from tf_pof.training.settings import TrainingSettings

NAME = "report.json"
_ROWS = {
    "MLM loss": "mlm",
    "MLM accuracy": "mlm_accuracy",
    "NSP loss": "nsp",
    "NSP accuracy": "nsp_accuracy",
}


class Tensor(untrusted.Schema):
    """One pruned tensor."""

    shape: list[int]
    sparsity: float


class Sparsity(untrusted.Schema):
    """All pruned tensors."""

    sparsity: float
    tensors: dict[str, Tensor]


class Report(untrusted.Schema):
    """What every report.json has."""

    settings: dict[str, Any]
    seconds: float


class PretrainingReport(Report):
    """What `make` gives."""

    student: dict[str, float]
    teacher: dict[str, float] | None
    sparsity: Sparsity | None = None


AnyReport = TypeVar("AnyReport", bound=Report)


def make(
    settings: dict,
    distiller: PretrainingDistiller,
    student: dict[str, float],
    teacher: dict[str, float] | None,
    seconds: float,
) -> dict:
    """The contents of report.json.

    Args:
        settings: of the run.
        distiller: after training.
        student, teacher: validation metrics; teacher may be None.
        seconds: of this process, from its start to the last step.
    """
    result = {
        "settings": settings,
        "student": student,
        "teacher": teacher,
        "seconds": seconds,
    }
    sparsity = sparsity_of(settings, distiller)
    return result if sparsity is None else result | {"sparsity": sparsity}


def sparsity_of(
    settings: dict, distiller: PretrainingDistiller
) -> dict | None:
    """The contents of sparsity.json; None of a run that does not prune."""
    if distiller.pruner is None:
        return None
    return distiller.pruner.report() | {"provenance": settings}


def read(
    settings: TrainingSettings, schema: type[AnyReport] = PretrainingReport
) -> dict | None:
    """The report of a finished run, or None.

    Args:
        settings: of the run; a report of a shorter one does not count.
        schema: that it must fit.

    Raises:
        ValueError: if it does not, or is of a longer run.
    """
    path = os.path.join(settings.output, NAME)
    if not os.path.exists(path):
        return None
    result = untrusted.read_json(path)
    told = untrusted.fit(result, schema, path).settings
    identity = settings.identity()
    for name in ("train_steps", "epochs"):
        if is_more(told.get(name), identity.get(name)):
            return None
        if told.get(name) != identity.get(name):
            raise ValueError(
                f"{path} is of another run ({name} {told.get(name)!r} there, "
                f"{identity.get(name)!r} now): choose another --output."
            )
    return result


def is_more(old: Any, new: Any) -> bool:
    """Whether a run was planned for some steps, and now is for more."""
    numbers = all(type(value) in (int, float) for value in (old, new))
    return numbers and 0 < old < new


def write(folder: str, result: dict) -> None:
    """Writes report.json, which marks the run as finished."""
    files.write_json(os.path.join(folder, NAME), result)


def show(result: dict, console: rich.console.Console) -> None:
    """Prints the validation table and the sparsity of every tensor."""
    sparsity = result.get("sparsity")
    if sparsity:
        table = rich.table.Table("tensor", "inputs x outputs", "sparsity")
        for name, tensor in sparsity["tensors"].items():
            shape = " x ".join(map(str, tensor["shape"]))
            table.add_row(name, shape, f"{tensor['sparsity']:.4%}")
        table.add_row("all pruned tensors", "", f"{sparsity['sparsity']:.4%}")
        console.print(table)
    table = rich.table.Table("validation")
    columns = [result["student"]]
    if result["teacher"]:
        table.add_column("teacher", justify="right")
        columns.insert(0, result["teacher"])
    name = "student" if result["teacher"] else "model"
    table.add_column(name, justify="right")
    for label, key in _ROWS.items():
        if key in result["student"]:
            form = "{:.2%}" if "accuracy" in key else "{:.4f}"
            table.add_row(label, *(form.format(c[key]) for c in columns))
    console.print(table)
    console.print(f"Time: {result['seconds'] / 60:.1f} min")
