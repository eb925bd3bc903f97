"""Runs .tflite files under emulation; needs LiteRT and numpy alone.

    python arm64_worker.py FOLDER LIBRARY [KEY=VALUE ..]

Runs the signatures of every model in FOLDER on the inputs of
<model>.<signature>.inputs.npz: by LiteRT alone unless weights are packed, and
under the delegate with the options given, once for each set of instructions
that it takes. Outputs go to <model>.<signature>.<litert or instructions>.npz.
"""

import pathlib
import sys

from ai_edge_litert import interpreter as litert
import numpy as np

ISAS = ("i8mm", "neondot", "neon", "scalar")


def run(path, name, delegates):
    interpreter = litert.Interpreter(
        model_path=str(path), experimental_delegates=delegates
    )
    for signature in interpreter.get_signature_list():
        stem = f"{path.stem}.{signature}"
        with np.load(path.with_name(f"{stem}.inputs.npz")) as inputs:
            outputs = interpreter.get_signature_runner(signature)(**inputs)
        np.savez(path.with_name(f"{stem}.{name}.npz"), **outputs)


def main(folder, library, *options):
    options = dict(option.split("=") for option in options)
    for path in sorted(pathlib.Path(folder).glob("*.tflite")):
        if not path.stem.endswith("packed"):
            run(path, "litert", None)
        for isa in ISAS:
            settings = {**options, "isa": isa}
            try:
                delegate = litert.load_delegate(library, settings)
            except ValueError:
                continue  # not this processor's
            run(path, isa, [delegate])


if __name__ == "__main__":
    main(*sys.argv[1:])
