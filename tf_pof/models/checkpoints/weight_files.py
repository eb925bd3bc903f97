"""Files of weights in a Hugging Face folder, as lists of their tensors."""

import contextlib
import lzma
import os
import tempfile

import numpy as np
import safetensors

from tf_pof import untrusted
from tf_pof.models.checkpoints import hdf5
from tf_pof.models.checkpoints import claims
from tf_pof.models.checkpoints import torch_zip

SAFETENSORS = "model.safetensors"
COMPACT = "model.safetensors.xz"
_INDEX = "model.safetensors.index.json"
_TORCH = "pytorch_model.bin"
_TORCH_INDEX = "pytorch_model.bin.index.json"
_KERAS = "tf_model.h5"
# In the order in which they are looked for.
NAMES = (SAFETENSORS, COMPACT, _INDEX, _KERAS, _TORCH, _TORCH_INDEX)
# Weights that are known and not read, and what to do with them.
_OTHERS = {
    "flax_model.msgpack": (
        "Flax weights alone",
        "load it with Hugging Face's transformers (from_flax=True) and call "
        "save_pretrained, which writes model.safetensors",
    ),
    "adapter_model.safetensors": (
        "an adapter alone",
        "merge it into its model with PEFT (merge_and_unload) and call "
        "save_pretrained",
    ),
    "model.onnx": ("ONNX weights alone", "take the folder it was made from"),
}
# Headers of safetensors are some 100 bytes a tensor.
_MAX_HEADER = 8 << 20
_MAX_SHARDS = 1_000
_DTYPES = {
    "F16": "float16",
    "BF16": "bfloat16",
    "F32": "float32",
    "F64": "float64",
}
# What xz's strongest setting needs is 65 MB.
_XZ_MEMORY = 128 << 20
_CHUNK = 1 << 20


class _Index(untrusted.Schema):
    """The index of weights in several files: the file of each tensor."""

    weight_map: dict[str, str]


def find(folder: str) -> str | None:
    """The name of the folder's weights that `tensors` reads, or None."""
    for name in NAMES:
        if os.path.lexists(os.path.join(folder, name)):
            return name
    return None


def tensors(
    folder: str, max_numbers: int, stack: contextlib.ExitStack
) -> tuple[str, dict[str, claims.Claim]]:
    """The path of a folder's weights, and their tensors by stored name.

    Args:
        folder: a Hugging Face folder.
        max_numbers: how many numbers the model can use; no compressed file is
            unpacked beyond them.
        stack: closes the files; the tensors are read before that.

    Raises:
        ValueError: in one sentence, if there are no weights or they are not
            what they should be.
        OSError: if they cannot be opened.
    """
    name = find(folder)
    if name is None:
        raise ValueError(_no_weights(folder))
    path = os.path.join(folder, name)
    if name == COMPACT:
        return path, _compact(path, max_numbers, stack)
    if name in (_INDEX, _TORCH_INDEX):
        reader = _safetensors if name == _INDEX else torch_zip.tensors
        return path, _sharded(folder, path, reader, stack)
    readers = {_KERAS: _keras, _TORCH: torch_zip.tensors}
    return path, readers.get(name, _safetensors)(path, stack)


def _no_weights(folder):
    for name, (what, way) in _OTHERS.items():
        if os.path.exists(os.path.join(folder, name)):
            return f"{folder} holds {what} ({name}): {way}."
    return (
        f"{folder} holds no weights: expected one of {', '.join(NAMES[:-1])} "
        f"or {NAMES[-1]}."
    )


def _safetensors(path, stack, source=None):
    source = source or path
    header = int.from_bytes(untrusted.first_bytes(path)[:8], "little")
    if header > _MAX_HEADER:
        raise ValueError(
            f"{source} is no safetensors file: its header claims {header:,} "
            "bytes."
        )
    found = {}
    with claims.reading(source):
        # The TensorFlow reader knows bfloat16, numpy's does not.
        file = stack.enter_context(safetensors.safe_open(path, framework="tf"))
        for name in file.keys():
            part = file.get_slice(name)
            dtype = part.get_dtype()
            found[name] = claims.Claim(
                source,
                name,
                tuple(part.get_shape()),
                _DTYPES.get(dtype, dtype),
                lambda name=name: file.get_tensor(name).numpy(),
            )
    return found


