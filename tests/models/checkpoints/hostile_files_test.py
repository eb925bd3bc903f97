"""Hostile and mistaken files of weights: one sentence, at once, in no memory.

Each of these claims what it has not, or is not what its name says.
"""

import json
import lzma
import os
import pathlib
import shutil
import zlib

import h5py
import numpy as np
import pytest
from safetensors.numpy import load_file, save, save_file

import tf_pof
from tf_pof.models.checkpoints import claims
from tf_pof.models.config import BertConfig
from tf_pof.models.resolve import resolve
from tests.models.checkpoints.refusal import POINTER, refused

@pytest.fixture
def saved(tiny, tmp_path):
    """A folder of ours with a classifier."""
    return pathlib.Path(tf_pof.save(tiny("classifier"), tmp_path / "m"))


def test_numbers_of_an_encoder_are_those_that_keras_counts(tiny):
    for model in (tiny(pooler=False), tiny(family="distilbert")):
        assert claims.encoder_numbers(model.config) == model.count_params()
    large = BertConfig.preset("bert_large")
    # 335,141,888 with the pooler of 1024 x 1024 + 1024, as published.
    assert claims.encoder_numbers(large) == 335_141_888 - 1_049_600


@pytest.mark.parametrize(
    "value, sentence",
    [
        (np.zeros((2, 16), np.int8), "'classifier.weight' holds I8, but weig"),
        (np.zeros((2, 16), np.bool_), "'classifier.weight' holds BOOL"),
        (np.array(1, np.float32), "'classifier.weight' is a single number"),
        (np.zeros(32, np.float32), r"'classifier.weight' has shape \[32\]"),
    ],
)
def test_tensors_that_are_no_weights(saved, value, sentence):
    path = saved / "model.safetensors"
    save_file({**load_file(path), "classifier.weight": value}, path)
    refused(saved, sentence)


def test_half_and_double_are_read(saved, tiny):
    path = saved / "model.safetensors"
    expected = tf_pof.load(saved).get_weights()
    for dtype in (np.float16, np.float64):
        tensors = load_file(path)
        save_file({k: v.astype(dtype) for k, v in tensors.items()}, path)
        for value, before in zip(tf_pof.load(saved).get_weights(), expected):
            np.testing.assert_allclose(value, before, rtol=1e-3)


def test_headers_of_safetensors(saved):
    path = saved / "model.safetensors"
    contents = path.read_bytes()

    def write(header, tail=b""):
        header = json.dumps(header).encode()
        path.write_bytes(len(header).to_bytes(8, "little") + header + tail)

    def tensor(shape, start, end, dtype="F32"):
        return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}

    path.write_bytes((1 << 40).to_bytes(8, "little") + contents[8:])
    refused(saved, "no safetensors file: its header claims")
    write({"a": tensor([1 << 40], 0, 1 << 42)})
    refused(saved, "model.safetensors cannot be read")
    write({"a": tensor([1 << 62, 8], 0, 4)}, b"1234")
    refused(saved, "model.safetensors cannot be read")
    # All of it is there: the file has a hole of 64 GB.
    write({"a": tensor([1 << 34], 0, 1 << 36)})
    os.truncate(path, path.stat().st_size + (1 << 36))
    refused(saved, "claims 1 tensors with 17,179,869,184 numbers, too many")
    write({f"a{i}": tensor([0], 0, 0) for i in range(20_000)})
    refused(saved, "claims 20,000 tensors")
    for size in (0, 7, 100, len(contents) - 1):
        path.write_bytes(contents[:size])
        refused(saved, "model.safetensors cannot be read")
    path.unlink()
    os.mkfifo(path)
    refused(saved, "model.safetensors is no regular file")


def test_a_compressed_file_unpacks_to_no_more_than_the_model_needs(saved):
    contents = (saved / "model.safetensors").read_bytes()
    (saved / "model.safetensors").unlink()
    path = saved / "model.safetensors.xz"
    path.write_bytes(lzma.compress(contents))
    assert tf_pof.load(saved).new_weights == ()
    bomb = lzma.compress(contents + bytes(256 << 20), preset=1)
    assert len(bomb) < 1e5
    path.write_bytes(bomb)
    refused(saved, "model.safetensors.xz unpacks to more than")
    # A dictionary of 1.5 GB is more than unpacking may take.
    dictionary = {"id": lzma.FILTER_LZMA2, "dict_size": 3 << 29, "preset": 0}
    packer = lzma.LZMACompressor(filters=[{**dictionary, "dict_size": 4096}])
    packed = bytearray(packer.compress(contents) + packer.flush())
    assert packed[12:16] == b"\x02\x00\x21\x01"  # Header of LZMA2's block.
    packed[16] = 37  # (2 | 37 & 1) << 37 // 2 + 11 bytes
    packed[20:24] = _crc32(packed[12:20])
    path.write_bytes(packed)
    refused(saved, "cannot be read: Memory usage limit")
    path.write_bytes(lzma.compress(contents)[:-20])
    refused(saved, "xz cannot be read: it is cut off")
    path.write_bytes(contents)
    refused(saved, "xz cannot be read: Input format not supported")


