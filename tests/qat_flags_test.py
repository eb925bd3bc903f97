"""The recipes of quantization-aware training say what the paper did."""

import json
import pathlib
import re
import subprocess
import sys

import pytest

from tests import finetune_flags_test as finetune

TASKS = [task for task in finetune.EXAMPLES if task != "squad_v2"]
# Recipe: task, whether it is DistilBERT's own. SQuAD's serves all sizes.
RECIPES = {f"{task}_qat": (task, False) for task in TASKS} | {
    f"{task}_qat_distilbert": (task, True) for task in TASKS if task != "squad"
}
SIZES = {
    "BERT-Base": finetune.SIZES["base"],
    "BERT-Large": finetune.SIZES["large"],
    "DistilBERT": finetune.SIZES["distilbert"],
    "MiniLM-L6": finetune.SIZES["minilm"],
}


@pytest.fixture(scope="module")
def recipes():
    """What the command makes of every recipe, by its name."""
    paths = [finetune.FLAGS_FOLDER / f"{name}.flags" for name in RECIPES]
    run = subprocess.run(
        [sys.executable, "-c", finetune.READ_ALL, *map(str, paths)],
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    values = json.loads(run.stdout.splitlines()[-1])
    return {pathlib.Path(path).stem: v for path, v in values.items()}


def test_the_recipes_are_all_there():
    found = finetune.FLAGS_FOLDER.glob("*_qat*.flags")
    assert {path.stem for path in found} == set(RECIPES)


@pytest.mark.parametrize("name", RECIPES)
def test_settings_are_the_papers(recipes, name):
    task, is_distilbert = RECIPES[name]
    settings = recipes[name]["taught"]
    expected = {
        "qat": True,
        "qat_start_step": 0,
        # None: half of the steps.
        "qat_freeze_step": None,
        "qat_range_decay": 0.99,
        "train_steps": 0,
        "epochs": 2.0 if task == "squad" else 3.0,
        "batch_size": 12 if task == "squad" else 32,
        "learning_rate": 1e-6 if is_distilbert else 1e-5,
        "learning_rate_schedule": "linear",
        "hard_loss_weight": 0.0,
        "distillation_weight": 1.0,
        "temperature": 2.0,
        "lock": True,
        "schedule": None,
        "precision": "float32",
    }
    assert {key: settings[key] for key in expected} == expected
    options = {"name": task, "sequence_length": 128}
    if task == "squad":
        options = {
            "name": task,
            "sequence_length": 384,
            "doc_stride": 128,
            "max_query_length": 64,
            "n_best_size": 20,
            "max_answer_length": 30,
        }
    assert settings["task"] == options
    alone = recipes[name]["alone"]
    assert alone["hard_loss_weight"] == 1 and alone["distillation_weight"] == 0


@pytest.mark.parametrize("name", RECIPES)
def test_opens_with_the_command_and_the_recipe_before(name):
    task, is_distilbert = RECIPES[name]
    (command,) = finetune.commands(name)
    assert command == [
        "bin/finetune",
        f"--flagfile={name}.flags",
        "--model=TASK",
        "--teacher=DENSE",
        "--output=OUTPUT",
    ]
    text = finetune.sentences(name)
    before = re.findall(r"\w+\.flags", text.split("TASK is the output")[1])
    wanted = [f"{task}.flags", f"{task}_large.flags"]
    assert before == ([f"{task}_distilbert.flags"] if is_distilbert else wanted)
    for file in before:
        assert (finetune.FLAGS_FOLDER / file).exists()
    for words in ("estimated, not measured", "2111.05754", "1910.06188"):
        assert words in text


@pytest.mark.parametrize("name", RECIPES)
def test_stated_cost_is_the_arithmetic(recipes, name):
    task, is_distilbert = RECIPES[name]
    text, settings = finetune.sentences(name), recipes[name]["taught"]
    stated = re.findall(r"(\d\.\de\d+) FLOP for ([\w-]+)", text)
    sizes = ["BERT-Base", "BERT-Large", "MiniLM-L6"]
    sizes = ["DistilBERT"] if is_distilbert else sizes
    assert [size for _, size in stated] == sizes
    length, epochs = settings["task"]["sequence_length"], settings["epochs"]
    assert f"{finetune.EXAMPLES[task]:,} " in text
    assert f"{epochs:.0f} times" in text and f"{length} tokens" in text
    flops = {}
    for value, size in stated:
        layers, hidden, intermediate = SIZES[size]
        forward = 2 * layers * (4 * hidden**2 + 2 * hidden * intermediate)
        forward += layers * 4 * length * hidden
        flop = 4 * forward * length * finetune.EXAMPLES[task] * epochs
        assert float(value) == pytest.approx(flop, rel=0.05)
        flops[size] = flop
    time = r"(?:under a minute|\d+ \w+)"
    on_gpu = re.search(
        r"At 20 % of an A100's 156 TFLOP/s \(TF32\) that is (.*?) on one", text
    )[1]
    times = re.findall(time, on_gpu)
    for stated_time, flop in zip(times, flops.values(), strict=True):
        finetune.check_time(stated_time, flop / (0.2 * 156e12))
    on_cpu = re.search(
        rf"at an assumed 0\.15 TFLOP/s ([\w-]+) takes ({time}) on two", text
    )
    if on_cpu:
        finetune.check_time(on_cpu[2], flops[on_cpu[1]] / 0.15e12)
    else:
        assert min(flops.values()) / 0.15e12 > 3 * 86_400
