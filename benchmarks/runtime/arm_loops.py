"""What the inner loops of the Arm kernels cost, by models of processors.

    python -m benchmarks.runtime.arm_loops

Compiles the kernels for Arm as the build does, and gives each inner loop to
llvm-mca: cycles of an iteration when all data are in the L1 cache, and the
share of zeros from which on a sparse kernel's loop takes fewer cycles than the
best dense one's of the processor. Timing under emulation would tell nothing;
neither does this of caches and memory.
"""

import json
import pathlib
import re
import shlex
import subprocess
import tempfile

from absl import app, flags

from tf_pof.runtime import build

MCA = flags.DEFINE_string("mca", "llvm-mca", "LLVM's machine code analyzer.")
CLANG = flags.DEFINE_string(
    "clang", "", "Clang to compile with instead of gcc, as for Android."
)

# Cortex-A76 is the core of Neoverse N1, which LLVM has a model of.
PROCESSORS = {
    "neon": ("cortex-a53", "cortex-a72"),
    "neondot": ("cortex-a55", "neoverse-n1", "neoverse-n2"),
    "i8mm": ("neoverse-n2",),
}
# Products of an instruction.
PRODUCTS = {"sdot": 16, "smmla": 32} | dict.fromkeys(
    ("smull", "smull2", "smlal", "smlal2"), 8
)
# Products of an iteration tell the loops of a file apart: tokens x outputs x
# inputs.
LOOPS = {
    ("1x1_interleave", "neon"): (32, 1, 4),
    ("4x1_interleave", "neon"): (16, 4, 4),
    ("16x4_tiles", "neon"): (2, 16, 8),
    ("1x1_interleave", "neondot"): (32, 1, 4),
    ("4x1_interleave", "neondot"): (16, 4, 4),
    ("16x4_tiles", "neondot"): (4, 16, 4),
    ("16x8_tiles", "i8mm"): (4, 16, 8),
}
_LABEL = re.compile(r"^(\.L\w+):")
_BRANCH = re.compile(r"^\s+(?:b\.?\w*|cbn?z|tbn?z)\s.*?(\.L\w+)$")


def compile_all(folder: pathlib.Path) -> dict[str, str]:
    """Assembly of every source of the kernels by its stem."""
    subprocess.run(
        [
            *("cmake", "-S", build.SOURCES, "-B", folder),
            "-DCMAKE_TOOLCHAIN_FILE=cmake/aarch64-linux-gnu.cmake",
            "-DCMAKE_EXPORT_COMPILE_COMMANDS=ON",
            "-DTF_POF_TESTS=OFF",
        ],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    found = {}
    for entry in json.loads((folder / "compile_commands.json").read_text()):
        stem = pathlib.Path(entry["file"]).stem
        command = shlex.split(entry["command"])
        command[command.index("-o") + 1] = "-"
        command[command.index("-c")] = "-S"
        if CLANG.value:
            command[:1] = [CLANG.value, "--target=aarch64-linux-gnu"]
        if stem.startswith(("interleave_", "tiles_")):
            found[stem] = subprocess.run(
                command, check=True, stdout=subprocess.PIPE, text=True
            ).stdout
    return found


def loops(assembly: str):
    """The instructions of every loop, as a list of lines each."""
    lines = [x for x in assembly.splitlines() if x.strip()]
    labels = {}
    for at, line in enumerate(lines):
        if label := _LABEL.match(line):
            labels[label[1]] = at
        branch = _BRANCH.match(line)
        if branch and branch[1] in labels:
            body = lines[labels[branch[1]] + 1 : at + 1]
            yield [x for x in body if re.match(r"\s+[a-z]", x)]


def products(body) -> int:
    return sum(PRODUCTS.get(line.split()[0], 0) for line in body)


def cycles(body, processor: str) -> float:
    """Of an iteration."""
    iterations = 1000
    said = subprocess.run(
        [
            *(MCA.value, "-mtriple=aarch64-linux-gnu", f"-mcpu={processor}"),
            f"-iterations={iterations}",
        ],
        input="\n".join(body),
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return int(re.search(r"Total Cycles:\s+(\d+)", said)[1]) / iterations


def main(argv):
    del argv
    with tempfile.TemporaryDirectory() as folder:
        assembly = compile_all(pathlib.Path(folder))
    rates, rows = {}, []
    for (name, isa), shape in LOOPS.items():
        source = f"{name.split('_')[1]}_{isa}"
        wanted = shape[0] * shape[1] * shape[2]
        # The innermost has nothing else.
        body = min(
            (x for x in loops(assembly[source]) if products(x) == wanted),
            key=len,
        )
        for processor in PROCESSORS[isa]:
            time = cycles(body, processor)
            rates[name, processor] = wanted / time
            cells = f"{name}_{isa}", " x ".join(map(str, shape)), len(body)
            rows.append((*cells, processor, f"{time:.1f}"))
    print(
        "| kernel | tokens x outputs x inputs | instructions | processor "
        "| cycles | products a cycle | faster than dense from zeros |"
    )
    print("|---" * 7 + "|")
    for row in rows:
        name, processor = row[0].rpartition("_")[0], row[3]
        rate = rates[name, processor]
        dense = max(
            rates.get((x, processor), 0) for x, _ in LOOPS if "tiles" in x
        )
        zeros = "" if "tiles" in name else f"{1 - rate / dense:.0%}"
        cells = *row, f"{rate:.1f}", zeros
        print("| " + " | ".join(map(str, cells)) + " |")


if __name__ == "__main__":
    app.run(main)
