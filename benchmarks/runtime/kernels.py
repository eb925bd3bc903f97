"""Times the fully-connected kernels against LiteRT's dense int8 ones.

    python -m benchmarks.runtime.kernels --shapes=768x768 --tokens=128

Prints ratios of LiteRT's time (XNNPACK, int8 with one scale per channel) to
that of each kernel for the same layer, rows in and rows out; engines take
turns in one process and medians are compared, without the cost of the call
itself. A kernel's result must be LiteRT's to the byte, or the run stops.

With --threads one thread of a kernel and more of the same take turns instead,
each thread on a processor of its own, and without the cost of the call too. As
between the layers of a model, threads are awake: a turn begins with two calls
that are not timed. The fastest turns are compared, since whatever else runs
disturbs several threads more than one. What a cache line takes from one
processor to the other before and after is printed at the end, see `handover`.
"""

import functools
import os
import statistics
import tempfile
import time

import numpy as np
from absl import app, flags

from benchmarks.runtime import handover, library, litert_layer, turns

SHAPES = flags.DEFINE_list(
    "shapes", ["768x768", "768x3072", "3072x768"], "Inputs x outputs."
)
TOKENS = flags.DEFINE_multi_integer("tokens", [128], "Rows of the input.")
SPARSITY = flags.DEFINE_multi_float(
    "sparsity", [0.8, 0.85, 0.9], "Shares of zero weights."
)
PATTERN = flags.DEFINE_string(
    "pattern",
    "1x1",
    "Block of weights kept whole, outputs x inputs; or n:m, of which "
    "--sparsity is not used.",
)
KERNELS = flags.DEFINE_list(
    "kernels", None, "Names; by default all but plain C that hold the pattern."
)
NUM_THREADS = flags.DEFINE_integer("num_threads", 1, "Threads of both.")
THREADS = flags.DEFINE_integer(
    "threads",
    0,
    "If not 0, compares this many threads of a kernel to one of the same.",
)
ROUNDS = flags.DEFINE_integer("rounds", 25, "Times that engines take turns.")
PANELS = flags.DEFINE_bool("panels", False, "Panels in and out, not rows.")
COMPILER = flags.DEFINE_string("compiler", "", "C++ compiler of the library.")
LIBRARY = flags.DEFINE_string(
    "library", "", "A libtf_pof_kernels.so to time; by default one is built."
)
BESIDE_COMPILER = flags.DEFINE_string(
    "beside_compiler",
    "",
    "Another C++ compiler: its library and that of --compiler take turns, and "
    "kernels' times are printed by --compiler's.",
)


