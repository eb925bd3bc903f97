"""The runtimes of the conformance table, each in a process of its own.

What is no dependency of tf_pof is installed at first use, into a folder of its
own for each engine.
"""

import dataclasses
import json
import os
import pathlib
import shutil
import subprocess
import sys

from tf_pof.runtime import library

_HERE = pathlib.Path(__file__).parent
FOLDER = pathlib.Path("~/.cache/tf_pof/conformance").expanduser()
_SECONDS = 1800


class Missing(Exception):
    """The packages of an engine cannot be had here."""


@dataclasses.dataclass(frozen=True)
class Engine:
    """A runtime.

    Attributes:
        name: as the table shows it.
        script: beside this file; it takes the paths of model, inputs and
            outputs, and `options`.
        options: more arguments.
        requirements: beside this file: of pip's, or a package.json, or None
            for what tf_pof's own environment has.
        note: a remark for the table.
    """

    name: str
    script: str
    options: tuple[str, ...] = ()
    requirements: str | None = None
    note: str = ""

    def run(self, model: str, inputs: str, outputs: str) -> dict:
        """The contents of `outputs`, after a run.

        Raises:
            Missing: if its packages cannot be installed.
            RuntimeError: with what the engine says, if it fails.
        """
        command, folder = self.interpreter()
        script = str(_HERE / self.script)
        try:
            run = subprocess.run(
                [*command, script, model, inputs, outputs, *self.options],
                cwd=folder,
                env=self.environment(),
                capture_output=True,
                text=True,
                timeout=_SECONDS,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise RuntimeError(str(error)) from error
        if run.returncode:
            raise RuntimeError(_message(run))
        with open(outputs, encoding="utf-8") as file:
            return json.load(file)

    def environment(self):
        """That the script runs in."""
        found = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}
        if "delegate" not in self.options:
            return found
        try:
            return found | {library.VARIABLE: library.library_path()}
        except FileNotFoundError as error:
            raise Missing(str(error)) from error

    def interpreter(self):
        """Command and folder to run the script with."""
        if self.requirements is None:
            return [sys.executable], None
        source = _HERE / self.requirements
        if source.suffix == ".json":
            folder = FOLDER / "node"
            command = [shutil.which("node") or "node"]
            install = ["npm", "install", "--no-audit", "--no-fund"]
        else:
            folder = FOLDER / source.stem.removeprefix("requirements_")
            command = [str(folder / "bin" / "python")]
            install = [*command, "-m", "pip", "install", "-q", "-r", source]
        done = folder / "installed"
        if done.exists() and done.read_bytes() == source.read_bytes():
            return command, folder
        folder.mkdir(parents=True, exist_ok=True)
        if source.suffix == ".json":
            shutil.copy(source, folder)
        else:
            _install([sys.executable, "-m", "venv", folder], folder)
        _install(install, folder)
        # Last: it says that all is there.
        shutil.copy(source, done)
        return command, folder


def _install(command, folder):
    try:
        run = subprocess.run(
            command,
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Missing(str(error)) from error
    if run.returncode:
        raise Missing(_message(run))


def _message(run) -> str:
    """The line that says most, of what a process printed to die."""
    if run.returncode < 0:
        return f"killed by signal {-run.returncode}"
    lines = [line.strip() for line in run.stderr.splitlines() if line.strip()]
    # Not the lines of a stack.
    errors = [
        line
        for line in lines
        if not line.startswith("at ") and "Error" in line[:120]
    ]
    return (errors or lines or [f"exit code {run.returncode}"])[-1]


ENGINES = {
    "litert": Engine(
        "ai-edge-litert, XNNPACK",
        "interpreter_engine.py",
        ("ai-edge-litert", "xnnpack"),
    ),
    "litert_builtin": Engine(
        "ai-edge-litert, built-in kernels",
        "interpreter_engine.py",
        ("ai-edge-litert",),
    ),
    "tf_lite": Engine(
        "tf.lite, XNNPACK", "interpreter_engine.py", ("tf.lite", "xnnpack")
    ),
    "tf_lite_builtin": Engine(
        "tf.lite, built-in kernels", "interpreter_engine.py", ("tf.lite",)
    ),
    "tflite_runtime": Engine(
        "tflite-runtime, XNNPACK",
        "interpreter_engine.py",
        ("tflite-runtime", "xnnpack"),
        requirements="requirements_tflite_runtime.txt",
    ),
    **{
        name: Engine(
            f"{package}, tf_pof's delegate",
            "interpreter_engine.py",
            (package, "delegate"),
            requirements=requirements,
        )
        for name, package, requirements in (
            ("delegate", "ai-edge-litert", None),
            (
                "delegate_litert_2_2",
                "ai-edge-litert",
                "requirements_litert_2_2.txt",
            ),
            (
                "delegate_litert_2_1",
                "ai-edge-litert",
                "requirements_litert_2_1.txt",
            ),
            ("delegate_tf_lite", "tf.lite", None),
            (
                "delegate_tf_lite_2_20",
                "tf.lite",
                "requirements_tensorflow_2_20.txt",
            ),
        )
    },
    "openvino": Engine(
        "OpenVINO",
        "openvino_engine.py",
        requirements="requirements_openvino.txt",
    ),
    "onnx": Engine(
        "ONNX Runtime / tf2onnx",
        "onnx_engine.py",
        requirements="requirements_onnx.txt",
        note="tf2onnx taught GELU",
    ),
    "onnx_stock": Engine(
        "ONNX Runtime / tf2onnx as it comes",
        "onnx_engine.py",
        ("stock",),
        requirements="requirements_onnx.txt",
    ),
    "litertjs": Engine(
        "LiteRT.js in Node",
        "litertjs_engine.mjs",
        requirements="package.json",
    ),
}
