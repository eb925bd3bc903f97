"""Times a .tflite in LiteRT and under the delegate, in one run."""

from collections.abc import Sequence
import dataclasses
from typing import Any

import numpy as np
import rich.console

from tf_pof.export import archive, flatbuffer
from tf_pof.runtime import footprint, tables
from tf_pof.runtime.profile import join
from tf_pof.runtime.tables import LITERT, OTHER, OURS
from tf_pof.runtime.session import Engine, Session, Shape, medians, profile



@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """What to time; the flags of bin/benchmark say what fields mean."""

    model: str
    compare: str | None = None
    # None: those of the file.
    sequence_lengths: Sequence[int] | None = None
    batch_size: int = 1
    num_threads: Sequence[int] = (1,)
    rounds: int = 30
    memory: bool = True
    profile: bool = False
    # Of `delegate`.
    options: dict[str, Any] = dataclasses.field(default_factory=dict)


def run(settings: Settings, console: rich.console.Console) -> dict:
    """Times the engines, which take turns, and prints tables.

    The delegate's time is compared with that of each other engine: LiteRT
    with the same file, and with the file to compare.

    Args:
        settings: of the benchmark.
        console: to print on.

    Returns:
        "model" and "compare" (paths), "rows", "profiles" and "footprints" of
        what is printed: seconds and bytes by engine.

    Raises:
        ValueError: if a file is corrupt or the delegate cannot compute it.
        OSError: if a file cannot be read, or the delegate is not there.
    """
    engines, lengths = _engines(settings, console)
    shapes = [
        Shape(length, settings.batch_size, threads)
        for threads in settings.num_threads
        for length in lengths
    ]
    rows = [_row(engines, shape, settings.rounds) for shape in shapes]
    tables.show_times([engine.name for engine in engines], rows, console)
    profiles = []
    if settings.profile:
        *_, ours = engines
        profiles = [_profile(ours, s, settings.rounds) for s in shapes]
        for found in profiles:
            tables.show_profile(found, console)
    footprints = {}
    if settings.memory:
        for engine in engines:
            found = footprint.measure(engine, shapes[0])
            footprints[engine.name] = dataclasses.asdict(found)
        tables.show_footprints(footprints, shapes[0], console)
    return {
        "model": settings.model,
        "compare": settings.compare,
        "rows": rows,
        "profiles": profiles,
        "footprints": footprints,
    }


def _engines(settings, console):
    """The engines that run here, the delegate last, and the lengths."""
    described = _details(settings.model)
    lengths = settings.sequence_lengths
    if lengths is None and described is None:
        raise ValueError(
            f"{settings.model} does not say which lengths it takes: give "
            f"--sequence_lengths{_lengths_at_hand(settings.model)}."
        )
    lengths = lengths or described["sequence_lengths"]
    vocabulary = described["config"]["vocabulary_size"] if described else 1
    ours = Engine(OURS, settings.model, settings.options, vocabulary)
    stock = [Engine(LITERT, settings.model, None, vocabulary)]
    if settings.compare:
        _details(settings.compare)
        stock.append(Engine(OTHER, settings.compare, None, vocabulary))
        console.print(f"{OTHER}: {settings.compare} in {LITERT}.")
    shape = Shape(lengths[0], settings.batch_size)
    Session(ours, shape)
    found = []
    for engine in stock:
        try:
            Session(engine, shape)
            found.append(engine)
        except ValueError as error:
            # Packed files are not for LiteRT, and are timed without it.
            console.print(f"Not timed: {error}", soft_wrap=True)
    return [*found, ours], lengths


def _details(path):
    """tf_pof.json of a file, or None."""
    contents = archive.contents_of(path)
    try:
        flatbuffer.read(contents)
        return archive.read_details(contents)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _lengths_at_hand(path):
    """What the inputs of a file without metadata tell of its lengths."""
    model = flatbuffer.read(archive.contents_of(path))
    found = set()
    for graph in model.subgraphs:
        for index in graph.inputs:
            shape = graph.tensors[index].shape
            if shape is not None and len(shape) == 2:
                found.add(int(shape[1]))
    lengths = ",".join(str(length) for length in sorted(found))
    return f", as --sequence_lengths={lengths}" if lengths else ""


def _row(engines, shape, rounds):
    sessions = [Session(engine, shape) for engine in engines]
    times = medians(sessions, rounds)
    *_, ours = sessions
    differences = {
        session.engine.name: max(
            float(np.abs(value - ours.outputs[name]).max())
            for name, value in session.outputs.items()
        )
        for session in sessions[:-1]
        if session.engine.model == ours.engine.model
    }
    return {
        **dataclasses.asdict(shape),
        "seconds": {
            session.engine.name: found
            for session, found in zip(sessions, times)
        },
        "largest_difference": differences,
    }


def _profile(engine, shape, calls):
    steps, seconds = profile(engine, shape, calls)
    return {
        **dataclasses.asdict(shape),
        "calls": calls,
        "seconds": seconds,
        "steps": [dataclasses.asdict(step) for step in join(steps)],
        "each": [dataclasses.asdict(step) for step in steps],
    }