def _compact(path, max_numbers, stack):
    untrusted.first_bytes(path)
    # Eight bytes a number, and the header.
    limit = 8 * max_numbers + _MAX_HEADER
    # A file, because the reader of bytes does not know bfloat16.
    plain = stack.enter_context(
        tempfile.NamedTemporaryFile(suffix=".safetensors")
    )
    size = 0
    with claims.reading(path), open(path, "rb") as file:
        unpacker = lzma.LZMADecompressor(lzma.FORMAT_XZ, _XZ_MEMORY)
        while not unpacker.eof and size <= limit:
            packed = file.read(_CHUNK) if unpacker.needs_input else b""
            if unpacker.needs_input and not packed:
                raise EOFError("it is cut off")
            piece = unpacker.decompress(packed, _CHUNK)
            size += len(piece)
            plain.write(piece)
    if size > limit:
        raise ValueError(
            f"{path} unpacks to more than the {limit:,} bytes that the model "
            "of its configuration can have."
        )
    plain.flush()
    return _safetensors(plain.name, stack, path)


def _sharded(folder, path, reader, stack):
    index = untrusted.read_json(path, _Index).weight_map
    shards = sorted(set(index.values()))
    if len(shards) > _MAX_SHARDS or len(index) > claims.MAX_TENSORS:
        raise ValueError(
            f"{path} lists {len(index):,} tensors in {len(shards):,} files, "
            f"but can list {claims.MAX_TENSORS:,} in {_MAX_SHARDS:,}."
        )
    for shard in shards:
        if os.path.basename(shard) != shard or shard in ("", ".", ".."):
            raise ValueError(
                f"{path} names {shard!r}, which is no file of its folder."
            )
        if not os.path.exists(os.path.join(folder, shard)):
            raise ValueError(f"{path} names {shard!r}, which is missing.")
    opened = {
        shard: reader(os.path.join(folder, shard), stack) for shard in shards
    }
    found = {}
    for name, shard in index.items():
        if name not in opened[shard]:
            raise ValueError(
                f"{os.path.join(folder, shard)} lacks the tensor {name!r}, "
                f"which {path} says it holds."
            )
        found[name] = opened[shard][name]
    return found


def _keras(path, stack):
    """Tensors of a `TFBert*` or `TFDistilBert*` weights file.

    A dataset is called "<top layer>/<model>/<layer>/.../kernel:0", where
    "layer_._0" is list item 0 and kernels are [in, out].
    """
    found = {}
    for name, tensor in hdf5.tensors(path, stack).items():
        # Headless models have "bert/tf_bert_model/bert/...", others may put
        # their head's name, "mlm___cls", in place of "cls".
        top, *parts = name.partition(":")[0].split("/")[1:] or [""]
        if not parts:
            raise ValueError(
                f"{path} is no file of Hugging Face's TFBert classes: its "
                f"dataset {name!r} does not lie below a layer and a model."
            )
        for head in ("mlm___", "nsp___"):
            parts[0] = parts[0].removeprefix(head)
        values, shape = tensor.values, tensor.shape
        if parts[-1] == "kernel":
            shape, values = shape[::-1], _transposed(values)
        if parts[-1] in ("kernel", "embeddings"):
            parts[-1] = "weight"
        plain = ".".join(parts).replace("_._", ".")
        if plain in found:
            raise ValueError(f"{path} holds the tensor {plain!r} twice.")
        found[plain] = claims.Claim(
            path, name, shape, tensor.dtype, values
        )
    return found


def _transposed(values):
    return lambda: np.transpose(values())