def make_mask(rng, outputs: int, inputs: int, sparsity: float, pattern: str):
    """[outputs, inputs] bool, true where a weight is kept."""
    if ":" in pattern:
        kept, group = (int(size) for size in pattern.split(":"))
        ranks = rng.random((outputs, inputs // group, group)).argsort(-1)
        return (ranks < kept).reshape(outputs, inputs)
    rows, columns = (int(size) for size in pattern.split("x"))
    keep = rng.random((outputs // rows, inputs // columns)) >= sparsity
    return np.kron(keep, np.ones((rows, columns), bool))


def make_layer(
    inputs: int, outputs: int, num_tokens: int, sparsity: float, pattern: str
):
    """Random weights of a pattern, bias, scales and input."""
    rng = np.random.default_rng(0)
    mask = make_mask(rng, outputs, inputs, sparsity, pattern)
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
    threads = max(NUM_THREADS.value, THREADS.value)
    clock = time.thread_time if threads == 1 else time.perf_counter
    start = clock()
    for _ in range(repeats):
        run()
    return (clock() - start) / repeats


def medians(runs: dict, pick=statistics.median) -> dict[str, float]:
    """Seconds of each, taking turns; each turn takes about a millisecond."""
    repeats = {name: 1 for name in runs}
    for name, run in runs.items():
        run()
        repeats[name] = max(1, int(0.001 / max(seconds(run, 2), 1e-7)))
    times = {name: [] for name in runs}
    for _ in range(ROUNDS.value):
        for name, run in runs.items():
            seconds(run, 2)
            times[name].append(seconds(run, repeats[name]))
    return {name: pick(values) for name, values in times.items()}


def compare(lib, pool, names, empty, shape, num_tokens, sparsity) -> str:
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


def compare_threads(
    lib, pool, names, empty, shape, num_tokens, sparsity
) -> str:
    """A row of the table of one kernel with one thread and with more."""
    inputs, outputs = (int(size) for size in shape.split("x"))
    *layer, data = make_layer(
        inputs, outputs, num_tokens, sparsity, PATTERN.value
    )
    kernels = {}
    for name in names:
        for threads, one_pool in ((1, None), (THREADS.value, pool)):
            kernels[name, threads] = library.KernelLayer(
                lib,
                *layer,
                num_tokens,
                kernel=None if name == "chosen" else name,
                pool=one_pool,
                num_threads=threads,
                layouts=(library.PANELS,) * 2 if PANELS.value else (0, 0),
            )
        if not np.array_equal(
            kernels[name, 1](data), kernels[name, THREADS.value](data)
        ):
            raise SystemExit(f"Threads change what {name} gives.")
    times = medians({key: kernel.run for key, kernel in kernels.items()}, min)
    times = {key: value - empty for key, value in times.items()}
    for kernel in kernels.values():
        kernel.close()
    cells = [
        f"{times[name, 1] * 1e6:.1f} us, "
        f"{times[name, 1] / times[name, THREADS.value]:.2f}x"
        for name in names
    ]
    return f"| {shape} | {num_tokens} | {sparsity:.0%} | " + " | ".join(cells)


def compare_compilers(libs, names, loop, shape, num_tokens, sparsity) -> str:
    """A row of the table of kernels by one compiler and by another.

    Of three places in memory, which alone can make 4 % of difference.
    """
    inputs, outputs = (int(size) for size in shape.split("x"))
    *layer, data = make_layer(
        inputs, outputs, num_tokens, sparsity, PATTERN.value
    )
    cells = []
    for name in names:
        times = []
        for _ in range(3):
            kernels = [
                library.KernelLayer(lib, *layer, num_tokens, kernel=name)
                for lib in libs
            ]
            if not np.array_equal(kernels[0](data), kernels[1](data)):
                raise SystemExit(f"Compilers change what {name} gives.")
            runs = [loop(*kernel.call) for kernel in kernels]
            times.append(turns.compare(*runs))
            for kernel in kernels:
                kernel.close()
        cells.append(turns.cell(times))
    return f"| {shape} | {num_tokens} | {sparsity:.0%} | " + " | ".join(cells)


def default_kernels(lib) -> list[str]:
    """All kernels but the plain C ones that can hold the pattern's weights."""
    names = [name for name in lib.kernels() if not name.endswith("scalar")]
    *layer, _ = make_layer(64, 64, 1, 0.5, PATTERN.value)
    found = []
    for name in names:
        try:
            library.KernelLayer(lib, *layer, 1, kernel=name).close()
        except ValueError:
            # Kernels of 2:4 hold two weights of each four, and no others.
            continue
        found.append(name)
    return found


def pinned_pool(lib, num_threads: int):
    """A pool whose threads keep off the caller's processor."""
    first, *others = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, others or {first})
    pool = lib.pool(num_threads)
    os.sched_setaffinity(0, {first})
    return pool


def call_costs(lib, pick=statistics.median) -> dict[str, float]:
    """Seconds of a call that computes next to nothing."""
    *layer, _ = make_layer(16, 16, 1, 0.5, "1x1")
    runs = {
        "LiteRT": litert_layer.LiteRtLayer(*layer, 1).run,
        "kernel": library.KernelLayer(lib, *layer, 1).run,
    }
    return medians(runs, pick)


def main(argv):
    del argv
    processors = os.sched_getaffinity(0)
    with tempfile.TemporaryDirectory() as folder:
        path = LIBRARY.value or library.build(folder, COMPILER.value)
        lib = library.Library(path)
        names = KERNELS.value or [*default_kernels(lib), "chosen"]
        if BESIDE_COMPILER.value:
            names = [name for name in names if name != "chosen"]
            heading = f"1 thread, and the time of {BESIDE_COMPILER.value}"
            other = library.build(f"{folder}/beside", BESIDE_COMPILER.value)
            libs = lib, library.Library(other)
            loop = turns.loop(folder)
            run = functools.partial(compare_compilers, libs, names, loop)
            columns = ["inputs x outputs", "tokens", "zeros"]
        elif THREADS.value:
            heading = f"1 thread, and {THREADS.value} are faster by"
            before = handover.nanoseconds()
            pool = pinned_pool(lib, THREADS.value)
            empty = call_costs(lib, min)["kernel"]
            run = functools.partial(compare_threads, lib, pool, names, empty)
            columns = ["inputs x outputs", "tokens", "zeros"]
        else:
            heading = f"{NUM_THREADS.value} thread(s)"
            pool = lib.pool(NUM_THREADS.value)
            empty = call_costs(lib)
            run = functools.partial(compare, lib, pool, names, empty)
            columns = ["inputs x outputs", "tokens", "zeros", "LiteRT, us"]
        print(f"{PATTERN.value} blocks, {heading}\n")
        print("| " + " | ".join([*columns, *names]) + " |")
        print("|---" * (len(columns) + len(names)) + "|")
        for shape in SHAPES.value:
            for num_tokens in TOKENS.value:
                for sparsity in SPARSITY.value:
                    print(run(shape, num_tokens, sparsity) + " |", flush=True)
        if THREADS.value:
            os.sched_setaffinity(0, processors)
            after = handover.nanoseconds()
            print(f"\nA cache line took {before:.0f} ns, then {after:.0f} ns.")


if __name__ == "__main__":
    app.run(main)
