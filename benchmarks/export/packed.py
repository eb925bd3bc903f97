"""Packed weights of BERT encoders: bits of a weight, sizes, decoding speed.

    python -m benchmarks.export.packed

Kernels are random: a truncated normal (BERT's initializer), pruned to the
sparsity, on an int8 grid for each output. "magnitude" keeps the largest
weights of each kernel, "random" any, whose values take more bits. The bound
is the entropy of places (zero or not) and values of each kernel. Ratios are to
the same kernels as float32 and as dense int8; biases and scales are not in it.
Decoding is done by the runtime's C++ on one core, built with -O2: processor
time for all kernels of the encoder, with checksum and tables, into dense rows
of a group at a time and into lists of nonzeros.
"""

import pathlib
import shutil
import subprocess
import tempfile
import time

from absl import app, flags
import numpy as np

from tf_pof.export.encodings import packed_encoder
from tf_pof.models import config

MODELS = flags.DEFINE_list(
    "models", "bert_base,bert_large,minilm_l6", "Encoders to pack."
)
SPARSITIES = flags.DEFINE_list("sparsities", "0.85,0.9", "Shares of zeros.")
KINDS = flags.DEFINE_list(
    "kinds", "magnitude,random", "What is kept: magnitude, random."
)
REPEATS = flags.DEFINE_integer("repeats", 5, "Decodings; the median counts.")
ROOT = pathlib.Path(__file__).parents[2]


def shapes(model: str) -> list[tuple[int, int]]:
    """[out, in] of every pruned kernel."""
    sizes = config.BertConfig.preset(model)
    hidden, inner = sizes.hidden_dim, sizes.intermediate_dim
    layer = [(hidden, hidden)] * 4 + [(inner, hidden), (hidden, inner)]
    return layer * sizes.num_layers + [(hidden, hidden)]


def kernel(random, shape, sparsity, kind) -> np.ndarray:
    """int8 [out, in]."""
    weights = random.standard_normal(shape, np.float32)
    while (over := np.abs(weights) > 2).any():
        weights[over] = random.standard_normal(over.sum(), np.float32)
    if kind == "magnitude":
        scores = np.abs(weights)
    else:
        scores = random.random(shape, np.float32)
    pruned = int(sparsity * weights.size)
    weights[scores < np.partition(scores.reshape(-1), pruned)[pruned]] = 0
    scale = np.abs(weights).max(1, keepdims=True) / 127
    return np.round(weights / np.where(scale, scale, 1)).astype(np.int8)


def entropy(counts: np.ndarray) -> float:
    """Bits of symbols with these counts, ideally coded."""
    counts = counts[counts > 0].astype(np.float64)
    return float((counts * np.log2(counts.sum() / counts)).sum())


def bound(weights: np.ndarray) -> float:
    """Bits that places and values take at least."""
    values = weights[weights != 0]
    places = np.array([values.size, weights.size - values.size])
    return entropy(places) + entropy(np.bincount(values.view(np.uint8)))


def build(folder: pathlib.Path) -> pathlib.Path | None:
    """The program that times decoding, if there is a compiler."""
    compiler = shutil.which("c++") or shutil.which("g++")
    if compiler is None:
        return None
    runtime = ROOT / "tf_pof" / "runtime" / "cc"
    program = folder / "decode_speed"
    subprocess.run(
        [
            compiler,
            "-std=c++17",
            "-O2",
            "-fno-exceptions",
            "-fno-rtti",
            f"-I{runtime}",
            ROOT / "benchmarks" / "export" / "decode_speed.cc",
            runtime / "crc32.cc",
            runtime / "packed_weights.cc",
            "-o",
            program,
        ],
        check=True,
    )
    return program


def measure(model, sparsity, kind, program, folder) -> str:
    """A row of the table."""
    random = np.random.default_rng(0)
    weights, least, seconds, files = 0, 0.0, 0.0, []
    for i, shape in enumerate(shapes(model)):
        matrix = kernel(random, shape, sparsity, kind)
        weights += matrix.size
        least += bound(matrix)
        start = time.process_time()
        packed = packed_encoder.encode(matrix)
        seconds += time.process_time() - start
        files.append(folder / f"{i}.packed")
        files[-1].write_bytes(packed)
    size = sum(file.stat().st_size for file in files)
    bits = 8 * size / weights
    speeds = ["no compiler"] * 2
    if program is not None:
        run = subprocess.run(
            [program, str(REPEATS.value), *files],
            check=True,
            capture_output=True,
            text=True,
        )
        speeds = [
            f"{weights / 1e9 / float(line):.2f}" for line in run.stdout.split()
        ]
    return (
        f"| {model} | {sparsity:.0%} | {kind} | {weights / 1e6:.1f} M "
        f"| {size / 1e6:.2f} MB | {bits:.3f} | {least / weights:.3f} "
        f"| {32 / bits:.1f}x | {8 / bits:.1f}x | {seconds:.0f} s "
        f"| {speeds[0]} | {speeds[1]} |"
    )


def main(argv):
    del argv
    print(
        "| encoder | zeros | kept by | weights | packed | bits/weight | bound "
        "| to float32 | to int8 | packing | decoding, rows, 1e9 weights/s "
        "| lists |"
    )
    print("|" + "---|" * 12)
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        program = build(folder)
        for model in MODELS.value:
            for sparsity in map(float, SPARSITIES.value):
                for kind in KINDS.value:
                    row = measure(model, sparsity, kind, program, folder)
                    print(row, flush=True)


if __name__ == "__main__":
    app.run(main)
