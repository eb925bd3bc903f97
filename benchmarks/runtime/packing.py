"""Times how weights are packed for kernels.

    python -m benchmarks.runtime.packing --kernels_packed=1x1_windows_avx512vbmi

Prints milliseconds of processor time on one thread, the least of several
turns, and bits that packed weights take for each that is not zero.
"""

import tempfile
import time

import numpy as np
from absl import app, flags

from benchmarks.runtime import kernels, library

KERNELS = flags.DEFINE_list("kernels_packed", ["1x1_windows_avx512vbmi"], "Kernels.")
ROUNDS = flags.DEFINE_integer("turns", 30, "Turns to take the least of.")


def pack(lib, layer, kernel: str) -> tuple[float, int]:
    """Milliseconds, and bytes of what is packed."""
    least = float("inf")
    for _ in range(ROUNDS.value):
        start = time.process_time()
        packed = library.KernelLayer(lib, *layer, 1, kernel=kernel)
        least = min(least, time.process_time() - start)
        size = packed.bytes
        packed.close()
    return least * 1e3, size


def main(argv):
    del argv
    with tempfile.TemporaryDirectory() as folder:
        path = kernels.LIBRARY.value or library.build(folder)
        lib = library.Library(path)
        columns = ["inputs x outputs", "zeros", *KERNELS.value]
        print("| " + " | ".join(columns) + " |")
        print("|---" * len(columns) + "|")
        for shape in kernels.SHAPES.value:
            for sparsity in kernels.SPARSITY.value:
                inputs, outputs = map(int, shape.split("x"))
                *layer, _ = kernels.make_layer(
                    inputs, outputs, 1, sparsity, kernels.PATTERN.value
                )
                cells = []
                for name in KERNELS.value:
                    milliseconds, size = pack(lib, layer, name)
                    bits = 8 * size / np.count_nonzero(layer[0])
                    cells.append(f"{milliseconds:.1f} ms, {bits:.1f} bits")
                print(f"| {shape} | {sparsity:.0%} | {' | '.join(cells)} |")


if __name__ == "__main__":
    app.run(main)
