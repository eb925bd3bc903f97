"""What runtimes make of an exported model, as a table.

    python -m benchmarks.conformance [--model=runs/sst2_qat] [--engines=..]

The model is exported in the dense encoding with a dynamic batch and with a
batch of 1, and each runtime's logits are compared with those of the quantized
model in TensorFlow. A runtime is right if they are no further away than
`tf_pof.export.parity` lets files be, which depends on what rounding the biases
to int32 does to the model.
"""

import json
import os
import sys
import tempfile

from absl import app, flags
import numpy as np
import rich.console

import tf_pof
from benchmarks.conformance import engines, table
from tf_pof import quantization
from tf_pof._keras import keras
from tf_pof.export import convert, metadata, parity, program, reference
from tf_pof.models import bert
from tf_pof.models.config import BertConfig

_MODEL = flags.DEFINE_string(
    "model",
    None,
    "A quantized model, as bin/export_tflite takes it. By default minilm_l6_90 "
    "with a random head and ranges calibrated on the sample texts.",
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
    keras.utils.set_random_seed(0)
    if _TINY.value:
        vocabulary = tf_pof.load("minilm_l6_90", head=None)
        plain = bert.build(
            BertConfig(
                vocabulary_size=vocabulary.config.vocabulary_size,
                num_layers=2,
                num_heads=2,
                hidden_dim=32,
                intermediate_dim=64,
                max_sequence_length=_LENGTH.value,
                initializer_range=0.2,
            ),
            "classifier",
            3,
        )
        plain.vocab_file, plain.lowercase = vocabulary.vocab_file, True
    else:
        plain = tf_pof.load("minilm_l6_90", head="classifier")
    rng = np.random.default_rng(0)
    for variable in plain.trainable_variables:
        if "bias" in variable.name and not variable.numpy().any():
            variable.assign(0.05 * rng.normal(size=variable.shape))
    quantized = quantization.quantize(plain)
    data = parity.sample_data(quantized, "the model", _LENGTH.value, 64)
    batches = [
        data.features.inputs(np.arange(i, i + 16), _LENGTH.value)
        for i in range(0, 64, 16)
    ]
    return quantization.calibrate(quantized, batches)


def exported(quantized, batch):
    """A file as bin/export_tflite writes it, with metadata and archive."""
    lengths = [_LENGTH.value]
    return metadata.add(
        convert.convert(quantized, lengths, batch),
        metadata.About(),
        metadata.details(quantized, lengths, batch),
        quantized.vocab_file,
    )


def compare(engine, path, batch, inputs, expected, rounded, steps):
    """A row of the table; `expected` and `rounded` are logits by name."""
    with tempfile.TemporaryDirectory() as folder:
        given = os.path.join(folder, "inputs.json")
        with open(given, "w", encoding="utf-8") as file:
            json.dump(
                {
                    "signature": "serving_default",
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
    console = rich.console.Console(stderr=True)
    quantized = model()
    data = parity.sample_data(
        quantized, "the model", _LENGTH.value, _EXAMPLES.value
    )
    inputs = data.features.inputs(
        np.arange(len(data.features)), _LENGTH.value
    )
    view = reference.exported_view(quantized)
    expected = {k: v.numpy() for k, v in view(inputs, training=False).items()}
    biased = reference.with_int32_biases(view)(inputs, training=False)
    rounded = {k: biased[k].numpy() for k in expected}
    steps = {k: reference.step_of(quantized, k) for k in expected}
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for batch, shown in ((0, "dynamic"), (1, "1")):
            path = os.path.join(folder, f"batch_{batch}.tflite")
            console.print(f"Exporting with batch {shown}.")
            with open(path, "wb") as file:
                file.write(exported(quantized, batch))
            for name in _ENGINES.value:
                engine = engines.ENGINES[name]
                console.print(f"{engine.name}, batch {shown}.")
                row = compare(
                    engine,
                    path,
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
    name = _MODEL.value or "minilm_l6_90, random head, calibrated"
    if _TINY.value:
        name = "a random model of two layers"
    text = (
        f"{name}; {len(data.features)} texts of up to {_LENGTH.value} tokens; "
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
