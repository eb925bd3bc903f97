"""Tasks and models of a few thousand weights, and commands to run on them.

What is to be learned hangs on one word, so that a few dozen steps suffice.
"""

import io
import json
import multiprocessing
import os
import pathlib
import random
import re

import tf_pof  # noqa: F401  (legacy Keras before TensorFlow)

import numpy as np
import rich.console
from safetensors.numpy import load_file

from tf_pof._keras import keras
from tf_pof.models import bert, saving
from tf_pof.models.config import BertConfig
from tf_pof.tasks import program

# What labels hang on; "a" is not among them, which SQuAD's score drops.
KEYS = "x y z".split()
WORDS = "c d e f g h i j k l m n o".split()
VOCABULARY = "[PAD] [UNK] [CLS] [SEP] [MASK] .".split() + KEYS + WORDS
POSITIONS = 32
SPARSITY = 0.75
ROWS = {"train": 96, "validation": 48}


def write_vocabulary(path: pathlib.Path) -> str:
    path.write_text("\n".join(VOCABULARY) + "\n")
    return str(path)


def config(**changes) -> BertConfig:
    fields = {
        "vocabulary_size": len(VOCABULARY),
        "num_layers": 1,
        "num_heads": 2,
        "hidden_dim": 16,
        "intermediate_dim": 32,
        "max_sequence_length": POSITIONS,
        "initializer_range": 0.3,
    }
    return BertConfig(**fields | changes)


def save_model(
    path: pathlib.Path,
    vocab: str | None,
    seed: int = 7,
    sparse: bool = True,
    head: str | None = "pretraining",
    num_labels: int = 2,
    labels=None,
    **changes,
) -> str:
    """A model folder; three quarters of the prunable kernels are zero."""
    keras.utils.set_random_seed(seed)
    model = bert.build(config(**changes), head, num_labels)
    model.labels = labels
    told = None
    if sparse:
        tensors = {}
        for layer in model.layers:
            if not re.match(bert.PRUNABLE, layer.name):
                continue
            kernel = layer.kernel.numpy()
            order = np.abs(kernel).ravel().argsort()
            kernel.ravel()[order[: int(SPARSITY * kernel.size)]] = 0
            layer.kernel.assign(kernel)
            tensors[f"{layer.name}/kernel"] = {"threshold": 0.1}
        told = {"tensors": tensors, "provenance": {"train_steps": 9}}
    return saving.save(model, path, vocab, told)


def text(r: random.Random, key: str = "", most: int = 12) -> str:
    """Words without meaning, and the key at any place."""
    words = r.choices(WORDS, k=r.randint(2, most))
    if key:
        words.insert(r.randint(0, len(words)), key)
    return " ".join(words)


def write_sst2(root: pathlib.Path, lie: bool = False) -> dict:
    """SST-2's files: positive is what has an "x", negative what has a "y".

    Args:
        root: a new folder.
        lie: whether all labels of the train split are wrong.
    """
    r = random.Random(1)
    target = root / "SST-2"
    target.mkdir(parents=True)
    for split, rows in ROWS.items():
        lines = ["sentence\tlabel"]
        for i in range(rows):
            told = (i + (lie and split == "train")) % 2
            lines.append(f"{text(r, 'yx'[i % 2])}\t{told}")
        name = split.replace("validation", "dev")
        (target / f"{name}.tsv").write_text("\n".join(lines) + "\n")
    lines = ["index\tsentence"]
    lines += [f"{i}\t{text(r, 'yx'[i % 3 == 0])}" for i in range(8)]
    (target / "test.tsv").write_text("\n".join(lines) + "\n")
    return {"name": "sst2", "raw_dir": str(root), "sequence_length": 24}


def write_pairs(root: pathlib.Path, lie: bool = False) -> dict:
    """A custom task of pairs; the second text tells one of three labels."""
    r = random.Random(2)
    labels = ["no", "maybe", "yes"]
    for split, rows in ROWS.items():
        lines = ["first,second,label"]
        for i in range(rows):
            pair = f"{text(r, most=6)},{text(r, KEYS[i % 3], 6)}"
            told = labels[(i + (lie and split == "train")) % 3]
            lines.append(f"{pair},{told}")
        (root / f"{split}.csv").write_text("\n".join(lines) + "\n")
    return {
        "name": "custom",
        "train_file": str(root / "train.csv"),
        "validation_file": str(root / "validation.csv"),
        "text_column": "first",
        "pair_column": "second",
        "sequence_length": POSITIONS,
    }


def write_scores(root: pathlib.Path, lie: bool = False) -> dict:
    """A regression: an "x" counts 1, a "y" counts -1."""
    r = random.Random(3)
    for split, rows in ROWS.items():
        lines = ["text\tscore"]
        for i in range(rows):
            score = (i % 3 - 1) * (-1 if lie and split == "train" else 1)
            lines.append(f"{text(r, ['y', '', 'x'][i % 3])}\t{score}")
        (root / f"{split}.tsv").write_text("\n".join(lines) + "\n")
    return {
        "name": "custom",
        "train_file": str(root / "train.tsv"),
        "validation_file": str(root / "validation.tsv"),
        "text_column": "text",
        "label_column": "score",
        "regression": True,
        "sequence_length": POSITIONS,
    }


