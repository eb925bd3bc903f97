"""What --help says, and which values of flags are refused."""

import json
import re
import subprocess
import sys

import pytest

import tf_pof


def run(module, *arguments):
    done = subprocess.run(
        [sys.executable, "-m", f"tf_pof.cli.{module}", *arguments],
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout, done.stderr.strip()


COMMANDS = (
    "benchmark evaluate export_tflite finetune prepare_data prepare_teacher "
    "prune_pretrain quickstart"
).split()


@pytest.mark.parametrize("name", COMMANDS)
def test_help_lists_every_flag_of_the_command_once(name):
    code, printed, error = run(name, "--help")
    assert (code, error) == (0, "")
    assert printed.startswith(f"bin/{name}: ")
    assert f"Usage: {name} " in printed and f"Example:\n  {name} " in printed
    code = f"""
import sys
sys.argv = ["{name}"]
from absl import flags
from tf_pof.cli import {name}
found = flags.FLAGS.flags_by_module_dict()
for module, own in found.items():
    if module.startswith("tf_pof."):
        print(*(flag.name for flag in own), sep="\\n")
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True
    )
    own = done.stdout.split()
    listed = re.findall(r"^  --(?:\[no\])?(\w+)", printed, re.M)
    assert len(own) > 2
    assert sorted(listed) == sorted([*own, "flagfile", "version"])


@pytest.mark.parametrize("flag", ["-h", "--help", "--helpshort"])
def test_help_puts_required_flags_first_and_needs_none(flag):
    code, printed, _ = run("finetune", "--task=sst2", flag)
    assert code == 0
    required = printed[printed.index("Required:") :].split("\n\n")[0]
    listed = re.findall(r"^  --(\w+)", required, re.M)
    assert listed == ["task", "model", "output"]
    assert printed.index("Required:") < printed.index("Training:")
    assert "Peak learning rate. Default: 0.0001." in printed


def test_a_reader_that_goes_is_no_error():
    done = subprocess.run(
        f"{sys.executable} -m tf_pof.cli.finetune --help | head -n 1",
        shell=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout.count("\n") == 1 and done.stderr == ""


def test_version_is_that_of_the_package():
    assert run("prune_pretrain", "--version")[:2] == (
        0,
        f"tf_pof {tf_pof.__version__}\n",
    )


# Arguments of finetune, and what the sentence says.
REFUSED = [
    (["--noqat=true"], "--noqat=true does not take an argument"),
    (["--qat=maybe"], "Non-boolean argument to boolean flag"),
    (["--epochs=inf"], "--epochs must be a finite number, not inf"),
    (["--epochs=0"], "must be above 0"),
    (["--clip_norm=nan"], "--clip_norm must be a finite number"),
    (["--learning_rate=-1"], "must be above 0"),
    (["--learning_rate=nan"], "must be a finite number"),
    (["--adam_beta_1=1.5"], "must be below 1"),
    (["--adam_beta_2=-0.1"], "is not a non-negative number"),
    (["--adam_epsilon=0"], "must be above 0"),
    (["--temperature=0"], "must be above 0"),
    (["--temperature=inf"], "must be a finite number"),
    (["--dropout=1"], "must be below 1"),
    (["--final_sparsity=1"], "must be below 1"),
    (["--seed=-1"], "not an integer in the range [0, 4294967295]"),
    (["--seed=4294967296"], "not an integer in the range"),
    (["--batch_size=1000000000"], "not an integer in the range"),
    (["--checkpoint_every=99999999999"], "must be at most 2147483647"),
    (["--train_steps=1e3"], "invalid literal for int"),
    (["--task=sst3"], "did you mean sst2"),
    (["--no_such_flag=1"], "no_such_flag"),
    (["--temprature=1"], "temperature"),
    (["--evaluate_every=-7"], "--evaluate_every=-7"),
    (["--evaluate_every=year"], "--evaluate_every=year"),
    (["--pattern=99999999999x1", "--final_sparsity=.9", "--train_steps=9"],
     "99999999999x1"),
    (["--pattern=3y4", "--final_sparsity=.9", "--train_steps=9"], "3y4"),
    (["--hard_loss_weight=0", "--distillation_weight=0", "--teacher=x"],
     "are all 0"),
    (["--final_sparsity=.9", "--train_steps=9", "--pruning_end_step=1"],
     "end"),
    (["more"], "What is more? All is given by flags"),
]  # fmt: skip

# One process for all, since each imports TensorFlow.
MANY = """
import contextlib, io, json, sys
from absl import flags
from tf_pof.cli import finetune
for arguments in json.load(sys.stdin):
    flags.FLAGS.unparse_flags()
    sys.argv = ["finetune", "--task=sst2", "--model=bert_tiny",
                "--output=/proc/x", *arguments]
    error = io.StringIO()
    with contextlib.redirect_stderr(error):
        try:
            finetune.run()
        except SystemExit as end:
            code = end.code
    print(json.dumps([code, error.getvalue()]), flush=True)
"""


@pytest.fixture(scope="module")
def refusals():
    done = subprocess.run(
        [sys.executable, "-c", MANY],
        input=json.dumps([arguments for arguments, _ in REFUSED]),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(lines) == len(REFUSED)
    return lines


@pytest.mark.parametrize("index", range(len(REFUSED)))
def test_senseless_values_are_usage_errors(index, refusals):
    _, sentence = REFUSED[index]
    code, printed = refusals[index]
    assert sentence in printed
    assert code == 2
    assert printed.count("\n") == 1
