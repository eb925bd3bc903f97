"""The tables of the runs that quantize.sh made.

    python -m benchmarks.tasks.summarize_int8 RUNS benchmarks/results

Writes int8.md: metrics before and after int8, how close the .tflite is to the
model, and its sizes. Rows of runs that are not there are left out.
"""

import json
import os
import pathlib
import sys

from benchmarks.tasks import summarize

MODELS = ("dense", "sparse_90", "sparse_85")
ENCODINGS = ("dense", "packed")
_SEEDS = range(1, 10)
_METRICS = """\
# INT8 of MiniLM-L6 on three tasks

Printed by `python -m benchmarks.tasks.summarize_int8` from the runs of
`benchmarks/tasks/quantize.sh`, which has the exact commands, and of `run.sh`,
which they began from. Mean over the seeds, and each. "float" is the run of
`run.sh`, "trained for int8" the model after quantization-aware training,
".tflite" what LiteRT computes of its dense file; differences are in points, between the
first and the last.
"""
_PARITY = """
## The file beside the model

What the parity gate of `bin/export_tflite` saw: of the first seed, on examples
of the validation split. Steps are those of the int8 logits; "int32 biases" is
what rounding the biases alone does to the model, which is how noisy it is. Of
a span's two outputs the worse one counts.
"""
_SIZES = """
## Sizes

Of the first seed. MB are 10^6 bytes, zipped is deflate at level 9. Bits per
weight are of kernels with all indices and code tables; ratios count biases and
scales too. "paper" is the paper's own count: nonzero int8 weights against all
float32 ones, no indices.
"""


def load(*path):
    """Contents of a JSON file, None if there is none."""
    path = pathlib.Path(*path)
    if not path.exists():
        return None
    return json.loads(path.read_text(encoding="utf-8"))


def seeds(runs, task, model):
    """Of each complete seed, its metrics: float, after training, .tflite."""
    found = []
    for seed in _SEEDS:
        folder = pathlib.Path(runs, task)
        steps = [
            load(folder, f"{model}_{seed}", "report.json"),
            load(folder, f"qat_{model}_{seed}", "report.json"),
            load(folder, f"qat_{model}_{seed}", "tflite", "metrics.json"),
        ]
        if None not in steps:
            steps[:2] = [step["metrics"] for step in steps[:2]]
            found.append([step["validation"] for step in steps])
    return found


def metric_rows(runs):
    for task, metrics in summarize.METRICS.items():
        for model in MODELS:
            found = seeds(runs, task, model)
            for metric, scale in metrics.items() if found else ():
                values = [
                    [step[metric] * scale for step in steps]
                    for steps in zip(*found)
                ]
                apart = [last - first for first, _, last in zip(*values)]
                cells = [summarize.cell(column) for column in values]
                mean = sum(apart) / len(apart)
                yield [task, metric, model, *cells, f"{mean:+.2f}"]


def first_exports(runs):
    """(task, model, reports by encoding) of each first seed."""
    for task in summarize.METRICS:
        for model in MODELS:
            for seed in _SEEDS:
                folder = pathlib.Path(runs, task, f"qat_{model}_{seed}")
                found = {x: load(folder, f"{x}.json") for x in ENCODINGS}
                found = {k: v for k, v in found.items() if v is not None}
                if found:
                    yield task, model, found
                    break


def parity_rows(runs):
    for task, model, found in first_exports(runs):
        told = found.get("dense", {}).get("parity")
        if not told:
            continue
        outputs = told["outputs"].values()
        answers = ["", ""]
        if told["agreement"] is not None:
            names = ("agreement", "int32_biases_agreement")
            answers = [f"{told[name]:.1%}" for name in names]
        yield [
            task,
            model,
            str(told["examples"]),
            f"{max(x['mean_steps'] for x in outputs):.2f}",
            f"{max(x['int32_biases_mean_steps'] for x in outputs):.2f}",
            f"{max(x['max_difference'] for x in outputs):.3f}",
            f"{min(x['cosine'] for x in outputs):.5f}",
            *answers,
        ]


def size_rows(runs):
    for task, model, found in first_exports(runs):
        for encoding, report in found.items():
            size = report["size"]
            encoder = size["encoder"]
            yield [
                task,
                model,
                encoding,
                f"{encoder['zeros'] / encoder['weights']:.1%}",
                *_part(encoder),
                f"{encoder['bits_per_weight']:.3f}",
                f"{size['paper_ratio']:.1f}x",
                *_part(size["file"]),
            ]


def _part(part):
    return [
        f"{part['bytes'] / 1e6:.2f} MB",
        f"{part['zipped_bytes'] / 1e6:.2f} MB",
        f"{part['ratio_to_float32']:.1f}x",
        f"{part['ratio_to_int8']:.1f}x",
    ]


def table(headings, rows):
    lines = [headings, ["---"] * len(headings), *rows]
    return [f"| {' | '.join(line)} |" for line in lines]


def main(runs, results):
    steps = ["float", "trained for int8", ".tflite", "difference"]
    lines = [_METRICS]
    lines += table(["task", "metric", "model", *steps], metric_rows(runs))
    lines.append(_PARITY)
    lines += table(
        ["task", "model", "examples", "mean steps", "int32 biases, mean steps"]
        + ["largest", "cosine", "same answer", "int32 biases, same answer"],
        parity_rows(runs),
    )
    lines.append(_SIZES)
    ratios = ["to float32", "to int8"]
    lines += table(
        ["task", "model", "encoding", "zeros"]
        + ["encoder", "zipped", *ratios, "bits/weight", "paper"]
        + ["file", "zipped", *ratios],
        size_rows(runs),
    )
    text = "\n".join(lines) + "\n"
    path = os.path.join(results, "int8.md")
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    print(text, end="")


if __name__ == "__main__":
    main(*sys.argv[1:])
