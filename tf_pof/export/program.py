"""The export program: from a trained quantized model to one checked .tflite."""

from collections.abc import Sequence
import dataclasses
import os
import re
import resource
import sys
import time
from typing import Any

import rich.console
import rich.table

from tf_pof._keras import keras
from tf_pof import files, untrusted
from tf_pof.data import tokenizer_files
from tf_pof.export import encodings, metadata, parity, size
from tf_pof.export.convert import convert
from tf_pof.models import bert, weights
from tf_pof.quantization import QuantizedModel, saved
from tf_pof.tasks import trained

# Below it zeros are chance.
_SPARSE = 0.01
# Tokens of a sequence where neither the user nor the training says so.
_LENGTHS = {"span": 384}
_DEFAULT_LENGTH = 128


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """What to export; the flags of bin/export_tflite say what fields mean."""

    model: str
    output: str
    # None: as trained.
    sequence_lengths: Sequence[int] | None = None
    batch_size: int = 0
    encoding: str = "dense"
    parity: bool = True
    parity_examples: int = 200
    # "name" and the arguments of `tasks.registry.create`; None: sample texts.
    task: dict[str, Any] | None = None
    name: str | None = None
    author: str = ""
    license: str = ""
    vocab: str | None = None
    lowercase: bool | None = None
    report: str | None = None


def run(settings: Settings, console: rich.console.Console) -> dict:
    """Exports a model: converts, checks, encodes, describes and writes it.

    The file is there under its name once it is complete and has passed; until
    then, and if it does not, what was there before stays.

    Args:
        settings: of the export.
        console: for the progress and the tables.

    Returns:
        The report: "model", "output", "encoding", "sequence_lengths", "size"
        (of `size.report`), "parity" (of `parity.check`, or None), "seconds"
        and "peak_bytes" (of this process's memory).

    Raises:
        ValueError: if the model cannot be exported, does not suit the
            encoding, or the file does not compute what the model does.
        OSError: if something cannot be read or written.
    """
    began = time.monotonic()
    files.require_file_path(settings.output, "The output")
    if settings.report is not None:
        files.require_file_path(settings.report, "The report")
    keras.mixed_precision.set_global_policy("float32")
    model, provenance = load(settings.model)
    tokenizer_files.override(model, settings.vocab, settings.lowercase)
    _check_zeros(model, settings, console)
    described = metadata.details(
        model,
        settings.sequence_lengths or (_trained_length(model, provenance),),
        settings.batch_size,
        settings.encoding,
        provenance,
    )
    lengths = described["sequence_lengths"]
    data = _parity_data(model, settings, lengths) if settings.parity else None

    def progress(step):
        console.print(f"{step}.", soft_wrap=True)

    dense = convert(model, lengths, settings.batch_size, progress)
    if settings.encoding != "dense":
        progress(f"Encoding as {settings.encoding}")
    about = metadata.About(
        settings.name or os.path.basename(os.path.normpath(settings.model)),
        settings.author,
        settings.license,
    )
    contents = metadata.add(
        encodings.apply(settings.encoding, dense),
        about,
        described,
        model.vocab_file,
    )
    progress("Decoding the file")
    encodings.check(dense, contents)
    found = None
    if data is not None:
        runs = contents if settings.encoding in encodings.STOCK else dense
        found = parity.check(model, runs, data, progress=progress)
    result = {
        "model": settings.model,
        "output": settings.output,
        "encoding": settings.encoding,
        "sequence_lengths": lengths,
        "batch_size": settings.batch_size,
        "size": size.report(contents),
        "parity": found,
    }
    files.write_bytes(settings.output, contents)
    result["seconds"] = time.monotonic() - began
    result["peak_bytes"] = _peak_bytes()
    if settings.report:
        files.write_json(settings.report, result)
    show(result, console)
    return result


