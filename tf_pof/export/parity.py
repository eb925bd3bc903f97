"""The parity gate: a .tflite against the quantized model it was made of.

The file is run in LiteRT on examples of the task and compared with the
model's own forward pass, in which int8 is emulated in float32. Two kinds of
differences are right and cannot be avoided:

- TFLite rounds biases to int32, and its built-in FULLY_CONNECTED rounds a sum
  twice. Either moves about one level in a thousand by one.
- Sums of layer norm, softmax and attention are taken in another order.

They are tiny where they arise. But where the step of a residual branch is
coarse beside what the next layer norm makes of it, they grow from layer to
layer until they are as large as what quantization itself does: a property of
the model and not of the file. Of a MiniLM-L6 on SST-2 whose ranges were
calibrated and not trained, rounding the biases to int32 alone moves the logits
by 5 steps in the mean; a factor of 1 + 1e-5 in the first layer norm by 3.
So the model with int32 biases is a yardstick: logits, answers and metrics are
held to what it shows to be noise. (Of four models measured, files were 0.9 to
1.2 times as far away.) What is wrong for sure is found where it arises: every
Dense by itself is held to the one step that rounding explains (`layerwise`).
"""

from collections.abc import Callable
import dataclasses
from typing import Any

from tf_pof._keras import keras

import numpy as np

from tf_pof.data import documents, sample
from tf_pof.export import layerwise, reference
from tf_pof.export.litert import LiteModel
from tf_pof.tasks import evaluation, scoring
from tf_pof.tasks.classification import label_order
from tf_pof.tasks.features import Features
from tf_pof.tasks.task import Task

# Tokens that the layers are compared on: enough to meet every channel.
_LAYER_TOKENS = 256


@dataclasses.dataclass(frozen=True)
class Data:
    """What a file is compared on.

    Attributes:
        features: n sequences.
        task, examples: that they are of, if the task's metric is wanted.
    """

    features: Features
    task: Task | None = None
    examples: Any = None


@dataclasses.dataclass(frozen=True)
class Tolerance:
    """What is let through.

    Attributes:
        own_steps: largest difference of any Dense on equal inputs.
        mean_steps: mean difference of logits, in their own steps.
        agreement: least share of examples that get the same answer.
        points: difference of the task's main metric, in percent.
        growth: times what int32 biases do to logits and metric, if that is
            more; of answers they may change as many again as int32 biases do.
    """

    own_steps: float = 1.5
    mean_steps: float = 1.0
    agreement: float = 0.95
    points: float = 2.0
    growth: float = 3.0


def task_data(
    model: keras.Model, spec: str, options: dict[str, Any], most: int = 200
) -> Data:
    """The first examples of a task's validation split.

    Args:
        model: with the task's head.
        spec: its name, for messages.
        options: of `tasks.registry.create`.
        most: examples to take.

    Raises:
        ValueError: if model, task and data do not fit together.
    """
    task = evaluation.task_for(model, spec, options)
    if not task.evaluation_splits:
        raise ValueError(
            f"{task.name} has no labelled split to check the .tflite on: give "
            "a --validation_file."
        )
    tokenizer = evaluation.load_tokenizer(spec, model)
    splits = evaluation.Splits(task, tokenizer, 1, most)
    examples, features = splits.read(task.evaluation_splits[0], model)
    return Data(features, task, examples)


def sample_data(
    model: keras.Model, spec: str, sequence_length: int, most: int = 64
) -> Data:
    """Paragraphs of the bundled sample: for models without a task's data."""
    tokenizer = evaluation.load_tokenizer(spec, model)
    pieces = documents.plan_files(sample.text_paths()[:1])
    texts = []
    for text in documents.read_piece(pieces[0], "blank_line"):
        # Paragraphs of many lengths, as texts are.
        texts += [line for line in text.splitlines() if len(line) > 20]
        if len(texts) >= most:
            break
    encoded = tokenizer.encode(texts[:most], sequence_length)
    return Data(Features.from_padded(encoded, {}))


