"""What a fine-tuning run tells at its end, and what it leaves to read."""

import shlex
from typing import Any

import rich.console

from tf_pof._keras import keras
from tf_pof import untrusted
from tf_pof.quantization import QuantizationSchedule
from tf_pof.tasks import evaluation
from tf_pof.tasks.settings import Settings
from tf_pof.training import report


class Zeros(untrusted.Schema):
    """Kernels with zeros."""

    sparsity: float
    tensors: dict[str, dict[str, Any]]


class Quantized(untrusted.Schema):
    """Kernels and tables on int8."""

    layers: list[Any] | dict[str, Any]


class Report(report.Report):
    """What report.json of a run has."""

    metrics: dict[str, dict[str, float]]
    sparsity: Zeros | None = None
    quantization: Quantized | None = None


def show(result: dict, console: rich.console.Console) -> None:
    """Prints metrics, zeros and time of a run."""
    evaluation.show(result["metrics"], console)
    if "sparsity" in result:
        console.print(
            f"Zeros: {result['sparsity']['sparsity']:.4%} of "
            f"{len(result['sparsity']['tensors'])} kernels"
        )
    if "quantization" in result:
        layers = result["quantization"]["layers"]
        console.print(f"Quantized to int8: {len(layers)} kernels and tables")
    console.print(f"Time: {result['seconds'] / 60:.1f} min")


def state(
    settings: Settings,
    student: keras.Model,
    locked: dict[str, dict],
    quantization: QuantizationSchedule | None,
) -> dict:
    """What a report says of a model's zeros and ranges.

    Args:
        settings: of the run.
        student: that is trained, pruned or quantized.
        locked: of `tf_pof.pruning.lock.locked`.
        quantization: of the run.
    """
    found = {}
    if quantization:
        found["quantization"] = {
            "start_step": quantization.start_step,
            "freeze_step": quantization.freeze_step,
            "range_decay": settings.qat_range_decay,
            **student.quantization_state(),
        }
    if settings.schedule is not None:
        found["sparsity"] = student.pruner.report()
    elif locked:
        found["sparsity"] = of_locked(locked)
    return found


def of_locked(tensors: dict[str, dict]) -> dict:
    """What `Pruner.report` says, of locked kernels."""
    zeros = sum(tensor["zeros"] for tensor in tensors.values())
    size = sum(tensor["size"] for tensor in tensors.values())
    return {
        "sparsity": zeros / size,
        "zeros": zeros,
        "size": size,
        "tensors": tensors,
    }


def provenance(student: keras.Model, result: dict) -> dict | None:
    """Contents of sparsity.json: how it was pruned, and what came then."""
    if "sparsity" not in result:
        return None
    before = dict(getattr(student, "sparsity", None) or {})
    tensors = {
        name: {**before.get("tensors", {}).get(name, {}), **tensor}
        for name, tensor in result["sparsity"]["tensors"].items()
    }
    qat = "quantization" in result
    return {
        **before,
        **result["sparsity"],
        "tensors": tensors,
        "quantization" if qat else "fine_tuning": result["settings"],
    }


def next_command(settings: Settings) -> str:
    """What is done with the model of a run, for the user."""
    model = f"--model={shlex.quote(settings.output)}"
    if settings.qat:
        return f"Next: bin/export_tflite {model} --output=FILE.tflite"
    options = {"task": settings.task["name"], **settings.task}
    del options["name"]
    task = " ".join(f"--{k}={_as_flag(v)}" for k, v in options.items())
    return f"Next: bin/finetune --qat {model} {task} --output=INT8"


def _as_flag(value) -> str:
    if isinstance(value, (list, tuple)):
        value = ",".join(map(str, value))
    return shlex.quote(str(value))
