"""HDF5 files of weights, read with nothing open that points elsewhere.

HDF5 can name other files (external links, external storage, virtual
datasets), load filters from libraries, and claim datasets of any size that
were never written. Weights need none of this, so none of it is followed.
"""

import contextlib
import math

import h5py
import numpy as np

from tf_pof import untrusted
from tf_pof.models.checkpoints import claims

_MAX_OBJECTS = claims.MAX_TENSORS + 4_096
# Keras' own files have up to ten levels. Names of deep ones take quadratic
# time.
_MAX_DEPTH = 32
# HDF5's own filters: deflate, shuffle, fletcher32.
_FILTERS = {1, 2, 3}
# Numbers in a chunk that is unpacked as a whole, as TensorFlow never writes.
_MAX_CHUNK = 1 << 24


def tensors(
    path: str, stack: contextlib.ExitStack
) -> dict[str, claims.Claim]:
    """The datasets of a file by their paths in it ("layers/dense/vars/0").

    Soft and external links are passed over.

    Args:
        path: of the file.
        stack: closes the file; the tensors are read before that.

    Raises:
        ValueError: naming a dataset whose numbers are not in the file, or if
            the file is damaged, too deep or has too many objects.
        OSError: if there is no such file.
    """
    untrusted.first_bytes(path)
    with claims.reading(path):
        file = stack.enter_context(h5py.File(path, "r"))
        size = file.id.get_filesize()
    datasets = _walk(path, file)
    found = {}
    for name, dataset in datasets.items():
        with claims.reading(path):
            dtype, shape = dataset.dtype, dataset.shape or ()
        # Nothing else is ever read.
        if dtype.kind == "f":
            _require_inside(path, name, dataset, size)
        found[name] = claims.Claim(
            path,
            name,
            tuple(shape),
            # Text and references have no dtype of numpy's own.
            dtype.name if dtype.kind in "biuf" else str(dtype),
            lambda dataset=dataset: np.asarray(dataset[()]),
        )
    return found


def _walk(path, file):
    """Datasets by path; each object once, however many names it has."""
    datasets, seen, waiting = {}, set(), [("", file, 0)]
    objects = 0
    while waiting:
        prefix, group, depth = waiting.pop()
        with claims.reading(path):
            names = list(_names(group))
        for name in names:
            objects += 1
            if objects > _MAX_OBJECTS or depth > _MAX_DEPTH:
                raise ValueError(
                    f"{path} is no file of a model's weights: it holds more "
                    f"than {_MAX_OBJECTS} objects, or some more than "
                    f"{_MAX_DEPTH} levels deep."
                )
            with claims.reading(path):
                link = group.get(name, getlink=True)
                if not isinstance(link, h5py.HardLink):
                    continue
                item = group[name]
                address = h5py.h5o.get_info(item.id).addr
            if address in seen:
                continue
            seen.add(address)
            if isinstance(item, h5py.Dataset):
                datasets[prefix + name] = item
            elif isinstance(item, h5py.Group):
                waiting.append((f"{prefix}{name}/", item, depth + 1))
    return datasets


def _names(group):
    for count, name in enumerate(group):
        if count > _MAX_OBJECTS:
            return
        yield name


def _require_inside(path, name, dataset, size):
    """Refuses a dataset whose numbers are not in this file.

    Raises:
        ValueError: naming it.
    """
    with claims.reading(path):
        properties = dataset.id.get_create_plist()
        elsewhere = properties.get_external_count() or dataset.is_virtual
        filters = [
            properties.get_filter(i)[0]
            for i in range(properties.get_nfilters())
        ]
        claimed = math.prod(dataset.shape or ()) * dataset.dtype.itemsize
        chunk = math.prod(dataset.chunks or ())
        written = dataset.id.get_storage_size()
    if elsewhere:
        raise ValueError(
            f"{path}: dataset {name!r} keeps its numbers in another file, "
            "which is not read: write them into this one."
        )
    if not _FILTERS.issuperset(filters):
        raise ValueError(
            f"{path}: dataset {name!r} is packed by a filter that is not "
            "HDF5's own: write it without."
        )
    packed = 1 in filters
    if chunk > _MAX_CHUNK or not packed and claimed > min(written, size):
        raise ValueError(
            f"{path}: dataset {name!r} claims {claimed:,} bytes, but the file "
            f"has {min(written, size):,} for it."
        )