def load(spec: str) -> tuple[QuantizedModel, dict]:
    """A quantized model, and how it was made.

    Args:
        spec: the output of bin/finetune --qat, one of its checkpoints, or the
            folder of a quantized model.

    Returns:
        model: a QuantizedModel.
        provenance: contents of sparsity.json, with the settings of the run
            that trained the model as "quantization".

    Raises:
        ValueError: if there is none.
    """
    spec = os.path.expanduser(spec)
    if os.path.exists(os.path.join(spec, "quantization.json")):
        # Also a model without a task's head.
        model = saved.load(spec)
    else:
        model = trained.load(spec)
    if not isinstance(model, QuantizedModel):
        raise ValueError(
            f"{spec} is not quantized: train it with bin/finetune --qat, and "
            "give the folder of that run."
        )
    provenance = dict(getattr(model, "sparsity", None) or {})
    path = os.path.join(spec, "settings.json")
    if os.path.exists(path):
        provenance.setdefault("quantization", untrusted.read_json(path))
    return model, provenance


def _check_zeros(model, settings, console):
    """Warns of a dense model, and refuses to encode zeros that are not there.

    Raises:
        ValueError: if the encoding has nothing to gain.
    """
    zeros = total = 0
    for path, value in weights.effective(model):
        if re.match(f"{bert.PRUNABLE[:-1]}/kernel$", path):
            zeros += value.size - (value != 0).sum()
            total += value.size
    if not total or zeros / total >= _SPARSE:
        return
    if settings.encoding != "dense":
        raise ValueError(
            f"{settings.model} is not sparse, so that --encoding="
            f"{settings.encoding} has nothing to leave out: use "
            "--encoding=dense, or prune the model."
        )
    console.print(
        f"Warning: {settings.model} is not sparse; the file will be int8, but "
        "no smaller or faster than that.",
        soft_wrap=True,
    )


def _trained_length(model, provenance):
    """Tokens of the sequences that the model was trained on."""
    for stage in ("quantization", "fine_tuning"):
        task = (provenance.get(stage) or {}).get("task") or {}
        if task.get("sequence_length"):
            return task["sequence_length"]
    length = _LENGTHS.get(model.head, _DEFAULT_LENGTH)
    return min(length, model.config.max_sequence_length)


def _parity_data(model, settings, lengths):
    if settings.task is None:
        return parity.sample_data(
            model,
            settings.model,
            lengths[-1],
            min(settings.parity_examples, 64),
        )
    return parity.task_data(
        model,
        settings.model,
        {"sequence_length": lengths[-1], **settings.task},
        settings.parity_examples,
    )


def _peak_bytes():
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Linux counts KiB, macOS bytes.
    return peak if sys.platform == "darwin" else peak * 1024


def show(result: dict, console: rich.console.Console) -> None:
    """Prints sizes, differences and what the export took."""
    size.show(result["size"], console, tensors=False)
    if result["parity"]:
        _show_parity(result["parity"], console)
    console.print(
        f"Time: {result['seconds']:.0f} s, memory: "
        f"{result['peak_bytes'] / 2**30:.1f} GiB"
    )
    console.print(f"Model: {result['output']}", soft_wrap=True)


def _show_parity(found, console):
    table = rich.table.Table(
        title=f"Differences from the model on {found['examples']} examples"
    )
    for heading in ("", "mean steps", "largest", "cosine"):
        table.add_column(heading, justify="left" if not heading else "right")
    for name, output in found["outputs"].items():
        table.add_row(
            name,
            f"{output['mean_steps']:.2f}",
            f"{output['max_difference']:.4f}",
            f"{output['cosine']:.6f}",
        )
    console.print(table)
    if found["agreement"] is not None:
        console.print(f"Same answers: {found['agreement']:.1%}")
    for source, metrics in (found["metrics"] or {}).items():
        values = ", ".join(f"{k} {v:.4f}" for k, v in metrics.items())
        console.print(f"Metrics of the {source}: {values}")
