"""Training steps side by side: tf_pof, its dense twin, and plain PyTorch.

    python -m benchmarks.training.compare [--steps=9] [--large]

All engines are loaded, then take one step each in turn, so that what else the
machine does hits all alike; the table shows medians and ratios of one run.
PyTorch is installed into a throw-away environment (or taken from --torch).
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile

from absl import app, flags
import rich.console
import rich.table

from tf_pof.models.config import BertConfig

_STEPS = flags.DEFINE_integer("steps", 9, "Timed steps of each engine.")
_ROWS = flags.DEFINE_integer("rows", 16, "Examples of a step.")
_LENGTH = flags.DEFINE_integer("length", 128, "Tokens of an example.")
_THREADS = flags.DEFINE_integer("threads", 2, "Threads of each engine.")
_LARGE = flags.DEFINE_bool(
    "large", True, "Also takes a step at BERT-Base and at BERT-Large size."
)
_TORCH = flags.DEFINE_string(
    "torch", None, "A Python that has PyTorch; by default one is made."
)

_HERE = os.path.dirname(__file__)
_ROOT = os.path.dirname(os.path.dirname(_HERE))
# The paper's schedule; from step 0 on, so the timed steps are masked.
_SCHEDULE = {
    "initial_sparsity": 0.0,
    "final_sparsity": 0.9,
    "begin_step": 0,
    "ramp_end_step": 50_000,
    "end_step": 80_000,
    "frequency": 1000,
}


def spec(name, precision, **more):
    """What a worker is to do, as a dict for JSON."""
    config = BertConfig.preset(name)
    fields = (
        "vocabulary_size num_layers num_heads hidden_dim intermediate_dim "
        "max_sequence_length dropout"
    )
    return {
        "config": {f: getattr(config, f) for f in fields.split()},
        "precision": precision,
        "rows": _ROWS.value,
        "length": _LENGTH.value,
        "slots": round(0.15 * _LENGTH.value) + 1,
        "threads": _THREADS.value,
        "schedule": _SCHEDULE,
        "teacher": True,
        "pruned": True,
        **more,
    }


class Worker:
    """An engine in a process of its own."""

    def __init__(self, command, what):
        self._process = subprocess.Popen(
            [*command, json.dumps(what)],
            cwd=_ROOT,
            env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.answers = []
        self._read()  # The first step, with tracing, is not timed.

    def _read(self):
        line = self._process.stdout.readline()
        if not line:
            raise OSError(
                f"A worker died: {self._process.args[:3]}; run it by hand to "
                "see why."
            )
        return json.loads(line)

    def step(self):
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        self.answers.append(self._read())

    def close(self):
        self._process.stdin.close()
        self._process.wait()

    @property
    def seconds(self):
        """Of a step, with its share of the mask selections."""
        median = statistics.median(a["seconds"] for a in self.answers)
        return median + self.selection_seconds / _SCHEDULE["frequency"]

    @property
    def selection_seconds(self):
        return self.answers[-1].get("selection_seconds", 0.0)

    @property
    def peak_gb(self):
        return self.answers[-1]["peak_bytes"] / 1e9


def tf_pof(what):
    module = "benchmarks.training.tf_pof_step"
    return Worker([sys.executable, "-m", module], what)


def interleave(workers, steps):
    """Takes `steps` steps of each worker in turn, then ends them."""
    order = list(workers.values())
    for _ in range(steps):
        for worker in order:
            worker.step()
        order.reverse()  # What runs after what must not matter.
    for worker in order:
        worker.close()


def torch_python(folder):
    """A Python with PyTorch: made in `folder` unless --torch names one."""
    if _TORCH.value:
        return _TORCH.value
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = os.path.join(folder, "bin", "python")
    pip = [python, "-m", "pip", "install", "--quiet", "torch==2.13.0", "numpy"]
    subprocess.run(pip, check=True)
    return python


def main(argv):
    del argv
    console = rich.console.Console(width=100)
    rows = _ROWS.value
    table = rich.table.Table(
        "step",
        "precision",
        "samples/s",
        "to PyTorch",
        "peak GB",
        title=f"MiniLM-L6, {rows} x {_LENGTH.value} tokens, "
        f"{_THREADS.value} threads",
    )
    with tempfile.TemporaryDirectory() as folder:
        python = torch_python(folder)
        script = os.path.join(_HERE, "torch_step.py")
        for precision in ("float32", "mixed_bfloat16"):
            for teacher, label in ((True, "prune"), (False, "teacher")):
                what = spec("minilm_l6", precision, teacher=teacher)
                what["pruned"] = teacher
                workers = {
                    "tf_pof": tf_pof(what),
                    "PyTorch": Worker([python, script], what),
                }
                interleave(workers, _STEPS.value)
                for name, worker in workers.items():
                    ratio = workers["PyTorch"].seconds / worker.seconds
                    table.add_row(
                        f"{label}, {name}",
                        precision,
                        f"{rows / worker.seconds:.1f}",
                        f"{ratio:.2f}x",
                        f"{worker.peak_gb:.1f}",
                    )
                console.print(f"{label} {precision} done")
            console.print(masking_cost(precision))
    console.print(table)
    if _LARGE.value:
        console.print(true_sizes())


def masking_cost(precision):
    """Time of a pruning step over that of the same step without masks."""
    what = spec("minilm_l6", precision)
    workers = {
        "masked": tf_pof(what),
        "dense": tf_pof(dict(what, pruned=False)),
    }
    interleave(workers, 2 * _STEPS.value)
    ratios = sorted(
        a["seconds"] / b["seconds"]
        for a, b in zip(workers["masked"].answers, workers["dense"].answers)
    )
    share = workers["masked"].selection_seconds / _SCHEDULE["frequency"]
    median = statistics.median(ratios) + share / workers["dense"].seconds
    low, high = ratios[len(ratios) // 4], ratios[-1 - len(ratios) // 4]
    return (
        f"Masks, selection included: {median:.3f} of the step without, "
        f"{precision} (middle half of the pairs {low:.3f} to {high:.3f})"
    )


def true_sizes():
    """One pruning step at the paper's sizes, with its mask selection."""
    table = rich.table.Table(
        "step",
        "precision",
        "micro batch",
        "s a step",
        "s a selection",
        "peak GB",
        title=f"{_ROWS.value} x {_LENGTH.value} tokens",
    )
    for name, micro in (("bert_base", 0), ("bert_large", 4)):
        what = spec(name, "mixed_bfloat16", micro_batch_size=micro)
        workers = {name: tf_pof(what)}
        interleave(workers, 1)
        worker = workers[name]
        table.add_row(
            f"prune, {name}",
            what["precision"],
            str(micro or _ROWS.value),
            f"{worker.seconds:.1f}",
            f"{worker.selection_seconds:.2f}",
            f"{worker.peak_gb:.1f}",
        )
    return table


if __name__ == "__main__":
    app.run(main)
