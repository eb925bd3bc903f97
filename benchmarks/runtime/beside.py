"""ONNX Runtime and OpenVINO beside: they take turns as sessions do.

Each runs the int8 .tflite with its zeros stored, as it converts or reads it;
models that its own tools quantize may be faster there. It has a process and an
environment of its own (those of benchmarks.conformance, installed at first
use), and waits for its turn without computing.
"""

import os
import pathlib
import subprocess

from benchmarks.conformance import engines
from tf_pof.runtime.session import Shape

NAMES = {"onnx": "ONNX Runtime", "openvino": "OpenVINO"}


class Beside:
    """As `tf_pof.runtime.session.Session`, to be timed by `medians`.

    Args:
        key: of NAMES.
        model: path of a .tflite with one signature, for one sequence.
        shape: of it.

    Raises:
        engines.Missing: if its packages cannot be installed.
        RuntimeError: if it does not compute the model.
    """

    def __init__(self, key: str, model: str, shape: Shape):
        self.name = NAMES[key]
        command, folder = engines.ENGINES[key].interpreter()
        script = pathlib.Path(__file__).with_name("beside_worker.py")
        arguments = [key, model, shape.sequence_length, shape.num_threads]
        self._process = subprocess.Popen(
            [*command, str(script), *map(str, arguments)],
            cwd=folder,
            env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        while (line := self._process.stdout.readline().strip()) != "ready":
            if not line and self._process.poll() is not None:
                raise RuntimeError(f"{self.name} does not compute {model}.")

    def seconds(self, calls: int) -> float:
        """Of a call, the mean of some."""
        self._process.stdin.write(f"{calls}\n")
        self._process.stdin.flush()
        return float(self._process.stdout.readline())

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait()
