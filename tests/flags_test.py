"""The recipes say what the paper did, worked out by hand at chosen steps."""

import json
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest

FLAGS_FOLDER = pathlib.Path(__file__).parents[1] / "tf_pof" / "flags"
ALL = sorted(FLAGS_FOLDER.glob("*.flags"))
# Not set in a recipe: folders and files are the user's.
OF_THE_USER = {
    *("model", "teacher", "data", "output", "raw_dir", "vocab"),
    *("tfds_data_dir", "download"),
    *("train_file", "validation_file", "test_file"),
}

# Of bin/prune_pretrain; those of bin/finetune are in finetune_flags_test.py.
# Final sparsity, pattern, and whether the size is one of the paper's.
RECIPES = {
    "bert_base": (0.9, "unstructured", True),
    "bert_base_85": (0.85, "unstructured", True),
    "bert_large": (0.9, "unstructured", True),
    "distilbert": (0.9, "unstructured", True),
    "distilbert_85": (0.85, "unstructured", True),
    "bert_base_1x4_80": (0.8, "1x4", True),
    "minilm_l6": (0.9, "unstructured", False),
    "bert_tiny": (0.9, "unstructured", False),
}
PATHS = [FLAGS_FOLDER / f"{name}.flags" for name in RECIPES]
# Layers, hidden_dim, intermediate_dim.
SIZES = {
    "bert_base": (12, 768, 3072),
    "bert_large": (24, 1024, 4096),
    "distilbert": (6, 768, 3072),
    "minilm_l6": (6, 384, 1536),
    "bert_tiny": (2, 128, 512),
}
# 1 - (1 - step / 50,000)^3, the share of the final sparsity.
RAMP = {
    0: 0.0,
    1_000: 0.058808,
    10_000: 0.488,
    50_000: 1.0,
    80_000: 1.0,
    100_000: 1.0,
}
# 1,000 steps of warm-up to 5e-5; (50,000 - t mod 1,000) / 49,000 of that until
# 50,000; then (100,000 - t) / 49,000.
LEARNING_RATES = {
    0: 0.0,
    500: 2.5e-5,
    1_000: 5e-5 * 50 / 49,
    10_000: 5e-5 * 50 / 49,
    10_980: 5e-5 * 49_020 / 49_000,
    49_999: 5e-5 * 49_001 / 49_000,
    50_000: 5e-5 * 50 / 49,
    80_000: 5e-5 * 20 / 49,
    100_000: 0.0,
}
# Prints every recipe's values as the program itself reads them.
READ_ALL = """
import json, sys
from absl import flags
import tf_pof.cli.prune_pretrain
from absl.testing import flagsaver
values = {}
for path in sys.argv[1:]:
    with flagsaver.flagsaver():
        flags.FLAGS(["prune_pretrain", f"--flagfile={path}", "--model=m",
                     "--data=d", "--output=o"])
        values[path] = flags.FLAGS.flag_values_dict()
print(json.dumps(values, default=str))
"""


@pytest.fixture(scope="module")
def recipes():
    """Values of all flags under each flagfile, by recipe name."""
    run = subprocess.run(
        [sys.executable, "-c", READ_ALL, *map(str, PATHS)],
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    values = json.loads(run.stdout.splitlines()[-1])
    return {pathlib.Path(path).stem: v for path, v in values.items()}


def test_every_file_is_a_recipe_of_a_command_that_is_tested():
    commands = {}
    for path in ALL:
        command = re.search(
            rf"^#   bin/(\w+) --flagfile={path.name} ", path.read_text(), re.M
        )
        assert command, path.name
        commands.setdefault(command[1], set()).add(path.stem)
    assert commands.keys() == {"prune_pretrain", "finetune"}
    assert commands["prune_pretrain"] == set(RECIPES)


@pytest.mark.parametrize("name", RECIPES)
def test_opens_with_command_cost_and_paper(name):
    text = (FLAGS_FOLDER / f"{name}.flags").read_text()
    opening = text.split("\n\n")[0]
    assert f"bin/prune_pretrain --flagfile={name}.flags" in opening
    assert "estimated, not measured" in opening
    assert "Zafrir et al." in opening and "arXiv 2111.05754" in opening


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.stem)
def test_has_one_flag_a_line_and_comments_in_column_0(path):
    names = []
    for line in path.read_text().splitlines():
        assert len(line) <= 80
        if line and not line.startswith("#"):
            match = re.fullmatch(r"--(\w+)=[\w.-]+", line)
            assert match, line
            names.append(match[1])
    assert len(names) == len(set(names))
    assert not OF_THE_USER & set(names)


