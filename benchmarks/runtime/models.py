"""Whole models under the delegate against LiteRT's dynamic-range int8.

    python -m benchmarks.runtime.models --folder=FOLDER --make
    python -m benchmarks.runtime.models --folder=FOLDER --seconds=40
    python -m benchmarks.runtime.models --folder=FOLDER --show=RESULTS

The first makes the files that FOLDER lacks (BERT-Base takes minutes and 4 GB of
memory each). The second times what FOLDER has no row of, and begins no row
after --seconds, so that it can be run in slices while a machine is quiet. The
third prints the tables and writes points and plots of the sweeps (--sets).

Weights are random and pruned by magnitude, the vocabulary has 30,522 words.
Engines take turns in one process and medians of a call are compared: the
delegate on the sparse int8 file, and LiteRT on a dense model of the same shape
whose weights the converter made int8 (dynamic range), its best. Memory and the
time to the first result are of processes of their own. With --beside=openvino,
onnx those run the sparse int8 file too, as they read it: what their own tools
quantize may be faster there. The table has their times by tf_pof's.
"""

import dataclasses
import json
import pathlib
import tempfile
import time

from absl import app, flags

from benchmarks.runtime import beside, curves, model_files
from tf_pof.runtime import footprint
from tf_pof.runtime.session import Engine, Session, Shape, medians

FOLDER = flags.DEFINE_string("folder", None, "For files and rows.")
MAKE = flags.DEFINE_bool("make", False, "Make the files and time nothing.")
SHOW = flags.DEFINE_string("show", None, "Folder to write the results to.")
SETS = flags.DEFINE_list(
    "sets",
    "table,memory",
    "Of table, pairs, memory, cache, sparsity, tokens and threads; pairs is "
    "2:4 by instruction sets.",
)
SECONDS = flags.DEFINE_float("seconds", 40, "Begin no row after these.")
ROUNDS = flags.DEFINE_integer("rounds", 15, "Times that engines take turns.")
SWEPT = flags.DEFINE_string("swept", "minilm_l6", "Model of the plots.")
BESIDE = flags.DEFINE_list(
    "beside", [], "Of onnx and openvino: timed as well, where rows are new."
)
_CACHED = "tf_pof, cache_dir"
_VOCABULARY = 30522
_SPARSITIES = (0, 50, 60, 70, 80, 85, 90, 95)
_TOKENS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 384, 512)


@dataclasses.dataclass(frozen=True)
class Row:
    """What is measured at once.

    Attributes:
        set: of rows that it belongs to.
        model: one of `models.config.PRESETS`.
        sparsity: percent.
        pattern: of the zeros.
        tokens: of the one sequence.
        threads: of both engines.
        isa: the best instructions that the delegate may use.
    """

    set: str
    model: str
    sparsity: int = 90
    pattern: str = "1x1"
    tokens: int = 128
    threads: int = 1
    isa: str = "best"

    @property
    def name(self) -> str:
        return "_".join(map(str, dataclasses.astuple(self)))

    @property
    def files(self) -> list[str]:
        """Of the rival and of the sparse model."""
        kind = f"{self.sparsity}_{self.pattern}"
        return [
            f"{self.model}_{kind}_{self.tokens}"
            for kind in ("dynamic", kind)
        ]


def rows() -> list[Row]:
    """Of the sets that are asked for."""
    base, swept = "bert_base", SWEPT.value
    found = {
        "table": [
            *(Row("table", base, tokens=n) for n in (32, 128, 384)),
            Row("table", base, pattern="4x1"),
            *(Row("table", base, n) for n in (85, 80, 0)),
            Row("table", "minilm_l6"),
            Row("table", base, threads=2),
        ],
        "pairs": [
            Row("pairs", base, 50, "2:4", isa=isa)
            for isa in ("best", "avxvnni", "avx2")
        ],
        "memory": [Row("memory", base), Row("memory", "minilm_l6")],
        "cache": [Row("cache", base), Row("cache", "minilm_l6")],
        "sparsity": [Row("sparsity", swept, n) for n in _SPARSITIES],
        "tokens": [Row("tokens", swept, tokens=n) for n in _TOKENS],
        "threads": [Row("threads", swept, threads=n) for n in (1, 2)],
    }
    return [row for name in SETS.value for row in found[name]]


def engines(folder: pathlib.Path, row: Row) -> list[Engine]:
    rival, ours = (str(model_files.path(folder, n)) for n in row.files)
    return [
        Engine("LiteRT", rival, None, _VOCABULARY),
        Engine("tf_pof", ours, {"isa": row.isa}, _VOCABULARY),
    ]


