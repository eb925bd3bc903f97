"""Times a .tflite in LiteRT and under the delegate, in one run."""

from collections.abc import Sequence
import dataclasses
import pathlib
from typing import Any

import numpy as np
import rich.console
import rich.table

from tf_pof.export import flatbuffer, metadata
from tf_pof.runtime import footprint
from tf_pof.runtime.profile import join
from tf_pof.runtime.session import Engine, Session, Shape, medians, profile

LITERT, OTHER, OURS = "LiteRT", "other", "tf_pof"


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
    _show_times(engines, rows, console)
    profiles = []
    if settings.profile:
        *_, ours = engines
        profiles = [_profile(ours, s, settings.rounds) for s in shapes]
        for found in profiles:
            _show_profile(found, console)
    footprints = {}
    if settings.memory:
        for engine in engines:
            found = footprint.measure(engine, shapes[0])
            footprints[engine.name] = dataclasses.asdict(found)
        _show_footprints(footprints, shapes[0], console)
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
            "--sequence_lengths."
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
    contents = pathlib.Path(path).read_bytes()
    try:
        flatbuffer.read(contents)
        return metadata.read_details(contents)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


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


def _show_times(engines, rows, console):
    table = rich.table.Table(title="One call, median")
    for name in ("tokens", "batch", "threads"):
        table.add_column(name, justify="right")
    for engine in engines:
        table.add_column(f"{engine.name}, ms", justify="right")
        if engine.name != OURS:
            table.add_column(f"to {OURS}", justify="right")
    for row in rows:
        cells = [row["sequence_length"], row["batch_size"], row["num_threads"]]
        seconds = row["seconds"]
        for engine in engines:
            cells.append(f"{seconds[engine.name] * 1e3:.3f}")
            if engine.name != OURS:
                ratio = seconds[engine.name] / seconds[OURS]
                cells.append(f"{ratio:.2f}x")
        table.add_row(*map(str, cells))
    console.print(table)
    found = [d for row in rows for d in row["largest_difference"].values()]
    if found:
        console.print(
            f"Largest difference of an output to {LITERT}'s: {max(found):.4g}."
        )


def _show_profile(found, console):
    """Steps of a kind together, then what is outside of the delegate."""
    table = rich.table.Table(
        title=f"{OURS}: where a call's time goes, {found['batch_size']} x "
        f"{found['sequence_length']} tokens, {found['num_threads']} thread(s)"
    )
    table.add_column("steps")
    table.add_column("of")
    for name in ("a call", "us", "share"):
        table.add_column(name, justify="right")
    calls, whole = found["calls"], found["seconds"]
    steps = [
        (step["kind"], step["detail"], step["calls"] / calls, step["seconds"])
        for step in found["steps"]
    ]
    rest = max(0.0, calls * whole - sum(seconds for *_, seconds in steps))
    for kind, detail, count, seconds in [*steps, ("other", "LiteRT", 1, rest)]:
        each = seconds / calls
        cells = [f"{count:.0f}", f"{each * 1e6:.1f}"]
        table.add_row(kind, detail, *cells, f"{each / whole:.1%}")
    table.add_section()
    table.add_row("all", "", "", f"{whole * 1e6:.1f}", "")
    console.print(table)


def _show_footprints(footprints, shape, console):
    table = rich.table.Table(
        title=f"A process of its own, {shape.batch_size} x "
        f"{shape.sequence_length} tokens, {shape.num_threads} thread(s)"
    )
    table.add_column("engine")
    for name in (
        "memory, MB",
        f"{OURS} to it",
        "load, ms",
        f"{OURS} to it",
        "first result, ms",
        f"{OURS} to it",
    ):
        table.add_column(name, justify="right")
    ours = footprints[OURS]
    for name, found in footprints.items():
        cells = [name]
        for key, text in (
            ("resident_bytes", f"{found['resident_bytes'] / 1e6:.1f}"),
            ("load_seconds", f"{found['load_seconds'] * 1e3:.0f}"),
            ("ready_seconds", f"{found['ready_seconds'] * 1e3:.0f}"),
        ):
            cells += [text, f"{ours[key] / max(found[key], 1e-9):.2f}x"]
        table.add_row(*cells)
    console.print(table)
