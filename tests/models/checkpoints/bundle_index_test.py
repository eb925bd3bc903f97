"""The index of a TensorFlow checkpoint is held to sense before it is opened.

TensorFlow itself ends the process at most of these, so each hostile index has
right checksums; see tables.py.
"""

import os

import numpy as np
import pytest
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import tensor_bundle_pb2

from tf_pof.models.checkpoints import bundle_index
from tf_pof.models.checkpoints import google
from tf_pof.models.config import BertConfig
from tests.models.checkpoints.tables import table

import tensorflow as tf


def _entry(*sizes, dtype=types_pb2.DT_FLOAT, slices=False, unknown=False):
    entry = tensor_bundle_pb2.BundleEntryProto(dtype=dtype, size=64)
    for size in sizes:
        entry.shape.dim.add(size=size)
    entry.shape.unknown_rank = unknown
    if slices:
        entry.slices.add().extent.add(start=0, length=2)
    return entry.SerializeToString()


_HEADER = tensor_bundle_pb2.BundleHeaderProto(
    num_shards=1, version={"producer": 1}
).SerializeToString()


def _write(folder, value, kind=0, header=_HEADER):
    path = folder / "bert_model.ckpt.index"
    path.write_bytes(table([(b"", header), (b"w", value)], kind))
    return os.fspath(path)


def test_tables_of_this_test_are_those_of_tensorflow(tmp_path):
    path = _write(tmp_path, _entry(2, 8))
    bundle_index.check(path)
    reader = tf.train.load_checkpoint(path.removesuffix(".index"))
    assert reader.get_variable_to_shape_map() == {"w": [2, 8]}


@pytest.mark.parametrize(
    "value, sentence",
    [
        (_entry(-1, 8), "gives 'w' a shape"),
        (_entry(1 << 62, 8), "gives 'w' a shape"),
        (_entry(1 << 40, 1 << 40), "gives 'w' a shape"),
        (_entry(*[1] * 300), "gives 'w' a shape"),
        (_entry(unknown=True), "gives 'w' a shape"),
        (_entry(2, dtype=types_pb2.DT_FLOAT_REF), "gives 'w' a type"),
        (_entry(2, dtype=types_pb2.DT_VARIANT), "gives 'w' a type"),
        (_entry(2, dtype=types_pb2.DT_INVALID), "gives 'w' a type"),
        (_entry(2, slices=True), "has 'w' in slices"),
        (b"\xff\xff\xff", "is damaged"),
    ],
)
def test_entries_that_would_end_the_process(tmp_path, value, sentence):
    path = _write(tmp_path, value)
    with pytest.raises(ValueError, match=f"index {sentence}") as caught:
        bundle_index.check(path)
    assert "\n" not in str(caught.value)
    # By way of the reader, too.
    with pytest.raises(ValueError, match=f"index {sentence}"):
        google.read_tensors(path.removesuffix(".index"), BertConfig())


def test_tables_that_tensorflow_does_not_write(tmp_path):
    path = _write(tmp_path, _entry(2, 8), kind=1)
    with pytest.raises(ValueError, match="is compressed"):
        bundle_index.check(path)
    path = _write(tmp_path, _entry(2, 8), header=b"\xff" * 9)
    with pytest.raises(ValueError, match="is damaged"):
        bundle_index.check(path)
    good = table([(b"", _HEADER), (b"w", _entry(2, 8))])
    for size in range(len(good)):
        (tmp_path / "x.index").write_bytes(good[:size])
        with pytest.raises(ValueError, match="cannot be read"):
            bundle_index.check(tmp_path / "x.index")
    (tmp_path / "x.index").write_bytes(
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
    )
    with pytest.raises(ValueError, match="pointer of Git LFS.*git lfs pull"):
        bundle_index.check(tmp_path / "x.index")


def test_all_entries_of_a_large_index_are_seen(tmp_path):
    """Keys share beginnings there, and fill several blocks."""
    prefix = os.fspath(tmp_path / "x.ckpt")
    names = [f"{'layer' * 20}/{i}" for i in range(9_000)]
    tf.raw_ops.SaveV2(
        prefix=prefix,
        tensor_names=names,
        shape_and_slices=[""] * len(names),
        tensors=[np.float32(0)] * len(names),
    )
    bundle_index.check(prefix + ".index")
    contents = (tmp_path / "x.ckpt.index").read_bytes()
    keys = [key.decode() for key, _ in bundle_index._entries(contents)]
    assert keys == sorted(["", *names])
