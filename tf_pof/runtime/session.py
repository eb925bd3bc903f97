"""A .tflite in LiteRT or under the delegate, at one shape, to be measured.

Knows nothing of TensorFlow, so that a process can tell what a model takes.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import statistics
import time
from typing import Any

from ai_edge_litert import interpreter as litert
import numpy as np

from tf_pof.quiet import quiet
from tf_pof.runtime.interpreter import Interpreter
from tf_pof.runtime.profile import Step

# Seconds of calls that follow each other, before another engine's turn.
_TURN = 0.01


@dataclasses.dataclass(frozen=True)
class Engine:
    """What computes.

    Attributes:
        name: for tables.
        model: path of a .tflite.
        options: of `delegate` besides its threads; None for LiteRT alone.
        vocabulary_size: ids are drawn below it.
    """

    name: str
    model: str
    options: Mapping[str, Any] | None = None
    vocabulary_size: int = 1


@dataclasses.dataclass(frozen=True)
class Shape:
    """What is computed at once.

    Attributes:
        sequence_length: tokens of a sequence, without padding.
        batch_size: sequences.
        num_threads: to compute with.
    """

    sequence_length: int
    batch_size: int = 1
    num_threads: int = 1


class Session:
    """An engine that is loaded and has computed once.

    Attributes:
        engine: what computes.
        load_seconds: from nothing to a model that can be called.
        ready_seconds: from nothing to the first result.
        outputs: by name.

    Raises:
        FileNotFoundError: if there is no such file, or no delegate.
        ValueError: if the engine cannot compute the model at this shape.
    """

    def __init__(self, engine: Engine, shape: Shape):
        self.engine = engine
        began = time.perf_counter()
        try:
            with quiet():
                runner = _runner(engine, shape)
                self.load_seconds = time.perf_counter() - began
                self.outputs = runner(**_inputs(runner, engine, shape))
        except (ValueError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            reason = reason.removeprefix(f"{engine.model} cannot be loaded: ")
            raise ValueError(
                f"{engine.name} cannot compute {engine.model} with "
                f"{shape.batch_size} x {shape.sequence_length} tokens: {reason}"
            ) from error
        self.ready_seconds = time.perf_counter() - began
        self._runner = runner

    def seconds(self, calls: int) -> float:
        """Of a call, the mean of some."""
        # The runner's own call copies inputs and outputs besides.
        invoke = self._runner._interpreter_wrapper.Invoke
        index = self._runner._subgraph_index
        began = time.perf_counter()
        for _ in range(calls):
            invoke(index)
        return (time.perf_counter() - began) / calls


def profile(
    engine: Engine, shape: Shape, calls: int
) -> tuple[list[Step], float]:
    """Where the time of a delegate's calls goes.

    Returns:
        The steps of all these calls together, and the seconds of a call,
        whose rest is LiteRT's.
    """
    options = {**engine.options, "profile": True}
    session = Session(dataclasses.replace(engine, options=options), shape)
    interpreter = session._runner._interpreter
    session.seconds(2)
    interpreter.profile()
    seconds = session.seconds(calls)
    return interpreter.profile(), seconds


def medians(sessions: Sequence[Session], rounds: int) -> list[float]:
    """Seconds of a call of each, by turns in one process.

    A turn begins with a call that is not timed: before it the caches hold what
    another engine left there.

    Args:
        sessions: that take turns.
        rounds: turns of each.
    """
    calls = [
        max(1, round(_TURN / max(session.seconds(2), 1e-9)))
        for session in sessions
    ]
    times = [[] for _ in sessions]
    for _ in range(rounds):
        for session, count, found in zip(sessions, calls, times):
            session.seconds(1)
            found.append(session.seconds(count))
    return [statistics.median(found) for found in times]


def _runner(engine, shape):
    """Of the signature that has the shape's length."""
    if engine.options is None:
        made = litert.Interpreter(
            model_path=engine.model, num_threads=shape.num_threads
        )
    else:
        made = Interpreter(engine.model, shape.num_threads, **engine.options)
    found = []
    for key in made.get_signature_list():
        runner = made.get_signature_runner(key)
        for details in runner.get_input_details().values():
            size = [int(n) for n in details["shape_signature"]]
            if len(size) == 2 and size[1] in (shape.sequence_length, -1):
                # Engines pack their weights here.
                runner._interpreter_wrapper.AllocateTensors(
                    runner._subgraph_index
                )
                return runner
            found.append(str(size))
    raise ValueError(
        "it has no signature of that length, only inputs of "
        + ", ".join(dict.fromkeys(found))
    )


def _inputs(runner, engine, shape):
    """Random ids of one text without padding, by name."""
    random = np.random.default_rng(0)
    size = shape.batch_size, shape.sequence_length
    values = {}
    for name, details in runner.get_input_details().items():
        value = np.ones(size)
        if name == "token_ids":
            value = random.integers(0, engine.vocabulary_size, size)
        elif name == "segment_ids":
            value = np.zeros(size)
        values[name] = value.astype(details["dtype"])
    return values
