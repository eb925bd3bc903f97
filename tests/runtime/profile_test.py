"""The delegate's own profile: what it counts, and when it forgets."""

import collections
import subprocess
import sys
import time

import pytest

from tests.export import converted
from tests.runtime import built
from tf_pof import runtime
from tf_pof.runtime import profile

CALLS = 3


@pytest.fixture(scope="module", autouse=True)
def library():
    return built.library()


@pytest.fixture(scope="module")
def made():
    return converted.make("classifier")


@pytest.mark.parametrize("threads", [1, 2])
def test_steps_are_counted_and_their_time_is_within_the_calls(made, threads):
    interpreter = runtime.Interpreter(made.contents, threads, profile=True)
    runner = interpreter.get_signature_runner("seq_12")
    inputs = converted.inputs(made.model, 3, 12)
    began = time.perf_counter()
    for _ in range(CALLS):
        runner(**inputs)
    whole = time.perf_counter() - began
    steps = interpreter.profile()
    assert interpreter.profile() == []
    assert all(step.calls == CALLS for step in steps)
    assert 0 < sum(step.seconds for step in steps) < whole
    count = collections.Counter(step.kind for step in steps)
    layers = made.model.config.num_layers
    assert count["attention, scores"] == count["attention, packing"] == layers
    assert count["layer norm"] == 2 * layers
    linear = [step for step in steps if step.kind == "linear"]
    assert len({step.name for step in linear}) == len(linear) >= 6 * layers
    joined = {(step.kind, step.detail): step for step in profile.join(steps)}
    assert sum(step.calls for step in joined.values()) == CALLS * len(steps)
    (scores,) = [key for key in joined if key[0] == "attention, scores"]
    assert joined[scores].calls == CALLS * layers
    runner(**inputs)
    assert {step.calls for step in interpreter.profile()} == {1}


def test_without_the_option_there_is_none(made):
    interpreter = runtime.Interpreter(made.contents)
    runner = interpreter.get_signature_runner("seq_12")
    runner(**converted.inputs(made.model, 3, 12))
    assert interpreter.profile() == []


def test_what_nobody_asked_for_is_printed_at_the_end(made, tmp_path):
    path = tmp_path / "model.tflite"
    path.write_bytes(made.contents)
    program = f"""
import numpy as np
from tf_pof import runtime
made = runtime.Interpreter({str(path)!r}, profile=True)
runner = made.get_signature_runner("seq_12")
inputs = {{
    name: np.ones((1, 12), details["dtype"])
    for name, details in runner.get_input_details().items()
}}
for _ in range({CALLS}):
    runner(**inputs)
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    lines = [x for x in done.stderr.splitlines() if x.startswith("tf_pof:")]
    assert lines[0].startswith(f"tf_pof: {CALLS} calls of ")
    for kind in ("layer norm", "attention, scores", "linear", "embeddings"):
        assert any(kind in line for line in lines[1:]), lines
    shares = [float(line.split()[3]) for line in lines[1:]]
    assert abs(sum(shares) - 100) < 0.1 * len(shares)
