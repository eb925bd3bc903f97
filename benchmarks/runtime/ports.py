"""Cycles of the kernels' instructions alone and together: what bounds them.

    python -m benchmarks.runtime.ports

Needs gcc and an x86 processor with AVX512-VNNI and VBMI. A loop has 16 of each
instruction in turns, without a dependency between them; the fewest cycles of
many runs are printed, by a chain of additions of one cycle each. Instructions
that use the same vector pipes add up, others run side by side: a full pipe
takes one a cycle.
"""

import pathlib
import subprocess
import tempfile

from absl import app

# Destinations {d} go round, loads read {o} bytes from the buffer on.
INSTRUCTIONS = {
    "vpdpbusd": "vpdpbusd %zmm30, %zmm31, %zmm{d}",
    "vpermb": "vpermb %zmm30, %zmm31, %zmm{d}",
    "vpermb of memory": "vpermb {o}(%rsi,%rbx), %zmm31, %zmm{d}",
    "vpshufb": "vpshufb %zmm30, %zmm31, %zmm{d}",
    "vpermi2b of memory": "vpermi2b {o}(%rsi,%rbx), %zmm31, %zmm{d}",
    "vpmultishiftqb": "vpmultishiftqb %zmm30, %zmm31, %zmm{d}",
    "vpexpandb": "vpexpandb %zmm31, %zmm{d}%{{%k1%}}%{{z%}}",
    "vpunpcklbw": "vpunpcklbw %zmm30, %zmm31, %zmm{d}",
    "vpsrlvw": "vpsrlvw %zmm30, %zmm31, %zmm{d}",
    "vcvtdq2ps": "vcvtdq2ps %zmm31, %zmm{d}",
    "vmulps": "vmulps %zmm30, %zmm31, %zmm{d}",
    "vpackssdw": "vpackssdw %zmm30, %zmm31, %zmm{d}",
    "load": "vmovdqa64 {o}(%rsi,%rbx), %zmm{d}",
    "store": "vmovdqa64 %zmm31, {o}(%rsi,%rbx)",
}
COUNT = 16
HEADER = """
#include <stdint.h>
#include <stdio.h>
#include <time.h>
static char buffer[8192] __attribute__((aligned(64)));
static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec * 1e-9;
}
static double fewest(void (*run)(uint64_t), uint64_t rounds) {
  double best = 1e9;
  for (int i = 0; i < 40; ++i) {
    double start = now();
    run(rounds);
    double seconds = (now() - start) / rounds;
    if (seconds < best) best = seconds;
  }
  return best;
}
"""


def loop(name: str, body: list[str]) -> str:
    """A C function that runs instructions so many times."""
    text = "\n".join(f'"{line}\\n\\t"' for line in body)
    text = text.replace("%zmm", "%%zmm").replace("%k1", "%%k1")
    text = text.replace("%rsi", "%%rsi").replace("%rbx", "%%rbx")
    text = text.replace("%rax", "%%rax")
    return (
        f"static void {name}(uint64_t n) {{\n"
        'asm volatile("mov $-1, %%rax\\n\\tkmovq %%rax, %%k1\\n1:\\n\\t"\n'
        f'{text}\n"dec %0\\n\\tjnz 1b"\n'
        ': "+r"(n) : "S"(buffer), "b"(0) : "rax", "memory");\n}\n'
    )


def mixed(*names: str) -> list[str]:
    """16 of each instruction, in turns."""
    body = []
    for i in range(COUNT):
        for place, name in enumerate(names):
            # Dot products add to what is there: enough sums to go round.
            others = 14 + (i * (len(names) - 1) + place) % 12
            number = others if place else i % 14
            body.append(
                INSTRUCTIONS[name].format(d=number, o=64 * (len(body) % 32))
            )
    return body


def main(argv):
    del argv
    others = [name for name in INSTRUCTIONS if name != "vpdpbusd"]
    mixes = [("vpdpbusd",)]
    for name in others:
        mixes += [(name,), ("vpdpbusd", name), ("vpdpbusd", "vpermb", name)]
    code = HEADER + loop("clock_", ["add $1, %rax"] * 100)
    code += "".join(loop(f"m{i}", mixed(*m)) for i, m in enumerate(mixes))
    calls = "".join(
        f'printf("%.1f\\n", fewest(m{i}, 4000) / cycle);\n'
        for i in range(len(mixes))
    )
    code += (
        "int main(void) {\ndouble cycle = fewest(clock_, 4000) / 100;\n"
        f"{calls}return 0;\n}}\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        source, program = (pathlib.Path(folder) / n for n in ("a.c", "a"))
        source.write_text(code)
        subprocess.run(["gcc", "-O1", "-o", program, source], check=True)
        printed = subprocess.run(
            [program], check=True, capture_output=True, text=True
        ).stdout
    cycles = dict(zip(mixes, printed.split()))
    print(f"vpdpbusd alone: {cycles[('vpdpbusd',)]} cycles for {COUNT}\n")
    print("| 16 of | alone | and 16 vpdpbusd | and 16 vpermb besides |")
    print("|---" * 4 + "|")
    for name in others:
        row = (name,), ("vpdpbusd", name), ("vpdpbusd", "vpermb", name)
        print(f"| {name} | {' | '.join(cycles[mix] for mix in row)} |")


if __name__ == "__main__":
    app.run(main)