def write_squad(
    root: pathlib.Path, lie: bool = False, version: str = "1.1"
) -> dict:
    """SQuAD: "x" is the answer, and without it there is none (v2.0)."""
    r = random.Random(4)
    for split, rows in ROWS.items():
        paragraphs = []
        for i in range(rows):
            impossible = version == "2.0" and i % 3 == 0
            context = text(r, "" if impossible else "x")
            start = context.find("x")
            if lie and split == "train":
                start = len(context) - 1
            if i % 5 == 0:
                # Too long for one window.
                context += " " + " ".join(text(r, most=20) for _ in range(2))
            answer = {"text": context[start], "answer_start": start}
            question = {
                "id": f"{split}{i}",
                "question": f"{r.choice(WORDS)}.",
                "answers": [] if impossible else [answer],
            }
            if version == "2.0":
                question["is_impossible"] = impossible
            paragraphs.append({"context": context, "qas": [question]})
        document = {
            "version": version,
            "data": [{"title": "letters", "paragraphs": paragraphs}],
        }
        (root / f"{split}.json").write_text(json.dumps(document))
    return {
        "name": "squad" if version == "1.1" else "squad_v2",
        "train_file": str(root / "train.json"),
        "validation_file": str(root / "validation.json"),
        "sequence_length": 24,
        "doc_stride": 8,
    }


def write_squad_v2(root: pathlib.Path, lie: bool = False) -> dict:
    return write_squad(root, lie, "2.0")


TASKS = {
    "sst2": write_sst2,
    "pairs": write_pairs,
    "scores": write_scores,
    "squad": write_squad,
    "squad_v2": write_squad_v2,
}


# Values of flags, and of the fields of `program.Settings`: a short run.
RUN = {
    "train_steps": 48,
    "batch_size": 16,
    "learning_rate": 1e-2,
    "warmup_fraction": 0.1,
    "weight_decay": 0.0,
    "dropout": 0.0,
    "log_every": 8,
    "evaluate_every": 0,
    "checkpoint_every": 24,
    "keep_checkpoints": True,
}
# A few steps that differences in rounding do not grow in.
SHORT = RUN | {
    "train_steps": 4,
    "warmup_fraction": 0.0,
    "log_every": 2,
    # Without it Adam makes large steps of small gradients.
    "adam_epsilon": 1e-3,
}


def settings(task: dict, model: str, output, **values) -> program.Settings:
    """Of a run in this process."""
    return program.Settings(
        task=task, model=model, output=str(output), **values
    )


def run(given: program.Settings) -> tuple[dict, str]:
    """Report of a run, and what it printed."""
    console = rich.console.Console(file=io.StringIO(), width=200)
    report = program.run(given, console)
    return report, console.file.getvalue()


def tensors(model) -> dict[str, np.ndarray]:
    """The weights of a model folder."""
    return load_file(os.path.join(model, "model.safetensors"))


def curve(output) -> list[dict]:
    lines = pathlib.Path(output, "curve.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


# A server that has imported everything and forks: no process waits for that.
_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(["tensorflow_text", "tf_pof.tasks.program"])
_SCRIPT = """
import os, sys
log = os.open({log!r}, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
os.dup2(log, 1)
os.dup2(log, 2)
sys.argv = {arguments!r}
{before}
from tf_pof.cli import {command}
{command}.run()
"""


class Command:
    """A command in a process of its own, started at once.

    Args:
        command: module of tf_pof.cli.
        arguments: of the command line.
        log: file for what it prints.
        before: lines of Python to run first.
    """

    def __init__(self, command, arguments, log, before=""):
        self._log = pathlib.Path(log)
        script = _SCRIPT.format(
            command=command,
            arguments=[command, *arguments],
            log=str(log),
            before=before,
        )
        self._process = _SERVER.Process(target=exec, args=(script, {}))
        self._process.start()

    @property
    def printed(self) -> str:
        return self._log.read_text() if self._log.exists() else ""

    def wait(self, seconds: float = 600) -> int | None:
        """Exit code; minus the signal for a process that was killed.

        None if it still runs after so many seconds.
        """
        self._process.join(seconds)
        return self._process.exitcode

    def send(self, number: int) -> None:
        """Sends the process a signal."""
        os.kill(self._process.pid, number)

    def finish(self) -> str:
        """Waits for success; returns what was printed."""
        assert self.wait() == 0, self.printed
        return self.printed


def finetune(task: dict, model: str, output, before="", **values) -> Command:
    """Starts bin/finetune; values are those of its flags."""
    arguments = flags(task, model=model, output=output, **values)
    return Command("finetune", arguments, f"{output}.log", before)


def flags(task: dict, **values) -> list[str]:
    """A command line of the task's options and other flags."""
    options = {"task": task["name"]}
    options |= {k: v for k, v in task.items() if k != "name"}
    return [f"--{k}={v}" for k, v in (options | values).items()]


# Metric to reach, far above what chance and wrong labels give.
GOOD = {
    "sst2": ("accuracy", 0.8),
    "pairs": ("accuracy", 0.7),
    "scores": ("pearson", 0.7),
    "squad": ("f1", 80),
    "squad_v2": ("f1", 80),
}


def zero_bits(tensor):
    """Where +0.0 is, bit by bit: -0.0 is none."""
    return tensor.view(np.uint32) == 0


def assert_zeros_stayed(start, end):
    """Every zero of the start is one of the end, and there are no others."""
    start, end = tensors(start), tensors(end)
    locked = 0
    for name, before in start.items():
        if not (before == 0).any() or before.ndim < 2:
            continue
        locked += 1
        np.testing.assert_array_equal(
            zero_bits(end[name]), zero_bits(before), name
        )
        moved = (end[name] != before)[before != 0]
        # Spans do without the pooler.
        used = "pooler" not in name or "classifier.weight" in end
        assert moved.mean() > 0.9 if used else not moved.any(), name
    # Query, key, value, two outputs, intermediate, pooler.
    assert locked == 7
    heads = [n for n in end if n.startswith(("classifier", "qa_outputs"))]
    assert len(heads) == 2
    for name in heads:
        assert (end[name] != 0).all(), name