def _crc32(contents):
    return zlib.crc32(contents).to_bytes(4, "little")


@pytest.mark.parametrize(
    "index, sentence",
    [
        ({"weight_map": ["a"]}, "wrong 'weight_map': .*object"),
        ({"weight_map": {"a": 1}}, "wrong 'weight_map.a': .*string, not 1"),
        ({}, "lacks 'weight_map'"),
        ([], "does not hold what it should"),
        ({"weight_map": {"a": "../a"}}, "'../a', which is no file of its"),
        ({"weight_map": {"a": "/etc/passwd"}}, "'/etc/passwd', which is no"),
        ({"weight_map": {"a": "x/a"}}, "'x/a', which is no file of its"),
        ({"weight_map": {"a": ".."}}, "'..', which is no file of its"),
        ({"weight_map": {"a": ""}}, "'', which is no file of its"),
        ({"weight_map": {"a": "b.safetensors"}}, "'b.saf.*which is missing"),
        ({"weight_map": {"a": "1.safetensors"}}, "lacks the tensor 'a'"),
        (
            {"weight_map": {str(i): str(i) for i in range(2000)}},
            "lists 2,000 tensors in 2,000 files",
        ),
        (
            {"weight_map": {str(i): "x" for i in range(20_000)}},
            "lists 20,000 tensors in 1 files",
        ),
    ],
)
@pytest.mark.parametrize("kind", ["model.safetensors", "pytorch_model.bin"])
def test_indices_name_files_of_their_folder(saved, kind, index, sentence):
    weights = saved / "model.safetensors"
    weights.rename(saved / "1.safetensors")
    if kind == "pytorch_model.bin":
        files = pathlib.Path(__file__).parent / "torch_files"
        shutil.copy(files / "plain.bin", saved / "1.safetensors")
    (saved / f"{kind}.index.json").write_text(json.dumps(index))
    refused(saved, sentence)


def test_an_index_that_is_right_is_read(saved):
    tensors = load_file(saved / "model.safetensors")
    expected = tf_pof.load(saved).get_weights()
    # As the hub's cache has them, the shards are links to somewhere else.
    outside = saved.parent / "blobs"
    outside.mkdir()
    names = sorted(tensors)
    index = {}
    for shard, part in {"1.safetensors": names[::2], "2": names[1::2]}.items():
        (outside / shard).write_bytes(save({k: tensors[k] for k in part}))
        (saved / shard).symlink_to(outside / shard)
        index.update(dict.fromkeys(part, shard))
    (saved / "model.safetensors").unlink()
    path = saved / "model.safetensors.index.json"
    path.write_text(json.dumps({"metadata": {}, "weight_map": index}))
    for value, before in zip(tf_pof.load(saved).get_weights(), expected):
        np.testing.assert_array_equal(value, before)


def test_what_is_no_weights_is_called_by_its_name(saved):
    path = saved / "model.safetensors"
    path.write_text(POINTER)
    refused(saved, "model.safetensors is a pointer of Git LFS.*git lfs pull")
    for name in ("pytorch_model.bin", "tf_model.h5", "model.safetensors.xz"):
        path = path.rename(saved / name)
        refused(saved, f"{name} is a pointer of Git LFS")
    path.rename(saved / "flax_model.msgpack")
    refused(saved, "holds Flax weights alone .*from_flax=True")
    os.remove(saved / "flax_model.msgpack")
    (saved / "model.onnx").write_bytes(b"")
    refused(saved, "holds ONNX weights alone")
    os.remove(saved / "model.onnx")
    refused(saved, "holds no weights: expected one of model.safetensors, ")
    (saved / "config.json").write_text(POINTER)
    refused(saved, "config.json is a pointer of Git LFS")


def _keras_weights(saved):
    """Turns a folder of ours into one with a tf_model.h5."""
    tensors = load_file(saved / "model.safetensors")
    os.remove(saved / "model.safetensors")
    path = saved / "tf_model.h5"
    with h5py.File(path, "w") as file:
        for name, value in tensors.items():
            plain = name.replace("encoder.layer.", "encoder.layer_._")
            if value.ndim == 2 and "embeddings" not in name:
                plain = plain.removesuffix("weight") + "kernel"
                value = value.T
            file[f"bert/tf_model/{plain.replace('.', '/')}:0"] = value
    return path


