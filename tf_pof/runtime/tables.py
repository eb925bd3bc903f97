"""The tables of bin/benchmark, which fit a terminal of 80 columns."""

from collections.abc import Mapping, Sequence

import rich.box
import rich.console
import rich.table

from tf_pof.runtime.session import Shape

LITERT, OTHER, OURS = "LiteRT", "other", "tf_pof"


def _table(title, *columns):
    """A table whose first columns are texts, as far as they are strings.

    Args:
        title: of the table.
        *columns: headings; those in a list are of numbers.
    """
    table = rich.table.Table(
        title=title,
        title_justify="left",
        box=rich.box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )
    for heading in columns:
        number = isinstance(heading, list)
        table.add_column(
            heading[0] if number else heading,
            justify="right" if number else "left",
            no_wrap=number,
            overflow="fold",
        )
    return table


def show_times(
    names: Sequence[str], rows: Sequence[Mapping], console: rich.console.Console
) -> None:
    """Prints the time of a call of each engine, and what is gained.

    Args:
        names: of the engines, tf_pof's last.
        rows: of the benchmark.
        console: to print on.
    """
    headings = [["tokens"], ["batch"], ["threads"]]
    for name in names:
        headings.append([f"{name}, ms"])
        if name != OURS:
            headings.append(["ratio"])
    others = " and ".join(name for name in names if name != OURS)
    ratio = f"; ratio: {others} to {OURS}" if others else ""
    table = _table(f"One call, median{ratio}", *headings)
    for row in rows:
        cells = [row["sequence_length"], row["batch_size"], row["num_threads"]]
        seconds = row["seconds"]
        for name in names:
            cells.append(f"{seconds[name] * 1e3:.3f}")
            if name != OURS:
                cells.append(f"{seconds[name] / seconds[OURS]:.2f}x")
        table.add_row(*map(str, cells))
    console.print(table)
    found = [d for row in rows for d in row["largest_difference"].values()]
    if found:
        console.print(
            f"Largest difference of an output to {LITERT}'s: {max(found):.4g}."
        )


def show_profile(found: Mapping, console: rich.console.Console) -> None:
    """Prints steps of a kind together, then what is outside the delegate."""
    table = _table(
        f"{OURS}: where a call's time goes, {found['batch_size']} x "
        f"{found['sequence_length']} tokens, {found['num_threads']} thread(s)",
        "steps",
        "shape and kernel",
        ["calls"],
        ["microseconds"],
        ["share"],
    )
    calls, whole = found["calls"], found["seconds"]
    steps = [
        (step["kind"], step["detail"], step["calls"] / calls, step["seconds"])
        for step in found["steps"]
    ]
    rest = max(0.0, calls * whole - sum(seconds for *_, seconds in steps))
    for kind, detail, count, seconds in [*steps, ("other", LITERT, 1, rest)]:
        each = seconds / calls
        cells = [f"{count:.0f}", f"{each * 1e6:.1f}"]
        table.add_row(kind, detail, *cells, f"{each / whole:.1%}")
    table.add_section()
    table.add_row("all", "", "", f"{whole * 1e6:.1f}", "")
    console.print(table)


def show_footprints(
    footprints: Mapping[str, Mapping], shape: Shape, console
) -> None:
    """Prints memory and time to the first result of a process of its own."""
    table = _table(
        f"A process of its own, {shape.batch_size} x {shape.sequence_length} "
        f"tokens, {shape.num_threads} thread(s);\nratio: {OURS} to the engine",
        "engine",
        ["memory, MB"],
        ["ratio"],
        ["load, ms"],
        ["ratio"],
        ["first result, ms"],
        ["ratio"],
    )
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
