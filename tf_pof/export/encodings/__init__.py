"""How a .tflite file stores weights that are mostly zeros.

dense: as int8, zeros included; every runtime reads it.
tflite_1x16: TFLite's own sparse tensors, for zeros in blocks of 1 x 16.
packed: our own compact form, for the tf_pof delegate.
"""

from tf_pof.export.encodings import packed, tflite_1x16
from tf_pof.export.encodings.check import check

__all__ = ["NAMES", "STOCK", "apply", "check"]

_ENCODINGS = {
    "dense": lambda contents: contents,
    "tflite_1x16": tflite_1x16.encode,
    "packed": packed.pack,
}
NAMES = tuple(_ENCODINGS)
# Those that LiteRT computes by itself.
STOCK = ("dense", "tflite_1x16")


def apply(name: str, model: bytes) -> bytes:
    """Encodes the weights of a model.

    Args:
        name: one of NAMES.
        model: a .tflite file with dense int8 weights.

    Raises:
        ValueError: if there is no encoding of that name, or it does not suit
            the model's weights.
    """
    if name not in _ENCODINGS:
        raise ValueError(
            f"{name!r} is no encoding: use one of {', '.join(NAMES)}."
        )
    return _ENCODINGS[name](model)
