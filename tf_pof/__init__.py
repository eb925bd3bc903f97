"""Prune Once for All BERT in TensorFlow: small and fast on CPUs.

Importing the package makes legacy Keras active (TF-MOT needs it), and the
package's layers known to `keras.models.load_model`, but imports TensorFlow only
when a name below is first used.
"""

import importlib
import importlib.util
import os
import sys

_EXPORTS = {
    "BertConfig": "tf_pof.models.config",
    "Distiller": "tf_pof.distillation",
    "PruneOnceSchedule": "tf_pof.pruning.schedules",
    "build": "tf_pof.models.bert",
    "load": "tf_pof.quantization.saved",
    "lock": "tf_pof.pruning.lock",
    "prune": "tf_pof.pruning.wrapper",
    "quantize": "tf_pof.quantization",
    "save": "tf_pof.models.saving",
    "strip": "tf_pof.pruning.wrapper",
}
__all__ = sorted(_EXPORTS)
__version__ = "0.1.0"

if "tensorflow" in sys.modules:
    # Also checks: tf.keras may have been bound to Keras 3 already.
    importlib.import_module("tf_pof._keras")
elif os.environ.setdefault("TF_USE_LEGACY_KERAS", "1").lower() not in (
    "1",
    "true",
):
    raise ImportError(
        "tf_pof needs legacy Keras (tf-keras): set the environment variable "
        "TF_USE_LEGACY_KERAS=1, or leave it unset."
    )

# Keras finds our layers by it once it is imported, now or later. While a wheel
# is built, which imports this too, no requirement is there.
if importlib.util.find_spec("wrapt"):
    importlib.import_module("tf_pof._registry").install()


def __getattr__(name):
    if name not in _EXPORTS:
        raise AttributeError(f"module 'tf_pof' has no attribute {name!r}")
    return getattr(importlib.import_module(_EXPORTS[name]), name)


def __dir__():
    return sorted(set(globals()) | set(_EXPORTS))
