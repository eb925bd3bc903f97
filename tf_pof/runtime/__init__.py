"""Runs .tflite files of bin/export_tflite, sparse layers as such.

Nothing is imported until a name below is first used: setup.py builds the
library with what is in this folder.
"""

import importlib

_EXPORTS = {
    "Interpreter": "tf_pof.runtime.interpreter",
    "QuestionAnswerer": "tf_pof.runtime.text",
    "TextClassifier": "tf_pof.runtime.text",
    "delegate": "tf_pof.runtime.library",
    "library_path": "tf_pof.runtime.library",
}
__all__ = sorted(_EXPORTS)


def __getattr__(name):
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_EXPORTS[name]), name)


def __dir__():
    return sorted(set(globals()) | set(_EXPORTS))
