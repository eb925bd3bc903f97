"""The one place where Keras comes from: tf-keras, which TF-MOT needs."""

import os

from tf_pof import quiet

_ADVICE = (
    "tf_pof needs legacy Keras (tf-keras), but Keras 3 is active: set the "
    "environment variable TF_USE_LEGACY_KERAS=1 before TensorFlow is imported, "
    "or import tf_pof first."
)


def activate() -> None:
    """Makes `tf.keras` mean tf-keras unless the user has said otherwise.

    TensorFlow reads the variable at the first touch of `tf.keras`.

    Raises:
        ImportError: if TF_USE_LEGACY_KERAS is set to a false value.
    """
    value = os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
    if value.lower() not in ("1", "true"):
        raise ImportError(_ADVICE)


def check(keras) -> None:
    """Raises ImportError if `keras`, a Keras module, is Keras 3."""
    if "tf_keras" not in keras.Model.__module__:
        raise ImportError(_ADVICE)


activate()

with quiet.quiet_import():
    import tensorflow as tf  # noqa: E402  (the variable must be set before)

keras = tf.keras
check(keras)