_DATASET = "bert/tf_model/bert/pooler/dense/bias:0"


def test_keras_weights_are_all_in_the_file(saved, tmp_path):
    expected = tf_pof.load(saved).get_weights()
    path = _keras_weights(saved)
    for value, before in zip(tf_pof.load(saved).get_weights(), expected):
        np.testing.assert_array_equal(value, before)
    contents = path.read_bytes()

    def changed(sentence, change):
        path.write_bytes(contents)
        with h5py.File(path, "a") as file:
            change(file)
        refused(saved, sentence)

    def replaced(**arguments):
        def change(file):
            del file[_DATASET]
            file.create_dataset(_DATASET, **arguments)

        return change

    def external(file):
        del file[_DATASET]
        file[_DATASET] = h5py.ExternalLink(os.fspath(other), "x")

    def virtual(file):
        del file[_DATASET]
        layout = h5py.VirtualLayout((16,), np.float32)
        layout[:] = h5py.VirtualSource(os.fspath(other), "x", (16,))
        file.create_virtual_dataset(_DATASET, layout)

    def deep(file):
        group = file
        for _ in range(300):
            group = group.create_group("x")

    other = tmp_path / "other.h5"
    with h5py.File(other, "w") as file:
        file["x"] = np.zeros(16, np.float32)
    # External links are not followed: the tensor is not there.
    changed("has no tensor 'bert.pooler.dense.bias'", external)
    changed("in another file", virtual)
    numbers = tmp_path / "numbers"
    numbers.write_bytes(bytes(64))
    stored = {"shape": (16,), "dtype": "f4", "external": os.fspath(numbers)}
    changed("bias:0' keeps its numbers in another file", replaced(**stored))
    huge = {"shape": (1 << 40,), "dtype": "f4"}
    changed("claims 4,398,046,511,104 bytes", replaced(**huge, chunks=(1024,)))
    changed("claims 4,398,046,511,104 bytes", replaced(**huge))
    packed = {"chunks": (1 << 20,), "compression": "gzip"}
    changed("1,099,511,6.* numbers, too many", replaced(**huge, **packed))
    packed["chunks"] = (1 << 29,)
    small = {"shape": (16,), "maxshape": (None,), "dtype": "f4"}
    changed("bias:0' claims 64 bytes, but", replaced(**small, **packed))
    changed("by a filter", replaced(**huge, chunks=(8,), compression="lzf"))
    text = h5py.string_dtype()
    changed("'.*bias:0' holds object", replaced(shape=(16,), dtype=text))
    ragged = h5py.vlen_dtype(np.float32)
    changed("'.*bias:0' holds object", replaced(shape=(16,), dtype=ragged))
    pair = np.dtype([("a", "f4"), ("b", "f4")])
    changed("'.*bias:0' holds ", replaced(data=np.zeros(16, pair)))
    changed("'.*bias:0' holds int32", replaced(data=np.zeros(16, np.int32)))
    changed("'.*bias:0' is a single number", replaced(data=np.float32(1)))
    changed("'.*bias:0' ", replaced(data=h5py.Empty("f4")))
    changed("more than 32 levels deep", deep)
    for name in ("x", "a/x"):
        changed(
            f"'{name}' does not lie below",
            lambda file, name=name: file.create_dataset(name, data=1.0),
        )

    def cycle(file):
        for i in range(3):
            file[f"bert/{i}"] = file["bert"]
        file["bert/soft"] = h5py.SoftLink("/bert")

    path.write_bytes(contents)
    with h5py.File(path, "a") as file:
        cycle(file)
    for value, before in zip(tf_pof.load(saved).get_weights(), expected):
        np.testing.assert_array_equal(value, before)
    for size in (0, 8, 100, len(contents) // 2, len(contents) - 1):
        path.write_bytes(contents[:size])
        refused(saved, "tf_model.h5 cannot be read")


@pytest.mark.parametrize(
    "name",
    [
        "bert-base-uncased",
        "distilbert-base-cased",
        "google/bert_uncased_L-2_H-128_A-2",
        "sentence-transformers/all-MiniLM-L6-v2",
    ],
)
def test_names_of_the_hub_are_no_paths(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sentence = f"There is no {name} here; if it .*hf download {name} --local"
    for load in (resolve, tf_pof.load):
        with pytest.raises(ValueError, match=sentence):
            load(name)
    for other in ("nothing", "../bert", "/a/b/c", "a/b/c"):
        with pytest.raises(ValueError) as caught:
            resolve(other)
        assert "hub" not in str(caught.value)
