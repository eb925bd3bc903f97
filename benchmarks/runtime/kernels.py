"""Times the fully-connected kernels against LiteRT's dense int8 ones.

    python -m benchmarks.runtime.kernels --shapes=768x768 --tokens=128

Prints ratios of LiteRT's time (XNNPACK, int8 with one scale per channel) to
that of each kernel for the same layer, rows in and rows out; engines take
turns in one process and medians are compared, without the cost of the call
itself. A kernel's result must be LiteRT's to the byte, or the run stops.
"""

import statistics
import tempfile
import time

import numpy as np
from absl import app, flags

from benchmarks.runtime import library, litert_layer

SHAPES = flags.DEFINE_list(
    "shapes", ["768x768", "768x3072", "3072x768"], "Inputs x outputs."
)
TOKENS = flags.DEFINE_multi_integer("tokens", [128], "Rows of the input.")
SPARSITY = flags.DEFINE_multi_float(
    "sparsity", [0.8, 0.85, 0.9], "Shares of zero weights."
)
PATTERN = flags.DEFINE_string("pattern", "1x1", "Block of weights kept whole.")
KERNELS = flags.DEFINE_list(
    "kernels", None, "Names of kernels; by default all but the plain C ones."
)
NUM_THREADS = flags.DEFINE_integer("num_threads", 1, "Threads of both.")
ROUNDS = flags.DEFINE_integer("rounds", 25, "Times that engines take turns.")
PANELS = flags.DEFINE_bool("panels", False, "Panels in and out, not rows.")
COMPILER = flags.DEFINE_string("compiler", "", "C++ compiler of the library.")


def make_layer(
    inputs: int, outputs: int, num_tokens: int, sparsity: float, pattern: str
):
    """Random weights of a pattern, bias, scales and input."""
    rng = np.random.default_rng(0)
    rows, columns = (int(size) for size in pattern.split("x"))
    keep = rng.random((outputs // rows, inputs // columns)) >= sparsity
    mask = np.kron(keep, np.ones((rows, columns), bool))
    weights = rng.integers(1, 128, (outputs, inputs)) * mask
    weights *= rng.choice([-1, 1], weights.shape)
    weights = weights.astype(np.int8)
    bias = rng.integers(-1000, 1000, outputs, dtype=np.int32)
    data = rng.integers(-128, 128, (num_tokens, inputs), dtype=np.int8)
    channels = rng.uniform(0.001, 0.002, outputs).astype(np.float32)
    spread = np.std((data.astype(np.float32) + 3) @ weights.T.astype("f4"))
    scales = {
        "input": (0.02, -3),
        "weights": (channels,),
        "output": (float(np.float32(spread * 0.0015 * 0.02 / 40)), 5),
    }
    return weights, bias, scales, data


def seconds(run, repeats: int) -> float:
    clock = time.thread_time if NUM_THREADS.value == 1 else time.perf_counter
    start = clock()
    for _ in range(repeats):
        run()
    return (clock() - start) / repeats


def medians(runs: dict) -> dict[str, float]:
    """Seconds of each, taking turns; each turn takes about a millisecond."""
    repeats = {name: 1 for name in runs}
    for name, run in runs.items():
        run()
        repeats[name] = max(1, int(0.001 / max(seconds(run, 2), 1e-7)))
    times = {name: [] for name in runs}
    for _ in range(ROUNDS.value):
        for name, run in runs.items():
            times[name].append(seconds(run, repeats[name]))
    return {name: statistics.median(values) for name, values in times.items()}


def compare(lib, pool, names, shape, num_tokens, sparsity, empty) -> str:
    """A row of the table."""
    inputs, outputs = (int(size) for size in shape.split("x"))
    *layer, data = make_layer(
        inputs, outputs, num_tokens, sparsity, PATTERN.value
    )
    baseline = litert_layer.LiteRtLayer(
        *layer, num_tokens, num_threads=NUM_THREADS.value
    )
    expected = baseline(data)
    kernels, packing = {}, {}
    for name in names:
        start = time.perf_counter()
        kernels[name] = library.KernelLayer(
            lib,
            *layer,
            num_tokens,
            kernel=None if name == "chosen" else name,
            pool=pool,
            num_threads=NUM_THREADS.value,
            layouts=(library.PANELS,) * 2 if PANELS.value else (0, 0),
        )
        packing[name] = time.perf_counter() - start
        actual = kernels[name](data)
        if not np.array_equal(actual, expected):
            raise SystemExit(f"{name} differs from LiteRT.")
    runs = {"LiteRT": baseline.run} | {n: k.run for n, k in kernels.items()}
    times = medians(runs)
    times = {
        name: value - empty["LiteRT" if name == "LiteRT" else "kernel"]
        for name, value in times.items()
    }
    cells = [f"{times['LiteRT'] * 1e6:.1f}"]
    for name, kernel in kernels.items():
        cells.append(
            f"{times['LiteRT'] / times[name]:.2f}x"
            + (f" ({kernel.kernel})" if name == "chosen" else "")
        )
    details = ", ".join(
        f"{name} {kernel.bytes / inputs / outputs * 8:.2f} bits a weight, "
        f"packed in {packing[name] * 1e3:.0f} ms"
        for name, kernel in kernels.items()
    )
    print(f"<!-- {shape} {num_tokens} {sparsity}: {details} -->")
    for kernel in kernels.values():
        kernel.close()
    return f"| {shape} | {num_tokens} | {sparsity:.0%} | " + " | ".join(cells)


def call_costs(lib) -> dict[str, float]:
    """Seconds of a call that computes next to nothing."""
    *layer, _ = make_layer(16, 16, 1, 0.5, "1x1")
    runs = {
        "LiteRT": litert_layer.LiteRtLayer(*layer, 1).run,
        "kernel": library.KernelLayer(lib, *layer, 1).run,
    }
    return medians(runs)


def main(argv):
    del argv
    with tempfile.TemporaryDirectory() as folder:
        lib = library.Library(library.build(folder, COMPILER.value))
        names = KERNELS.value or [
            *(name for name in lib.kernels() if not name.endswith("scalar")),
            "chosen",
        ]
        pool = lib.pool(NUM_THREADS.value)
        empty = call_costs(lib)
        print(f"{PATTERN.value} blocks, {NUM_THREADS.value} thread(s)\n")
        print("| inputs x outputs | tokens | zeros | LiteRT, us | ", end="")
        print(" | ".join(names) + " |")
        print("|---" * (4 + len(names)) + "|")
        for shape in SHAPES.value:
            for num_tokens in TOKENS.value:
                for sparsity in SPARSITY.value:
                    row = compare(
                        lib, pool, names, shape, num_tokens, sparsity, empty
                    )
                    print(row + " |", flush=True)


if __name__ == "__main__":
    app.run(main)