@pytest.mark.parametrize("name", RECIPES)
def test_settings_are_the_papers(recipes, name):
    final, pattern, published = RECIPES[name]
    expected = {
        "train_steps": 100_000,
        "batch_size": 256 if published else 32,
        "sequence_length": 512 if published else 128,
        "learning_rate": 5e-5,
        "learning_rate_schedule": "rewind",
        "warmup_fraction": 0.01,
        "weight_decay": 0.01,
        "clip_norm": 1.0,
        "adam_beta_1": 0.9,
        "adam_beta_2": 0.999,
        "mask_rate": 0.15,
        "pattern": pattern,
        "budget": "uniform",
        "pruning_schedule": "prune_once",
        "initial_sparsity": 0.0,
        "final_sparsity": final,
        "pruning_begin_step": 0,
        "pruning_ramp_end_step": 50_000,
        "pruning_end_step": 80_000,
        "pruning_frequency": 1_000,
        "keep_pruned_values": True,
        "mask_update": "after_step",
        "precision": "auto",
        "hard_loss_weight": 0.5,
        "distillation_weight": 0.5,
        "temperature": 2.0,
        "hidden_loss_weight": 0.0,
        "attention_loss_weight": 0.0,
    }
    values = recipes[name]
    assert {key: values[key] for key in expected} == expected


@pytest.mark.parametrize("name", RECIPES)
def test_sparsity_follows_the_cubic_ramp(recipes, name):
    from tf_pof.pruning import schedules

    values = recipes[name]
    schedule = schedules.PruneOnceSchedule(
        initial_sparsity=values["initial_sparsity"],
        final_sparsity=values["final_sparsity"],
        begin_step=values["pruning_begin_step"],
        ramp_end_step=values["pruning_ramp_end_step"],
        end_step=values["pruning_end_step"],
        frequency=values["pruning_frequency"],
    )
    got = [float(schedule(step)[1]) for step in RAMP]
    expected = [RECIPES[name][0] * share for share in RAMP.values()]
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-6)
    selects = {
        step: bool(schedule(step)[0])
        for step in (*RAMP, 10_001, 79_000, 79_500, 81_000)
    }
    assert selects == {
        0: True,
        1_000: True,
        10_000: True,
        10_001: False,
        50_000: True,
        79_000: True,
        79_500: False,
        80_000: True,
        81_000: False,
        100_000: False,
    }


@pytest.mark.parametrize("name", RECIPES)
def test_learning_rate_rewinds(recipes, name):
    from tf_pof.training import optimizer

    values = recipes[name]
    schedule = optimizer.learning_rate_schedule(
        values["learning_rate_schedule"],
        values["learning_rate"],
        values["train_steps"],
        round(values["warmup_fraction"] * values["train_steps"]),
        values["pruning_ramp_end_step"],
        values["pruning_begin_step"],
        values["pruning_frequency"],
    )
    got = [float(schedule(step)) for step in LEARNING_RATES]
    np.testing.assert_allclose(
        got, list(LEARNING_RATES.values()), rtol=1e-5, atol=1e-11
    )


@pytest.mark.parametrize("name", RECIPES)
def test_stated_cost_is_the_arithmetic(recipes, name):
    text = (FLAGS_FOLDER / f"{name}.flags").read_text()
    size = next(size for size in SIZES if name.startswith(size))
    layers, hidden, intermediate = SIZES[size]
    values = recipes[name]
    length = values["sequence_length"]
    # Two FLOP a weight and token: encoder, attention core, MLM head.
    forward = 2 * layers * (4 * hidden**2 + 2 * hidden * intermediate)
    forward += layers * 4 * length * hidden
    forward += 2 * hidden**2 + 2 * hidden * 30_522
    tokens = values["train_steps"] * values["batch_size"] * length
    stated = float(re.search(r"(\d\.\de\d+) FLOP", text)[1])
    assert stated == pytest.approx(4 * forward * tokens, rel=0.05)
