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
Hence logits are held to a multiple of what int32 biases do to the model, and
what is wrong for sure is found where it arises: every Dense by itself is held
to the one step that rounding explains (see `layerwise`).
"""

from collections.abc import Callable
import dataclasses
from typing import Any

from tf_pof._keras import keras

import numpy as np
import tensorflow as tf

from tf_pof.data import documents, sample
from tf_pof.export import graph, layerwise
from tf_pof.export.litert import LiteModel
from tf_pof.pruning import cloning
from tf_pof.quantization import fake_quant
from tf_pof.tasks import evaluation, scoring
from tf_pof.tasks.classification import label_order
from tf_pof.tasks.features import Features
from tf_pof.tasks.task import Task

# The Dense whose steps outputs are counted in.
_STEP_OF = {"logits": "classifier", "start_logits": "span_logits"}
_STEP_OF["end_logits"] = _STEP_OF["start_logits"]
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
        mean_steps: mean difference of logits, in steps of their own,
        growth: or this many times what int32 biases do, if that is more.
        agreement: least share of examples of the same argmax.
        points: largest difference of the task's main metric, in percent.
    """

    own_steps: float = 1.5
    mean_steps: float = 1.0
    growth: float = 3.0
    agreement: float = 0.95
    points: float = 2.0


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
        A report for JSON: "examples", "outputs" (see `_compare`),
        "agreement" (None for scores), "metrics" of both, and "layers", the
        fields of `LayerDifference` of each Dense for each sequence length.

    Raises:
        ValueError: if it computes something else, naming the layer where that
            begins.
    """
    progress("Comparing the layers")
    lite = LiteModel(contents)
    layers, worst, reason = _layers(
        model, contents, lite, data.features, tolerance
    )
    progress("Comparing the outputs")
    view = _view(model)
    features = _within(data.features, lite.sequence_lengths[-1])
    expected = scoring.outputs_of(view, features, batch_size)
    rounded = scoring.outputs_of(
        _with_int32_biases(view), features, batch_size
    )
    found = scoring.run(
        lambda inputs: _logits(lite(inputs)), features, batch_size
    )
    report = {
        "examples": len(features),
        "outputs": {
            name: _compare(
                found[name],
                expected[name],
                rounded[name],
                _valid(name, expected[name], features),
                _step(model, name),
            )
            for name in expected
        },
        "agreement": _agreement(model, found, expected),
        "metrics": _metrics(model, data, {"model": expected, "tflite": found}),
        "layers": layers,
        "worst_layer": worst,
    }
    problem = _problem(report, data.task, tolerance)
    if problem:
        raise ValueError(
            f"The .tflite does not compute what {model.name} does: {problem}, "
            f"because {reason}."
        )
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


def _logits(outputs):
    """The logits, or of an encoder the first token's vector as such."""
    if "pooled_output" in outputs:
        return {"logits": outputs["pooled_output"]}
    if "sequence_output" in outputs:
        return {"logits": outputs["sequence_output"][:, 0]}
    return outputs


def _view(model):
    """What is exported of a model: it has no other outputs."""
    outputs = {name: model.output[name] for name in graph.output_names(model)}
    return keras.Model(model.input, _logits(outputs), name=model.name)


class _Int32Bias(keras.layers.Layer):
    """A Dense whose bias is rounded as TFLite rounds it.

    Args:
        dense: a QuantizedDense.
        step: of its input.
    """

    def __init__(self, dense, step):
        super().__init__(name=dense.name, dtype="float32")
        self._dense = dense
        self._correction = np.float32(0)
        if dense.bias is not None:
            scales = fake_quant.weight_scales(dense.kernel.numpy(), True) * step
            bias = dense.bias.numpy()
            self._correction = np.rint(bias / scales) * scales - bias

    def call(self, inputs):
        return self._dense(inputs) + self._correction


def _with_int32_biases(view):
    """A clone that differs from a model as any right .tflite does."""
    nodes = layerwise.dense_nodes(view)

    def replacement(layer):
        if layer.name not in nodes:
            return layer
        quantizer = nodes[layer.name].keras_inputs[0]._keras_history.layer
        return _Int32Bias(layer, _quantizer_step(quantizer))

    return cloning.clone(view, replacement, keras.Model)


def _quantizer_step(quantizer):
    return fake_quant.activation_parameters(
        quantizer.minimum.numpy(), quantizer.maximum.numpy()
    )[0]


def _step(model, name):
    """Distance of the levels of an output; 0 if it is on none."""
    if model.head not in ("classifier", "span"):
        return 0.0
    quantizer = model.get_layer(f"{_STEP_OF[name]}_output_quantizer")
    return float(_quantizer_step(quantizer))


def _valid(name, values, features):
    """Where there are outputs: not beyond the end of a sequence."""
    if name == "logits":
        return np.ones_like(values, bool)
    return np.arange(values.shape[1]) < features.lengths[:, None]


def _compare(found, expected, rounded, valid, step):
    """Differences of an output, and of the model's with int32 biases.

    Without levels (`step` is 0) a step is 1/256 of the range of the output.
    """
    found, expected, rounded = found[valid], expected[valid], rounded[valid]
    step = step or float(np.ptp(expected)) / 256 or 1.0
    apart = np.abs(found - expected)
    norms = np.linalg.norm(found) * np.linalg.norm(expected)
    return {
        "step": step,
        "max_difference": float(apart.max()),
        "max_steps": float(apart.max()) / step,
        "mean_steps": float(apart.mean()) / step,
        "int32_biases_mean_steps": float(np.abs(rounded - expected).mean())
        / step,
        "cosine": float(np.vdot(found, expected) / norms) if norms else 1.0,
    }


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
    for length, layers in report["layers"].items():
        worst = max(layers, key=lambda layer: layer["own_max"])
        if worst["own_max"] > tolerance.own_steps:
            return f"at {length} tokens a layer is wrong"
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
    if agreement is not None and agreement < tolerance.agreement:
        return (
            f"{agreement:.1%} of {report['examples']} examples get the same "
            f"answer, where {tolerance.agreement:.1%} would pass"
        )
    if task is None:
        return None
    scores = [report["metrics"][k][task.main_metric] for k in ("model", "tflite")]
    # SQuAD's are in percent already.
    unit = 1 if task.head == "span" else 100
    if not abs(scores[0] - scores[1]) * unit <= tolerance.points:
        return (
            f"its {task.main_metric} on {report['examples']} examples is "
            f"{scores[1]:.4f} instead of {scores[0]:.4f}"
        )
    return None
