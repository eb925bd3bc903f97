"""pytorch_model.bin, read without PyTorch and without running its pickle.

Since 1.6 (2020) `torch.save` writes a ZIP archive of stored members: data.pkl,
which describes the tensors (see `state_pickle`), and data/0, data/1, ... with
their numbers.
"""

import contextlib
import functools
import io
import math
import os
import zipfile

import numpy as np
import tensorflow as tf

from tf_pof import untrusted
from tf_pof.models.checkpoints import state_pickle
from tf_pof.models.checkpoints import claims
from tf_pof.models.checkpoints.state_pickle import Refused

_ZIP = b"PK\x03\x04"
# How torch.save before 1.6 began: a magic number as a pickle.
_LEGACY = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9"
# The central directory of 16,384 members, and data.pkl of as many tensors.
_MAX_DIRECTORY = 4 << 20
_MAX_PICKLE = 8 << 20
_MAX_MEMBERS = claims.MAX_TENSORS + 64
_MAX_AXES = 8
# Flags of a member: encrypted, strongly encrypted, its header masked.
_ENCRYPTED = 0x1 | 0x40 | 0x2000
# Numbers of storages that no tensor uses, beside those that one does.
_SLACK = 1 << 20
CONVERT = (
    "load it with Hugging Face's transformers and call save_pretrained, which "
    "writes model.safetensors"
)


class _Guarded(io.FileIO):
    """A file of which nobody reads a huge directory at once."""

    def read(self, size=-1):
        if size is not None and size > _MAX_DIRECTORY:
            raise ValueError("its directory is too large")
        return super().read(size)


def tensors(
    path: str, stack: contextlib.ExitStack
) -> dict[str, claims.Claim]:
    """The tensors of a PyTorch file that holds a state dict.

    Args:
        path: of the file.
        stack: closes the file; the tensors are read before that.

    Raises:
        ValueError: in one sentence, with the way to convert the file, if it is
            of another kind, damaged, or asks for anything but tensors.
        OSError: if there is no such file.
    """
    start = untrusted.first_bytes(path)
    if start.startswith(_LEGACY):
        raise ValueError(
            f"{path} is of the kind that PyTorch wrote before 1.6: {CONVERT}."
        )
    if not start.startswith(_ZIP):
        raise ValueError(f"{path} is no PyTorch file: {CONVERT}.")
    with claims.reading(path):
        archive = stack.enter_context(
            zipfile.ZipFile(stack.enter_context(_Guarded(path)))
        )
    try:
        return _tensors(path, archive)
    except Refused as error:
        raise ValueError(
            f"{path} {error}, so it is not read: {CONVERT}."
        ) from None


def _tensors(path, archive):
    members = _members(archive, os.path.getsize(path))
    pickles = [n for n in members if n.count("/") == 1]
    pickles = [n for n in pickles if n.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise Refused("has no data.pkl")
    folder = pickles[0].removesuffix("data.pkl")
    if members[pickles[0]].file_size > _MAX_PICKLE:
        raise Refused("has a data.pkl that is too large")
    order = members.get(f"{folder}byteorder")
    if order is not None and order.file_size > 16:
        raise Refused("has no order of its bytes")
    with claims.reading(path):
        contents = archive.read(pickles[0])
        order = b"little" if order is None else archive.read(order)
    if order != b"little":
        raise Refused("has its bytes in another order")
    views = state_pickle.read(contents)
    for name, view in views.items():
        member = members.get(f"{folder}data/{view.storage.key}")
        _require_inside(name[:80], view, member)
    _require_used(views)

    @functools.cache
    def numbers(key):
        return archive.read(f"{folder}data/{key}")

    return {
        name: claims.Claim(
            path,
            name,
            view.shape,
            view.storage.dtype,
            functools.partial(_values, view, numbers),
        )
        for name, view in views.items()
    }


def _members(archive, size):
    """Members by name, all of them stored, in the clear and in the file."""
    entries = archive.infolist()
    members = {entry.filename: entry for entry in entries}
    if len(entries) > _MAX_MEMBERS:
        raise Refused(f"has {len(entries):,} members")
    if any(name.endswith("/constants.pkl") for name in members):
        raise Refused("is a TorchScript program")
    if len(members) < len(entries):
        raise Refused("has two members of one name")
    if any(entry.flag_bits & _ENCRYPTED for entry in entries):
        raise Refused("is encrypted")
    if any(
        entry.compress_type != zipfile.ZIP_STORED
        or entry.compress_size != entry.file_size
        for entry in entries
    ):
        raise Refused("has compressed members, which PyTorch does not write")
    if sum(entry.file_size for entry in entries) > size:
        raise Refused("has members that overlap")
    return members


def _require_inside(name, view, member):
    """Refuses a tensor that reaches beyond its storage, or a false storage."""
    storage = view.storage
    if member is None:
        raise Refused(f"has no numbers for the tensor {name!r}")
    if storage.size * _dtype(storage).itemsize != member.file_size:
        raise Refused(
            f"has {member.file_size:,} bytes for the tensor {name!r}, whose "
            f"storage claims {storage.size:,} of {storage.dtype}"
        )
    numbers = math.prod(view.shape)
    last = view.offset + sum(
        (size - 1) * stride for size, stride in zip(view.shape, view.strides)
    )
    if len(view.shape) > _MAX_AXES or (
        numbers and (last >= storage.size or numbers > storage.size)
    ):
        raise Refused(f"has a tensor {name!r} that leaves its storage")


def _require_used(views):
    """Refuses large storages of which the tensors use a small part."""
    used = sum(math.prod(view.shape) for view in views.values())
    kept = {view.storage.key: view.storage.size for view in views.values()}
    if sum(kept.values()) > 4 * used + _SLACK:
        raise Refused("has far more numbers than its tensors use")


def _dtype(storage):
    # NumPy has no bfloat16 of its own.
    return np.dtype(getattr(tf, storage.dtype).as_numpy_dtype)


def _values(view, numbers):
    flat = np.frombuffer(numbers(view.storage.key), _dtype(view.storage))
    if not math.prod(view.shape):
        return np.empty(view.shape, flat.dtype)
    return np.lib.stride_tricks.as_strided(
        flat[view.offset :],
        view.shape,
        [stride * flat.itemsize for stride in view.strides],
        writeable=False,
    )
