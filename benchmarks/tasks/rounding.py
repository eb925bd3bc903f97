"""What of a metric is lost by rounding to int8, and what by training on.

    python -m benchmarks.tasks.rounding RUNS GLUE sst2/qat_sparse_90_1 ...

of runs that quantize.sh made, GLUE tasks only. Prints four metrics of each: of
the float model it began from; of that one rounded without training, its ranges
calibrated on 8 batches of 32; of the trained weights in float; and of these
rounded, which is the quantized model. The last column counts examples that are
right in only one of the last two.
"""

import json
import pathlib
import sys

import numpy as np

from benchmarks.tasks import summarize
from tf_pof import quantization
from tf_pof.tasks import evaluation, registry, trained

_BATCHES, _BATCH_SIZE = 8, 32


def calibration_batches(task, tokenizer, length):
    examples = task.examples(task.train_split)[: _BATCHES * _BATCH_SIZE]
    features = task.features(examples, tokenizer, training=False)
    for i in range(0, len(features), _BATCH_SIZE):
        rows = np.arange(i, min(i + _BATCH_SIZE, len(features)))
        yield features.inputs(rows, length)


def outputs(splits, model):
    """Metric, and whether each example's answer is right, or None."""
    task, split = splits.task, splits.task.evaluation_splits[0]
    examples, features = splits.read(split, model)
    found = splits.outputs(model, split)
    metric = task.score(examples, features, found)[task.main_metric]
    right = None
    if not task.is_regression:
        right = found["logits"].argmax(-1) == features.targets["logits"]
    return metric, right


def row(runs, glue, name):
    path = pathlib.Path(runs, name)
    settings = json.loads((path / "settings.json").read_text())
    options = settings["task"] | {"raw_dir": glue}
    task = registry.create(**options)
    # The runs may have been moved, together.
    start = trained.load(str(path.with_name(name.partition("qat_")[2])))
    tokenizer = evaluation.load_tokenizer(name, start)
    splits = evaluation.Splits(task, tokenizer, _BATCH_SIZE)
    length = options.get("sequence_length", 128)
    before = outputs(splits, start)[0]
    calibrated = quantization.calibrate(
        quantization.quantize(start),
        calibration_batches(task, tokenizer, length),
    )
    untrained = outputs(splits, calibrated)[0]
    model = trained.load(str(path))
    rounded, right = outputs(splits, model)
    model.phase = quantization.Phase.OBSERVE
    unrounded, right_unrounded = outputs(splits, model)
    changed = ""
    if right is not None:
        lost = np.sum(right_unrounded & ~right)
        won = np.sum(~right_unrounded & right)
        changed = f"{lost} lost, {won} won of {len(right)}"
    factor = summarize.METRICS[task.name][task.main_metric]
    cells = [
        f"{factor * value:.2f}"
        for value in (before, untrained, unrounded, rounded)
    ]
    return [name, *cells, changed]


def main(runs, glue, *names):
    print(
        "| run | float | rounded, not trained | trained, float | trained, "
        "rounded | answers changed by rounding |"
    )
    print("|---|---|---|---|---|---|")
    for name in names:
        print(f"| {' | '.join(row(runs, glue, name))} |", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
