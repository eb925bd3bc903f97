"""Runs that are killed at random moments end in the same bits."""

from concurrent import futures
import json
import pathlib
import random
import shutil
import signal
import time

import pytest

from tests.tasks import tiny

KILLS = 100
# Runs at the same time, which take each other's threads away.
LANES = 2
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
STEPS = {
    "--train_steps": 24,
    "--batch_size": 8,
    "--checkpoint_every": 3,
    "--log_every": 1,
    "--learning_rate": 1e-2,
    "--dropout": 0.1,
}
PRUNING = {
    "--final_sparsity": 0.75,
    "--pruning_ramp_end_step": 12,
    "--pruning_end_step": 18,
    "--pruning_frequency": 2,
}


@pytest.fixture(scope="module")
def commands(data, model, tmp_path_factory):
    """By name: the module of tf_pof.cli and its flags but --output."""
    root = tmp_path_factory.mktemp("task")
    vocab = tiny.write_vocabulary(root / "vocab.txt")
    task = tiny.flags(tiny.write_sst2(root / "glue"))
    start = tiny.save_model(root / "model", vocab)
    teacher = tiny.save_model(root / "t", vocab, 8, False, "classifier")

    def flags(values, *more):
        return [f"{k}={v}" for k, v in (STEPS | values).items()] + list(more)

    examples = {"--data": data, "--model": model}
    tuned = {"--model": start, "--teacher": teacher}
    return {
        "prepare_teacher": ("prepare_teacher", flags(examples)),
        "prune_pretrain": ("prune_pretrain", flags(examples | PRUNING)),
        "finetune": ("finetune", flags(tuned, *task)),
        "finetune --qat": ("finetune", flags(tuned, *task, "--qat")),
    }


def start(command, output):
    module, flags = command
    flags = [*flags, f"--output={output}"]
    return tiny.Command(module, flags, f"{output}.log")


def end_of(output: pathlib.Path):
    """All bytes of the model, and the curve's losses."""
    curve = [
        (point["step"], point["loss"])
        for point in map(
            json.loads, (output / "curve.jsonl").read_text().splitlines()
        )
    ]
    model = {
        str(path.relative_to(output)): path.read_bytes()
        for path in sorted((output / "model").rglob("*"))
        if path.is_file()
    }
    assert "model/model.safetensors" in model
    return model, curve


def over_before(process, seconds, step, output) -> bool:
    """Waits for a moment of a run; whether the run was over before it came.

    The moment is so many seconds after the start, or with a step so many after
    that step: few seconds of a short run are steps.
    """
    curve = output / "curve.jsonl"
    while step and process.wait(0.01) is None:
        if curve.exists() and curve.read_bytes().count(b"\n") >= step:
            break
    return process.wait(seconds) is not None


def kill(command, number, r, seconds, by_step, output):
    """Kills a run and goes on with it.

    Args:
        command: of `commands`.
        number: of the signal.
        r: random generator of the moment.
        seconds: that a whole run takes, about.
        by_step: whether it is killed soon after a random step, and not at any
            moment.
        output: folder to use.

    Returns:
        exit code of the killed process, whether the next one went on from a
        checkpoint, and `end_of` the run.
    """
    while True:
        shutil.rmtree(output, ignore_errors=True)
        began = time.monotonic()
        process = start(command, output)
        step = r.randrange(1, STEPS["--train_steps"]) if by_step else 0
        moment = r.random() * (0.1 if by_step else seconds)
        if not over_before(process, moment, step, output):
            process.send(number)
            code = process.wait()
            break
        # It may be faster than it was.
        seconds = time.monotonic() - began
    printed = start(command, output).finish()
    return code, "Going on from step" in printed, end_of(output)


@pytest.mark.slow
def test_killed_runs_end_bit_identical(commands, tmp_path):
    """Prints how many of the kills ended like the unbroken run."""
    whole, seconds = {}, {}
    for name, command in commands.items():
        output = tmp_path / name.replace(" ", "_")
        began = time.monotonic()
        start(command, output).finish()
        seconds[name] = time.monotonic() - began
        whole[name] = end_of(output)

    def one(i):
        name = list(commands)[i % len(commands)]
        number = SIGNALS[i // len(commands) % len(SIGNALS)]
        code, resumed, end = kill(
            commands[name],
            number,
            random.Random(i),
            seconds[name],
            i % 3 != 0,
            tmp_path / f"killed_{i}",
        )
        same = end == whole[name]
        print(f"{i + 1}: {name}, {number.name}: {same}", flush=True)
        return same, resumed, code

    with futures.ThreadPoolExecutor(LANES) as pool:
        equal, resumed, codes = zip(*pool.map(one, range(KILLS)))
    print(
        f"{sum(equal)} of {KILLS} kills ended in the bits of the unbroken run;"
        f" {sum(resumed)} went on from a checkpoint; exit codes "
        f"{ {code: codes.count(code) for code in sorted(set(codes))} }."
    )
    assert sum(equal) == KILLS
    # Two thirds are killed after a step, most of them after a checkpoint.
    assert sum(resumed) > KILLS // 4