def check(
    model: keras.Model,
    contents: bytes,
    data: Data,
    tolerance: Tolerance = Tolerance(),
    batch_size: int = 16,
    progress: Callable[[str], None] = lambda step: None,
) -> dict[str, Any]:
    """Compares a .tflite with the model that it was made of.

    Args:
        model: the QuantizedModel.
        contents: of the .tflite, in the dense encoding.
        data: what to compare them on.
        tolerance: what is let through.
        batch_size: sequences computed together.
        progress: called with what is done next.

    Returns:
        A report for JSON: "examples"; "outputs", with differences by name;
        "agreement" (None for scores) of the file with the model, and
        "int32_biases_agreement"; "metrics" of "model", "int32_biases" and
        "tflite", or None; "layers", by sequence length the fields of each
        `LayerDifference`; "worst_layer", where differences grow most.

    Raises:
        ValueError: if it computes something else, naming the layer where that
            begins.
    """
    def refuse(problem):
        raise ValueError(
            f"The .tflite does not compute what {model.name} does: {problem}, "
            f"because {reason}."
        )

    lite = LiteModel(contents)
    features = _within(data.features, lite.sequence_lengths[-1])
    progress("Comparing the layers")
    layers, worst, reason = _layers(model, contents, lite, features, tolerance)
    if _largest_own(layers) > tolerance.own_steps:
        refuse("a layer is wrong")
    progress("Comparing the outputs")
    view = reference.exported_view(model)
    expected = scoring.outputs_of(view, features, batch_size)
    rounded = scoring.outputs_of(
        reference.with_int32_biases(view), features, batch_size
    )
    found = scoring.run(
        lambda inputs: reference.logits(lite(inputs)), features, batch_size
    )
    report = {
        "examples": len(features),
        "outputs": {
            name: reference.differences(
                found[name],
                expected[name],
                rounded[name],
                _valid(name, expected[name], features),
                reference.step_of(model, name),
            )
            for name in expected
        },
        "agreement": _agreement(model, found, expected),
        "int32_biases_agreement": _agreement(model, rounded, expected),
        "metrics": _metrics(
            model,
            data,
            {"model": expected, "int32_biases": rounded, "tflite": found},
        ),
        "layers": layers,
        "worst_layer": worst,
    }
    problem = _problem(report, data.task, tolerance)
    if problem:
        refuse(problem)
    return report


def _layers(model, contents, lite, features, tolerance):
    """Differences by sequence length, the worst layer and what is wrong."""
    found, worst, reason = {}, None, ""
    for length in lite.sequence_lengths:
        inputs = _layer_inputs(features, length, lite.batch_size)
        differences = layerwise.compare(model, contents, inputs)
        found[str(length)] = [dataclasses.asdict(d) for d in differences]
        largest = max(d.own_max for d in differences)
        if worst is None or largest > tolerance.own_steps:
            worst, reason = layerwise.blame(differences, tolerance.own_steps)
    return found, worst, reason


def _largest_own(layers):
    return max(d["own_max"] for found in layers.values() for d in found)


def _layer_inputs(features, length, batch_size):
    """The longest sequences, cut or padded to a length."""
    count = batch_size or max(1, _LAYER_TOKENS // length)
    longest = np.argsort(-features.lengths, kind="stable")[:count]
    rows = np.resize(longest, count)
    columns = max(length, int(features.lengths[rows].max()))
    inputs = features.inputs(rows, columns)
    return {k: np.ascontiguousarray(v[:, :length]) for k, v in inputs.items()}


def _within(features, length):
    """Raises ValueError for sequences longer than the file takes."""
    longest = int(features.lengths.max(initial=0))
    if longest > length:
        raise ValueError(
            f"The examples are up to {longest} tokens long, but the .tflite "
            f"takes {length}: export it with larger --sequence_lengths, or "
            "lower --sequence_length."
        )
    return features


def _valid(name, values, features):
    """Where there are outputs: not beyond the end of a sequence."""
    if name == "logits":
        return np.ones_like(values, bool)
    return np.arange(values.shape[1]) < features.lengths[:, None]


def _agreement(model, found, expected):
    """Share of the same argmax; of two outputs the lesser one."""
    if model.head == "classifier" and model.num_labels == 1:
        return None
    return min(
        float(np.mean(found[name].argmax(1) == expected[name].argmax(1)))
        for name in expected
    )


def _metrics(model, data, outputs):
    if data.task is None:
        return None
    order = label_order(data.task.labels, getattr(model, "labels", None))
    scores = {}
    for name, values in outputs.items():
        if order is not None:
            values = {"logits": values["logits"][:, order]}
        scores[name] = data.task.score(data.examples, data.features, values)
    return scores


def _problem(report, task, tolerance) -> str | None:
    """What is not let through, as a clause."""
    for name, found in report["outputs"].items():
        limit = max(
            tolerance.mean_steps,
            tolerance.growth * found["int32_biases_mean_steps"],
        )
        # Not "greater": NaN is wrong, too.
        if not found["mean_steps"] <= limit:
            return (
                f"its {name} are {found['mean_steps']:.1f} quantization steps "
                f"away in the mean, where {limit:.1f} would pass"
            )
    agreement = report["agreement"]
    if agreement is not None:
        noise = 1 - report["int32_biases_agreement"]
        limit = tolerance.agreement - noise
        if agreement < limit:
            return (
                f"{agreement:.1%} of {report['examples']} examples get the "
                f"same answer, where {limit:.1%} would pass"
            )
    if task is None:
        return None
    model, rounded, tflite = (
        report["metrics"][name][task.main_metric]
        for name in ("model", "int32_biases", "tflite")
    )
    # SQuAD's are in percent already.
    limit = tolerance.points / (1 if task.head == "span" else 100)
    limit = max(limit, tolerance.growth * abs(rounded - model))
    if not abs(tflite - model) <= limit:
        return (
            f"its {task.main_metric} on {report['examples']} examples is "
            f"{tflite:.4f} instead of {model:.4f}"
        )
    return None
