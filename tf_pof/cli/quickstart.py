"""bin/quickstart: the main job, small: from bundled text to a sparse BERT.

It runs the commands that a user would, and prints each of them first.
"""

import os
import shlex
import subprocess
import sys
import time

from absl import flags
import rich.console
import rich.table

from tf_pof.cli import common
from tf_pof.models import minilm

_MODEL = flags.DEFINE_string(
    "model",
    None,
    "Model to prune in place of MiniLM-L6: a Hugging Face folder, a keras-nlp "
    "preset folder, or a size for random weights.",
)
_OUTPUT = flags.DEFINE_string(
    "output",
    None,
    "Folder of data, teacher and sparse model; the folder quickstart of the "
    "cache (TF_POF_CACHE, ~/.cache/tf_pof) by default.",
)
_TEACHER_STEPS = flags.DEFINE_integer(
    "teacher_steps", 120, "Steps of teacher preparation.", lower_bound=10
)
_PRUNE_STEPS = flags.DEFINE_integer(
    "prune_steps", 150, "Steps of pruning.", lower_bound=10
)

# Seconds on two cores with MiniLM-L6: to begin with, and of each step.
_SECONDS = {
    "prepare_data": (6.0, 0.0),
    "prepare_teacher": (15.0, 0.68),
    "prune_pretrain": (36.0, 1.4),
}

# A dense student recovers slowly at 5e-5, and there are minutes, not days.
_SHARED = ("--batch_size=16", "--learning_rate=3e-4", "--log_every=20")


def commands(model: str, output: str, teacher_steps: int, prune_steps: int):
    """The command lines of a quickstart: [(name, its flags), ...]."""
    data = os.path.join(output, "data")
    teacher = os.path.join(output, "teacher")
    ramp_end = prune_steps // 2
    # Of a Hugging Face folder and of a keras-nlp preset; else the default's.
    vocabulary = [
        f"--vocab={path}"
        for path in (
            os.path.join(model, "vocab.txt"),
            os.path.join(model, "assets", "tokenizer", "vocabulary.txt"),
        )
        if os.path.exists(path)
    ]
    # The paper's proportions: 100,000, 50,000, 80,000 and 1,000 steps.
    return [
        ("prepare_data", ["--sample", f"--output={data}", *vocabulary]),
        (
            "prepare_teacher",
            [
                f"--model={model}",
                f"--data={data}",
                f"--output={teacher}",
                f"--train_steps={teacher_steps}",
                "--warmup_fraction=0.1",
                "--checkpoint_every=60",
                *_SHARED,
            ],
        ),
        (
            "prune_pretrain",
            [
                f"--model={os.path.join(teacher, 'model')}",
                f"--data={data}",
                f"--output={os.path.join(output, 'sparse_90')}",
                "--final_sparsity=0.9",
                f"--train_steps={prune_steps}",
                "--warmup_fraction=0.05",
                f"--pruning_ramp_end_step={ramp_end}",
                f"--pruning_end_step={prune_steps * 8 // 10}",
                f"--pruning_frequency={max(prune_steps // 100, 1)}",
                "--checkpoint_every=50",
                *_SHARED,
            ],
        ),
    ]


def main(argv):
    common.require_no_arguments(argv)
    console = rich.console.Console(soft_wrap=True)
    model = _MODEL.value
    if model is None:
        try:
            model = minilm.fetch()
        except OSError as error:
            console.print(f"No MiniLM-L6 weights: {error}")
            console.print("Training bert_tiny from scratch instead.")
            model = "bert_tiny"
    output = _OUTPUT.value or os.path.join(
        os.path.dirname(minilm.cache_folder()), "quickstart"
    )
    lines = commands(model, output, _TEACHER_STEPS.value, _PRUNE_STEPS.value)
    if os.path.exists(os.path.join(output, "data", "meta.json")):
        del lines[0]
    _announce([name for name, _ in lines], console)
    table = rich.table.Table("part", "minutes")
    table.columns[1].justify = "right"
    for name, arguments in lines:
        console.print(f"\n$ bin/{name} {shlex.join(arguments)}", style="bold")
        module = f"tf_pof.cli.{name}"
        began = time.monotonic()
        done = subprocess.run([sys.executable, "-m", module, *arguments])
        if done.returncode:
            return done.returncode
        table.add_row(name, f"{(time.monotonic() - began) / 60:.1f}")
    console.print(table)
    return 0


def _announce(names, console):
    steps = {
        "prepare_data": 0,
        "prepare_teacher": _TEACHER_STEPS.value,
        "prune_pretrain": _PRUNE_STEPS.value,
    }
    minutes = {
        name: (_SECONDS[name][0] + _SECONDS[name][1] * steps[name]) / 60
        for name in names
    }
    parts = ", ".join(f"{k} {minutes[k]:.0f}" for k in names if minutes[k] > 1)
    console.print(
        f"On two cores MiniLM-L6 takes about {sum(minutes.values()):.0f} "
        f"minutes ({parts}). It may be interrupted: the same command goes on."
    )


def run():
    """Console entry point."""
    common.run(main, example="--output=quick")


if __name__ == "__main__":
    run()
