"""The fine-tuning recipes say what the paper did, task by task."""

import json
import pathlib
import re
import shlex
import subprocess
import sys

import pytest

FLAGS_FOLDER = pathlib.Path(__file__).parents[1] / "tf_pof" / "flags"

# Sequences to train on; SQuAD's are windows of 384 tokens.
EXAMPLES = {
    "sst2": 67_349,
    "mnli": 392_702,
    "qqp": 363_846,
    "qnli": 104_743,
    "mrpc": 3_668,
    "cola": 8_551,
    "stsb": 5_749,
    "rte": 2_490,
    "wnli": 635,
    "squad": 88_500,
    "squad_v2": 131_900,
}
# Layers, hidden_dim, intermediate_dim.
SIZES = {
    "base": (12, 768, 3072),
    "large": (24, 1024, 4096),
    "distilbert": (6, 768, 3072),
    "minilm": (6, 384, 1536),
}
# Of the paper at 90 % zeros: EM/F1, accuracy m/mm, accuracy/F1, accuracy.
RESULTS = {
    ("squad", "base"): ("79.83", "87.25"),
    ("mnli", "base"): ("81.45", "82.43"),
    ("qqp", "base"): ("90.93", "87.72"),
    ("qnli", "base"): ("89.07",),
    ("sst2", "base"): ("90.88",),
    ("squad", "large"): ("83.35", "90.20"),
    ("mnli", "large"): ("83.74", "84.20"),
    ("qqp", "large"): ("91.48", "88.43"),
    ("qnli", "large"): ("91.39",),
    ("sst2", "large"): ("92.95",),
    ("squad", "distilbert"): ("76.91", "84.82"),
    ("mnli", "distilbert"): ("80.68", "81.47"),
    ("qqp", "distilbert"): ("90.05", "86.67"),
    ("qnli", "distilbert"): ("87.66",),
    ("sst2", "distilbert"): ("90.02",),
}
# The paper's for Base (1.5e-4) and DistilBERT (1.8e-4).
SQUAD_RATES = {
    "base": 1.5e-4,
    "large": 1e-4,
    "distilbert": 1.8e-4,
    "minilm": 1.8e-4,
}
# Recipe: task, size. BERT-Base has the plain names.
RECIPES = {
    task if size == "base" else f"{task}_{size}": (task, size)
    for task in EXAMPLES
    for size in SIZES
}
# Prints every recipe's values as the program reads them, and what the command
# makes of them with and without a teacher.
READ_ALL = """
import dataclasses, json, sys
from absl import flags
from absl.testing import flagsaver
from tf_pof.cli import finetune
from tf_pof.tasks import program, registry
seen = []
program.run = lambda settings, console: seen.append(settings)
values = {}
for path in sys.argv[1:]:
    with flagsaver.flagsaver():
        arguments = ["finetune", f"--flagfile={path}", "--model=m",
                     "--output=o"]
        flags.FLAGS(arguments)
        finetune.main([])
        flags.FLAGS([*arguments, "--teacher=t"])
        finetune.main([])
        alone, taught = seen[-2:]
        task = registry.create(**taught.task)
        values[path] = {
            "flags": flags.FLAGS.flag_values_dict(),
            "alone": dataclasses.asdict(alone),
            "taught": dataclasses.asdict(taught),
            "task": [task.name, task.head],
        }
print(json.dumps(values, default=str))
"""