def measure(folder: pathlib.Path, row: Row) -> dict:
    """Seconds of a call, or footprints, by engine."""
    shape = Shape(row.tokens, num_threads=row.threads)
    both = engines(folder, row)
    if row.set == "memory":
        return _footprints(both, shape)
    if row.set == "cache":
        with tempfile.TemporaryDirectory() as kept:
            options = {**both[1].options, "cache_dir": kept}
            both.append(Engine(_CACHED, both[1].model, options, _VOCABULARY))
            # The first process fills the folder; medians are of others.
            return _footprints(both, shape)
    sessions = [Session(engine, shape) for engine in both]
    others = [beside.Beside(k, both[1].model, shape) for k in BESIDE.value]
    times = medians([*sessions, *others], ROUNDS.value)
    for other in others:
        other.close()
    names = [timed.name for timed in (*both, *others)]
    return dict(zip(names, times))


def _footprints(engines, shape):
    return {
        engine.name: dataclasses.asdict(footprint.measure(engine, shape))
        for engine in engines
    }


def timing_table(found: dict[Row, dict]) -> str:
    lines = [
        "| model | zeros | pattern | tokens | threads | tf_pof, ms | "
        "LiteRT, ms | ratio | OpenVINO, same file | ONNX Runtime, same file |",
        "|---" * 10 + "|",
    ]
    for row, values in found.items():
        ours, rival = values["tf_pof"], values["LiteRT"]
        limit = "" if row.isa == "best" else f", isa={row.isa}"
        cells = [row.model, f"{row.sparsity} %", row.pattern + limit]
        cells += [row.tokens, row.threads]
        cells += [f"{seconds * 1e3:.2f}" for seconds in (ours, rival)]
        cells.append(f"{rival / ours:.2f}x")
        for name in ("OpenVINO", "ONNX Runtime"):
            other = values.get(name)
            cells.append(f"{other / ours:.2f}x" if other else "")
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def memory_table(found: dict[Row, dict]) -> str:
    lines = [
        "| model, 90 % | LiteRT, MB | tf_pof, MB | ratio | LiteRT, load | "
        "tf_pof, load | ratio | LiteRT, first result | tf_pof, first result | "
        "ratio |",
        "|---" * 10 + "|",
    ]
    pairs = [
        (
            row.model + name.removeprefix("tf_pof"),
            values["LiteRT"],
            values[name],
        )
        for row, values in found.items()
        for name in ("tf_pof", _CACHED)
        if name in values
    ]
    for title, *pair in pairs:
        cells = [title]
        for key, scale, text in (
            ("resident_bytes", 1e-6, "{:.1f}"),
            ("load_seconds", 1e3, "{:.0f} ms"),
            ("ready_seconds", 1e3, "{:.0f} ms"),
        ):
            rival, ours = (values[key] for values in pair)
            cells += [text.format(value * scale) for value in (rival, ours)]
            cells.append(f"{ours / rival:.2f}x")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def show(found: dict[Row, dict], target: pathlib.Path) -> None:
    """Prints the tables; writes points and plots of the sets of sweeps."""
    target.mkdir(parents=True, exist_ok=True)
    sets: dict[str, dict[Row, dict]] = {}
    for row, values in found.items():
        sets.setdefault(row.set, {})[row] = values
    tables = {
        "table": timing_table,
        "pairs": timing_table,
        "memory": memory_table,
        "cache": memory_table,
    }
    for name, table in tables.items():
        if name in sets:
            print(table(sets[name]) + "\n")
    for name in ("sparsity", "tokens", "threads"):
        if name in sets:
            points = [
                (getattr(row, name), values)
                for row, values in sets[name].items()
            ]
            title = f"{SWEPT.value}, time of a call against {name}"
            stem = f"{SWEPT.value}_{name}"
            curves.write(target / stem, title, name, points)
            print(timing_table(sets[name]) + "\n")


def main(argv):
    del argv
    folder = pathlib.Path(FOLDER.value).expanduser().resolve()
    asked = rows()
    kept = {row: folder / f"{row.name}.json" for row in asked}
    if MAKE.value:
        names = [name for row in asked for name in row.files]
        model_files.make(folder, list(dict.fromkeys(names)))
        return
    if SHOW.value is None:
        end = time.monotonic() + SECONDS.value
        for row, path in kept.items():
            files = [model_files.path(folder, name) for name in row.files]
            if path.exists() or time.monotonic() > end:
                continue
            if all(file.exists() for file in files):
                path.write_text(json.dumps(measure(folder, row)) + "\n")
                print(row.name, path.read_text(), end="", flush=True)
        return
    found = {
        row: json.loads(path.read_text())
        for row, path in kept.items()
        if path.exists()
    }
    show(found, pathlib.Path(SHOW.value))


if __name__ == "__main__":
    flags.mark_flag_as_required("folder")
    app.run(main)
