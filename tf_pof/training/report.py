"""The report at the end of a run: report.json and a table."""

import json
import os

import rich.console
import rich.table

from tf_pof import files
from tf_pof.training.pretraining import PretrainingDistiller

_NAME = "report.json"
_ROWS = {
    "MLM loss": "mlm",
    "MLM accuracy": "mlm_accuracy",
    "NSP loss": "nsp",
    "NSP accuracy": "nsp_accuracy",
}


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
    if distiller.pruner is not None:
        result["sparsity"] = distiller.pruner.report() | {
            "provenance": settings
        }
    return result


def read(folder: str) -> dict | None:
    """The report of a finished run, or None."""
    path = os.path.join(folder, _NAME)
    if not os.path.exists(path):
        return None
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def write(folder: str, result: dict) -> None:
    """Writes report.json, which marks the run as finished."""
    files.write_json(os.path.join(folder, _NAME), result)


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
