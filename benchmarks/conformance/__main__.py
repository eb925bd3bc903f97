"""What runtimes make of an exported model, as a table.

    python -m benchmarks.conformance [--model=runs/sst2_qat] [--engines=..]
    python -m benchmarks.conformance --model=runs/sst2_qat --tflite=sst2.tflite

The model is exported in an --encoding with a dynamic batch and with a batch of
1, unless files are given, and each runtime's logits are compared with those of
the quantized model in TensorFlow. A runtime is right if they are no
further away than `tf_pof.export.parity` lets files be, which depends on what
rounding the biases to int32 does to the model.
"""

import json
import os
import sys
import tempfile

from absl import app, flags
import numpy as np
import rich.console

from benchmarks.conformance import engines, models, table
from tf_pof.export import convert, encodings, litert, metadata
from tf_pof.export import program, reference

_MODEL = flags.DEFINE_string(
    "model",
    None,
    "A quantized model, as bin/export_tflite takes it. By default minilm_l6_90 "
    "with a head that tells prose from facts.",
)
_TFLITE = flags.DEFINE_list(
    "tflite",
    [],
    "Files that bin/export_tflite wrote of --model in the dense encoding: to "
    "run them as they are.",
)
_ENCODING = flags.DEFINE_enum(
    "encoding",
    "dense",
    encodings.STOCK,
    "Of the exported files. For tflite_1x16 the default model is pruned in "
    "1x16 blocks before its head is fitted.",
)
_TINY = flags.DEFINE_bool(
    "tiny", False, "Takes a random model of two small layers: for tests."
)
_ENGINES = flags.DEFINE_list(
    "engines", list(engines.ENGINES), "Names of the runtimes to try."
)
_LENGTH = flags.DEFINE_integer("length", 64, "Tokens of a sequence.")
_EXAMPLES = flags.DEFINE_integer("examples", 32, "Sequences to compare on.")
_BATCH = flags.DEFINE_integer("batch", 8, "Of the file with a dynamic batch.")
_JSON = flags.DEFINE_string("json", None, "File for the rows of the table.")
_MARKDOWN = flags.DEFINE_string("markdown", None, "File for the table.")


def model():
    """The QuantizedModel to export."""
    if _MODEL.value:
        return program.load(_MODEL.value)[0]
    if _TINY.value:
        return models.tiny(_LENGTH.value)
    pattern = "1x16" if _ENCODING.value == "tflite_1x16" else None
    return models.bundled(_LENGTH.value, pattern)


def exported(quantized, batch):
    """A file as bin/export_tflite writes it, with metadata and archive."""
    lengths = [_LENGTH.value]
    converted = convert.convert(quantized, lengths, batch)
    return metadata.add(
        encodings.apply(_ENCODING.value, converted),
        metadata.About(),
        metadata.details(quantized, lengths, batch),
        quantized.vocab_file,
    )


def files(quantized, folder, console):
    """Yields path, batch (0 if dynamic) and signature of what is run."""
    for path in _TFLITE.value:
        lite = litert.LiteModel(path)
        lengths = lite.sequence_lengths
        if _LENGTH.value not in lengths:
            raise app.UsageError(
                f"{path} takes sequences of {', '.join(map(str, lengths))} "
                "tokens: give one of them as --length."
            )
        several = len(lengths) > 1
        key = f"seq_{_LENGTH.value}" if several else "serving_default"
        yield os.path.abspath(path), lite.batch_size, key
    for batch in () if _TFLITE.value else (0, 1):
        path = os.path.join(folder, f"batch_{batch}.tflite")
        console.print(f"Exporting with batch {batch or 'dynamic'}.")
        with open(path, "wb") as file:
            file.write(exported(quantized, batch))
        yield path, batch, "serving_default"


def compare(engine, path, key, batch, inputs, expected, rounded, steps):
    """A row of the table; `expected` and `rounded` are logits by name."""
    with tempfile.TemporaryDirectory() as folder:
        given = os.path.join(folder, "inputs.json")
        with open(given, "w", encoding="utf-8") as file:
            json.dump(
                {
                    "signature": key,
                    "batch_size": batch,
                    "inputs": {k: v.tolist() for k, v in inputs.items()},
                },
                file,
            )
        try:
            result = engine.run(path, given, os.path.join(folder, "out.json"))
        except engines.Missing as error:
            return {"result": "not run", "message": str(error)}
        except RuntimeError as error:
            return {"result": "fails", "message": str(error)}
    found = table.named(result["outputs"], expected)
    if found is None:
        return {"result": "wrong", "message": "outputs of other shapes"}
    judged = table.judged(found, expected, rounded, steps)
    return {"version": result["version"], **judged}


def main(argv):
    del argv
    unknown = sorted(set(_ENGINES.value) - set(engines.ENGINES))
    if unknown:
        raise app.UsageError(
            f"There is no engine {unknown[0]}: choose "
            f"{', '.join(engines.ENGINES)}."
        )
    if _TFLITE.value and not _MODEL.value:
        raise app.UsageError("--tflite needs --model, that they were made of.")
    console = rich.console.Console(stderr=True)
    quantized = model()
    inputs = models.held_out(
        quantized.vocab_file, _EXAMPLES.value, _LENGTH.value
    )
    view = reference.exported_view(quantized)
    expected = {k: v.numpy() for k, v in view(inputs, training=False).items()}
    biased = reference.with_int32_biases(view)(inputs, training=False)
    rounded = {k: biased[k].numpy() for k in expected}
    steps = {k: reference.step_of(quantized, k) for k in expected}
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for path, batch, key in files(quantized, folder, console):
            shown = str(batch or "dynamic")
            for name in _ENGINES.value:
                engine = engines.ENGINES[name]
                console.print(f"{engine.name}, batch {shown}.")
                row = compare(
                    engine,
                    path,
                    key,
                    batch or _BATCH.value,
                    inputs,
                    expected,
                    rounded,
                    steps,
                )
                rows.append(
                    {
                        "engine": name,
                        "runtime": engine.name,
                        "batch": shown,
                        "note": engine.note,
                        **row,
                    }
                )
    noise = max(
        np.abs(rounded[k] - expected[k]).mean() / (steps[k] or 1)
        for k in expected
    )
    name = "minilm_l6_90, head fitted, ranges calibrated"
    if _ENCODING.value != "dense":
        name += f", half of its blocks pruned; encoding {_ENCODING.value}"
    if _MODEL.value:
        name = os.path.basename(os.path.normpath(_MODEL.value))
    if _TINY.value:
        name = "a random model of two layers"
    text = (
        f"{name}; {_EXAMPLES.value} texts of up to {_LENGTH.value} tokens; "
        f"int32 biases alone: {noise:.2f} steps in the mean.\n\n"
        + table.markdown(rows)
    )
    sys.stdout.write(text)
    for path, content in (
        (_JSON.value, json.dumps(rows, indent=1)),
        (_MARKDOWN.value, text),
    ):
        if path:
            with open(path, "w", encoding="utf-8") as file:
                file.write(content)


if __name__ == "__main__":
    app.run(main)
