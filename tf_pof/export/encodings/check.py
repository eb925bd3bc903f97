"""Holds an encoded file to the dense one that was compared with the model.

A runtime without our delegate cannot run packed weights, so that a file is
decoded again, by other code than encoded it: if that gives every integer and
every operator of the dense file, both compute the same.
"""

from ai_edge_litert.tools import flatbuffer_utils
import numpy as np

from tf_pof.export import flatbuffer
from tf_pof.export.encodings import packed, tflite_1x16


def check(dense: bytes, encoded: bytes) -> None:
    """Raises ValueError unless a file decodes to the dense one.

    That is: equal signatures and subgraphs, with operators of the same kind
    and options, and tensors of the same types, shapes, scales and data.
    Metadata may differ, and versions of operators.

    Args:
        dense: a .tflite file with dense weights.
        encoded: as `encodings.apply` makes it, perhaps with metadata.
    """
    expected, found = flatbuffer.read(dense), flatbuffer.read(encoded)
    try:
        packed.decode(found)
        tflite_1x16.decode(found)
    except ValueError as error:
        _refuse(str(error).rstrip("."))
    if not _same(expected.signatureDefs, found.signatureDefs):
        _refuse("it has other signatures")
    if len(expected.subgraphs) != len(found.subgraphs):
        _refuse("it has another number of subgraphs")
    for ours, theirs in zip(expected.subgraphs, found.subgraphs):
        _check_tensors(expected, ours, found, theirs)
        kinds = [_kinds(expected, ours), _kinds(found, theirs)]
        if kinds[0] != kinds[1] or not _same(
            ours, theirs, {"tensors", "opcodeIndex"}
        ):
            _refuse("it has other operators")


def _refuse(problem):
    raise ValueError(
        "The encoded file does not decode to the one that was compared with "
        f"the model: {problem}; please report it, and use --encoding=dense."
    )


def _check_tensors(expected, ours, found, theirs):
    if len(ours.tensors) != len(theirs.tensors):
        _refuse("it has another number of tensors")
    for a, b in zip(ours.tensors, theirs.tensors):
        data = (
            expected.buffers[a.buffer].data,
            found.buffers[b.buffer].data,
        )
        if not _same(*data) or not _same(a, b, {"buffer"}):
            name = (a.name or b"").decode(errors="replace")
            _refuse(f"{name} differs")


def _kinds(model, subgraph):
    """Builtin and custom code of each operator."""
    codes = [model.operatorCodes[x.opcodeIndex] for x in subgraph.operators]
    return [
        (flatbuffer_utils.get_builtin_code_from_operator_code(x), x.customCode)
        for x in codes
    ]


def _same(a, b, ignored=frozenset()) -> bool:
    """Whether two objects of the schema are equal but for some fields."""
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return a.dtype == b.dtype and np.array_equal(a, b)
    if type(a) is not type(b):
        return False
    if isinstance(a, list):
        return len(a) == len(b) and all(
            _same(x, y, ignored) for x, y in zip(a, b)
        )
    if hasattr(a, "__dict__"):
        return all(
            _same(value, getattr(b, name), ignored)
            for name, value in vars(a).items()
            if name not in ignored
        )
    return a == b
