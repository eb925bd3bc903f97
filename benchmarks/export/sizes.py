"""What bin/export_tflite makes of random BERTs: sizes, time and memory.

    python -m benchmarks.export.sizes --folder=FOLDER > sizes.md

Models are those of `benchmarks.random_models`: magnitude-pruned to the
sparsity in single weights, and in 1x16 blocks for tflite_1x16. Each export is
a process of its own, whose time and memory the operating system counts. Kill
it at will: the same command goes on with the rows that FOLDER lacks.
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import time

from absl import app, flags

MODELS = flags.DEFINE_list(
    "models", "minilm_l6,bert_base,bert_large", "Models to export."
)
SPARSITIES = flags.DEFINE_list("sparsities", "0.85,0.9", "Shares of zeros.")
ENCODINGS = flags.DEFINE_list(
    "encodings", "dense,packed,tflite_1x16", "Encodings to export in."
)
FOLDER = flags.DEFINE_string(
    "folder", None, "For the rows, and the models while they are needed."
)
SHOW = flags.DEFINE_bool(
    "show", False, "Exports nothing: only shows the rows that FOLDER has."
)
ROOT = pathlib.Path(__file__).parents[2]
_PATTERNS = {"tflite_1x16": "1x16"}
_BUILD = """
import sys
import tf_pof
from benchmarks import random_models
from tf_pof.data import sample
name, sparsity, pattern, folder = sys.argv[1:]
model = random_models.quantized(name, float(sparsity), pattern)
tf_pof.save(model, folder, vocab_file=sample.vocab_path())
"""
_EXPLAINED = """\
# Sizes of random BERT models

Printed by `python -m benchmarks.export.sizes`: random weights, pruned by
magnitude to the sparsity in single weights (tflite_1x16: in blocks of 1 x 16),
with a head of two labels and BERT's vocabulary of 30,522 words.

MB are 10^6 bytes; zipped is deflate at level 9. Bits per weight are of kernels
with all indices and code tables; the ratios to float32 and to dense int8 count
biases and scales too, as `tf_pof/export/size.py` says. "paper" is the paper's
own count: nonzero int8 weights against all float32 ones, no indices. Seconds
and memory are those of one `bin/export_tflite --noparity
--sequence_lengths=128`, from the start of its process to the end; seconds are
the processor's, of all threads, since the machine was shared. Of those of a
dense file most go into zipping it, to report its size.
"""


def run(command) -> dict:
    """Runs a process; its cost.

    Raises:
        SystemExit: with what it printed, if it fails.
    """
    began = time.monotonic()
    process = subprocess.Popen(
        list(map(str, command)),
        cwd=ROOT,
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    printed = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(printed)
    return {
        "seconds": time.monotonic() - began,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        # Linux counts KiB, macOS bytes.
        "peak_bytes": usage.ru_maxrss
        * (1 if sys.platform == "darwin" else 1024),
    }


def row(folder, name, sparsity, encoding) -> dict | None:
    """A row of the tables, of `folder` if it has it; None if it may not."""
    pattern = _PATTERNS.get(encoding, "1x1")
    model = folder / f"{name}_{sparsity}_{pattern}"
    path = folder / f"{model.name}_{encoding}.json"
    if path.exists():
        return json.loads(path.read_text(encoding="utf-8"))
    if SHOW.value:
        return None
    if not (model / "config.json").exists():
        print(f"Making {model.name}.", file=sys.stderr)
        run([sys.executable, "-c", _BUILD, name, sparsity, pattern, model])
    print(f"Exporting {model.name} as {encoding}.", file=sys.stderr)
    file, report = folder / "model.tflite", folder / "report.json"
    cost = run(
        [
            *(sys.executable, "-m", "tf_pof.cli.export_tflite"),
            *(f"--model={model}", f"--output={file}", f"--report={report}"),
            *(f"--encoding={encoding}", "--sequence_lengths=128", "--noparity"),
        ]
    )
    size = json.loads(report.read_text(encoding="utf-8"))["size"]
    del size["tensors"]
    found = {
        "model": name,
        "sparsity": float(sparsity),
        "encoding": encoding,
        "size": size,
        **cost,
    }
    file.unlink()
    report.rename(path)
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return found


def encoder_cells(found) -> list[str]:
    part = found["size"]["encoder"]
    return [
        f"{part['weights'] / 1e6:.1f} M",
        f"{part['zeros'] / part['weights']:.1%}",
        *_bytes(part),
        f"{part['bits_per_weight']:.3f}",
        *_ratios(part),
        f"{found['size']['paper_ratio']:.1f}x",
    ]


def file_cells(found) -> list[str]:
    return [
        *_bytes(found["size"]["file"]),
        *_ratios(found["size"]["file"]),
        f"{found['cpu_seconds']:.0f} s",
        f"{found['peak_bytes'] / 2**30:.1f} GiB",
    ]


def _bytes(part) -> list[str]:
    return [f"{part[x] / 1e6:.2f} MB" for x in ("bytes", "zipped_bytes")]


def _ratios(part) -> list[str]:
    return [f"{part[f'ratio_to_{x}']:.1f}x" for x in ("float32", "int8")]


def table(headings, rows, cells) -> str:
    """Markdown of one line for each of `rows`."""
    lines = [["model", "pruned to", "encoding", *headings]]
    lines.append(["---"] * len(lines[0]))
    for found in rows:
        names = [found["model"], f"{found['sparsity']:.0%}", found["encoding"]]
        lines.append(names + cells(found))
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def main(argv):
    del argv
    folder = pathlib.Path(FOLDER.value).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for name in MODELS.value:
        for sparsity in SPARSITIES.value:
            for encoding in ENCODINGS.value:
                rows.append(row(folder, name, sparsity, encoding))
            for model in folder.glob(f"{name}_{sparsity}_*/"):
                shutil.rmtree(model)
    rows = [found for found in rows if found is not None]
    print(_EXPLAINED)
    print("## Encoder\n")
    sizes = ["raw", "zipped"]
    ratios = ["to float32", "to int8"]
    headings = ["weights", "zeros", *sizes, "bits/weight", *ratios, "paper"]
    print(table(headings, rows, encoder_cells))
    print("## File, and its export\n")
    headings = [*sizes, *ratios, "processor", "memory"]
    print(table(headings, rows, file_cells), end="")


if __name__ == "__main__":
    flags.mark_flag_as_required("folder")
    app.run(main)