@pytest.fixture(scope="module")
def recipes():
    """What READ_ALL says, by recipe name."""
    paths = [FLAGS_FOLDER / f"{name}.flags" for name in RECIPES]
    run = subprocess.run(
        [sys.executable, "-c", READ_ALL, *map(str, paths)],
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    values = json.loads(run.stdout.splitlines()[-1])
    return {pathlib.Path(path).stem: v for path, v in values.items()}


def opening(name):
    """The comment that a recipe begins with."""
    return (FLAGS_FOLDER / f"{name}.flags").read_text().split("\n\n")[0]


def sentences(name):
    """The opening as one line."""
    return " ".join(opening(name).replace("#", " ").split())


def commands(name):
    """The commands of the opening, split into words."""
    found = re.findall(r"^#   (bin/(?:.*\\\n)*.*)$", opening(name), re.M)
    return [shlex.split(text.replace("\\\n#", " ")) for text in found]


def is_squad(name):
    return name.startswith("squad")


def test_the_recipes_are_all_there():
    found = {
        path.stem
        for path in FLAGS_FOLDER.glob("*.flags")
        # Quantization's are in qat_flags_test.py.
        if "bin/finetune" in path.read_text() and "_qat" not in path.stem
    }
    assert found == set(RECIPES)
    assert len(found) == 44


@pytest.mark.parametrize("name", RECIPES)
def test_opens_with_the_commands_of_student_and_teacher(name):
    student, teacher = commands(name)
    assert student == [
        "bin/finetune",
        f"--flagfile={name}.flags",
        "--model=SPARSE",
        "--teacher=DENSE",
        "--output=OUTPUT",
    ]
    program, flagfile, model, output, rate, epochs = teacher
    assert [program, flagfile] == student[:2]
    assert [model, output] == ["--model=PRETRAINED", "--output=TEACHER"]
    # Devlin et al. 2019 fine-tune dense models at 2e-5 to 5e-5.
    assert 2e-5 <= float(rate.removeprefix("--learning_rate=")) <= 5e-5
    assert int(epochs.removeprefix("--epochs=")) == 3 - is_squad(name)


@pytest.mark.parametrize("name", RECIPES)
def test_opening_says_what_is_needed_and_whose_settings_these_are(name):
    task, size = RECIPES[name]
    text = sentences(name)
    for words in (
        "without --teacher it learns from the labels alone",
        "bin/prune_pretrain",
        "--download",
        "--tfds_data_dir",
        "--raw_dir",
        "estimated, not measured",
        "Zafrir et al. 2021, arXiv 2111.05754",
    ):
        assert words in text
    published = task in ("squad", "mnli", "qqp", "qnli", "sst2")
    own = published and size in ("base", "distilbert")
    assert ("not the paper's" in text) != own
    numbers = re.findall(r"\b\d\d\.\d\d\b", text.split("2111.05754")[1])
    assert tuple(numbers) == RESULTS.get((task, size), ())


@pytest.mark.parametrize("name", RECIPES)
def test_settings_are_the_papers(recipes, name):
    task, size = RECIPES[name]
    expected = {
        "task": task,
        "sequence_length": 384 if is_squad(name) else 128,
        "doc_stride": 128 if is_squad(name) else None,
        "max_query_length": 64 if is_squad(name) else None,
        "n_best_size": 20 if is_squad(name) else None,
        "max_answer_length": 30 if is_squad(name) else None,
        "null_score_diff_threshold": 0.0 if task == "squad_v2" else None,
        "train_steps": 0,
        "epochs": 8.0 if is_squad(name) else 9.0,
        "batch_size": 12 if is_squad(name) else 32,
        "micro_batch_size": 0,
        "learning_rate_schedule": "linear",
        "warmup_fraction": 0.05,
        "weight_decay": 0.01,
        "clip_norm": 1.0,
        "adam_beta_1": 0.9,
        "adam_beta_2": 0.999,
        "lock": True,
        "final_sparsity": None,
        "hard_loss_weight": 0.0,
        "distillation_weight": 1.0,
        "temperature": 2.0,
        "hidden_loss_weight": 0.0,
        "attention_loss_weight": 0.0,
        "precision": "auto",
    }
    values = recipes[name]["flags"]
    assert {key: values[key] for key in expected} == expected
    if is_squad(name):
        assert values["learning_rate"] == SQUAD_RATES[size]
    else:
        assert 1e-4 <= values["learning_rate"] <= 1.5e-4


@pytest.mark.parametrize("name", RECIPES)
def test_command_makes_the_run_of_the_recipe(recipes, name):
    task, _ = RECIPES[name]
    options = {"name": task, "sequence_length": 128}
    if is_squad(name):
        options |= {
            "sequence_length": 384,
            "doc_stride": 128,
            "max_query_length": 64,
            "n_best_size": 20,
            "max_answer_length": 30,
        }
    if task == "squad_v2":
        options["null_score_diff_threshold"] = 0.0
    for settings, teacher, hard, soft in (
        (recipes[name]["taught"], "t", 0.0, 1.0),
        (recipes[name]["alone"], None, 1.0, 0.0),
    ):
        assert settings["teacher"] == teacher
        assert settings["hard_loss_weight"] == hard
        assert settings["distillation_weight"] == soft
        assert settings["task"] == options
        assert settings["schedule"] is None and settings["lock"]
    head = "span" if is_squad(name) else "classifier"
    assert recipes[name]["task"] == [task, head]


def training_flop(name, values):
    """FLOP of a run, by two a weight and token, and the attention core."""
    task, size = RECIPES[name]
    layers, hidden, intermediate = SIZES[size]
    length = values["sequence_length"]
    forward = 2 * layers * (4 * hidden**2 + 2 * hidden * intermediate)
    forward += layers * 4 * length * hidden
    # The student's pass, its gradient (twice that) and the teacher's.
    return (3 + 1) * forward * length * EXAMPLES[task] * values["epochs"]


@pytest.mark.parametrize("name", RECIPES)
def test_stated_cost_is_the_arithmetic(recipes, name):
    task, _ = RECIPES[name]
    text = sentences(name)
    values = recipes[name]["flags"]
    flop = training_flop(name, values)
    stated = float(re.search(r"at most (\d\.\de\d+) FLOP", text)[1])
    assert stated == pytest.approx(flop, rel=0.05)
    assert f"{EXAMPLES[task]:,} " in text
    assert f"{values['epochs']:.0f} times" in text
    assert f"{values['sequence_length']} tokens" in text
    # The dense run has no teacher, and fewer epochs.
    share = 3 * float(commands(name)[1][-1].removeprefix("--epochs="))
    share /= 4 * values["epochs"]
    word = {"a fifth": 0.2, "a quarter": 0.25}[
        re.search(r"DENSE takes (\w+ \w+) of that", text)[1]
    ]
    assert word == pytest.approx(share, abs=0.02)


@pytest.mark.parametrize("name", RECIPES)
def test_stated_times_are_the_arithmetic(recipes, name):
    text = sentences(name)
    flop = training_flop(name, recipes[name]["flags"])
    time = r"(under a minute|\d+ \w+)"
    percent, on_gpu = re.search(
        rf"At (\d+) % of an A100's 312 TFLOP/s that is {time} on one", text
    ).groups()
    check_time(on_gpu, flop / (float(percent) / 100 * 312e12))
    on_cpu = re.search(
        rf"at an assumed 0\.3 TFLOP/s it is {time} on two CPU cores", text
    )
    if "CPUs are no place" in text:
        assert flop / 0.3e12 > 3 * 86_400
        assert not on_cpu
    else:
        check_time(on_cpu[1], flop / 0.3e12)


def check_time(stated, seconds):
    """Fails unless a time in words is right to a fifth."""
    if stated == "under a minute":
        assert seconds < 60
        return
    number, unit = stated.split()
    unit = {"minute": 60, "hour": 3_600, "day": 86_400}[unit.removesuffix("s")]
    assert int(number) * unit == pytest.approx(seconds, rel=0.21)
