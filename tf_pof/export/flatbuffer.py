"""Reads and writes .tflite files as objects of ai-edge-litert's schema.

A file may have an archive behind the flatbuffer: the vocabulary and labels of
its metadata, where TFLite's metadata tools look for them. It is kept.
"""

import hashlib
import io
import zipfile

from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils
import flatbuffers
import numpy as np

_IDENTIFIER = b"TFL3"
# What the schema demands of the data of buffers. Python's packing code leaves
# it out, and unaligned tensors crash some processors and accelerators.
_DATA_ALIGNMENT = 16


def read(contents: bytes) -> schema.ModelT:
    """The model of a .tflite file; its buffers are views of `contents`.

    Raises:
        ValueError: if this is no .tflite file.
    """
    if contents[4:8] != _IDENTIFIER:
        raise ValueError("This is no .tflite file: its identifier is missing.")
    try:
        return flatbuffer_utils.read_model_from_bytearray(contents)
    except Exception as error:  # Generated code: offsets lead anywhere.
        raise ValueError(
            f"The .tflite file is corrupt and cannot be read: {error}."
        ) from error


def write(model: schema.ModelT, original: bytes = b"") -> bytes:
    """A .tflite file of a model, with its data aligned and shared.

    Args:
        model: as `read` gives it.
        original: the file it was read from, for the archive behind it.
    """
    builder = _SharingBuilder(1024)
    builder.Finish(model.Pack(builder), file_identifier=_IDENTIFIER)
    return with_archive(bytes(builder.Output()), original)


class _SharingBuilder(flatbuffers.Builder):
    """Aligns data, and writes equal arrays once.

    Scales of weights that several subgraphs use, and the 8 bytes of zero point
    of every output, are a tenth of a sparse model otherwise.
    """

    def __init__(self, size):
        super().__init__(size)
        self._arrays = {}

    def StartVector(self, elem_size, num_elems, alignment):
        if elem_size == 1:
            alignment = _DATA_ALIGNMENT
        return super().StartVector(elem_size, num_elems, alignment)

    def CreateNumpyVector(self, x):
        key = x.dtype.str, hashlib.sha256(np.ascontiguousarray(x)).digest()
        if key not in self._arrays:
            self._arrays[key] = super().CreateNumpyVector(x)
        return self._arrays[key]


def with_archive(contents: bytes, original: bytes) -> bytes:
    """Appends the archive that is behind `original`, if there is one."""
    if not zipfile.is_zipfile(io.BytesIO(original)):
        return contents
    result = io.BytesIO(contents)
    with (
        zipfile.ZipFile(io.BytesIO(original)) as source,
        zipfile.ZipFile(result, "a") as target,
    ):
        for entry in source.infolist():
            target.writestr(entry, source.read(entry))
    return result.getvalue()


def is_operator(
    model: schema.ModelT, operator: schema.OperatorT, builtin: int
) -> bool:
    """Whether an operator is that `schema.BuiltinOperator`."""
    code = model.operatorCodes[operator.opcodeIndex]
    found = flatbuffer_utils.get_builtin_code_from_operator_code(code)
    return found == builtin
