"""Weights that anybody may have changed load, or say one sentence.

Bytes of every format that is read are overwritten, inserted and removed, and
what is told beside checksums is changed beneath them.
"""

import itertools
import json
import lzma
import os
import pathlib
import time
import zipfile

import h5py
from hypothesis import given, settings, strategies as st
import numpy as np
import pytest

import tf_pof
from tf_pof.models import bert
from tf_pof.models import checkpoints
from tf_pof.models.checkpoints import assign
from tf_pof.models.checkpoints import bundle_index
from tf_pof.models.checkpoints import google
from tf_pof.models.checkpoints import keras_nlp
from tf_pof.models.config import BertConfig
from tests.models.checkpoints.tables import table

CONFIG = BertConfig(
    vocabulary_size=20,
    num_layers=1,
    num_heads=2,
    hidden_dim=8,
    intermediate_dim=12,
    max_sequence_length=10,
    activation="gelu_new",
)
TORCH_FILES = pathlib.Path(__file__).parent / "torch_files"
PIECES = (
    b"",
    b"\x00",
    b"\xff" * 4,
    b"\xff" * 8,
    b"\x00" * 8,
    b"\xff\xff\xff\x7f",
    b"\x00" * 7 + b"\x80",
    b"\xff" * 9 + b"\x01",
    b"[" * 99,
    b'"\\ud800"',
    b"1e999",
    b"-1",
)


@st.composite
def edits(draw):
    """One to three places, each with what is cut there and what is put."""
    place = st.tuples(
        # Half of them among the first bytes, which tell of the others.
        st.integers(0, 1 << 20) | st.integers(0, 600),
        st.sampled_from([0, 0, 1, 1, 4, 8, 1 << 30]),
        st.sampled_from(PIECES) | st.binary(max_size=3),
    )
    return draw(st.lists(place, min_size=1, max_size=3))


def edited(contents, places):
    for place, cut, put in places:
        place %= len(contents) + 1
        # What is put in place of nothing takes the place of as much.
        end = place + (cut or len(put))
        contents = contents[:place] + put + contents[end:]
    return contents


@pytest.fixture(scope="module")
def model():
    return bert.build(CONFIG, "classifier", 3)


@pytest.fixture(scope="module")
def folders(model, tmp_path_factory):
    """A folder of each kind, by the file that is to be changed."""
    root = tmp_path_factory.mktemp("whole")
    found = {}

    def folder(name, contents=None):
        path = root / f"{len(found)}"
        found[name] = path / name
        if contents is not None:
            path.mkdir()
            (path / "config.json").write_text(json.dumps(CONFIG.to_hf()))
            (path / name).write_bytes(contents)
        return path

    tensors = assign.extract(model, "hf")
    path = folder("model.safetensors")
    tf_pof.save(model, path)
    contents = (path / "model.safetensors").read_bytes()
    folder("model.safetensors.xz", lzma.compress(contents))
    shard = {"weight_map": dict.fromkeys(tensors, "1.safetensors")}
    path = folder("model.safetensors.index.json", json.dumps(shard).encode())
    (path / "1.safetensors").write_bytes(contents)
    plain = (TORCH_FILES / "parameters.bin").read_bytes()
    folder("pytorch_model.bin", plain)
    path = folder("tf_model.h5", b"")
    with h5py.File(path / "tf_model.h5", "w") as file:
        for name, value in tensors.items():
            plain = name.replace("encoder.layer.", "encoder.layer_._")
            file[f"bert/tf_model/{plain.replace('.', '/')}:0"] = value
    keras_nlp.save(model, str(folder("model.weights.h5")))
    google.save(model, str(folder("bert_model.ckpt.index")))
    return found


def loads_or_says_a_sentence(model, path):
    """A folder's or a checkpoint's numbers are finite, or are refused."""
    begin = time.process_time()
    try:
        checkpoints.load_into(model, os.fspath(path))
    except (ValueError, OSError) as error:
        message = str(error)
        assert "\n" not in message and len(message) < 600, message
    assert time.process_time() - begin < 2
    for value in model.get_weights():
        assert np.isfinite(value).all()


FORMATS = (
    "model.safetensors",
    "model.safetensors.xz",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "tf_model.h5",
    "model.weights.h5",
    "bert_model.ckpt.index",
)
BOUNDED = settings(max_examples=60, deadline=None)


@pytest.mark.parametrize("name", FORMATS)
def test_unchanged_files_load(model, folders, name):
    folder = os.fspath(folders[name].parent)
    new = checkpoints.load_into(model, folder)
    assert all("classifier" in path or "pooler" in path for path in new)


@pytest.mark.parametrize("name", FORMATS)
@BOUNDED
@given(places=edits())
def test_any_bytes(model, folders, name, places):
    path = folders[name]
    whole = path.read_bytes()
    try:
        path.write_bytes(edited(whole, places))
        loads_or_says_a_sentence(model, path.parent)
    finally:
        path.write_bytes(whole)


@BOUNDED
@given(places=edits(), number=st.integers(0, 200))
def test_any_members_of_a_pytorch_file(model, folders, places, number):
    """The pickle, or another member, under right checksums."""
    path = folders["pytorch_model.bin"]
    whole = path.read_bytes()
    with zipfile.ZipFile(path) as file:
        members = {name: file.read(name) for name in file.namelist()}
    names = [name for name in members if name.endswith("data.pkl")]
    if number > 150:
        names = list(itertools.islice(members, number % len(members), None))
    members[names[0]] = edited(members[names[0]], places)
    try:
        with zipfile.ZipFile(path, "w") as file:
            for name, contents in members.items():
                file.writestr(name, contents)
        loads_or_says_a_sentence(model, path.parent)
    finally:
        path.write_bytes(whole)


@BOUNDED
@given(places=edits(), number=st.integers(0, 200), in_key=st.booleans())
def test_any_entries_of_a_tensorflow_index(
    model, folders, places, number, in_key
):
    """Keys and entries, under right checksums."""
    path = folders["bert_model.ckpt.index"]
    whole = path.read_bytes()
    entries = list(bundle_index._entries(whole))
    key, value = entries[number % len(entries)]
    changed = (edited(key, places), value) if in_key else (
        key,
        edited(value, places),
    )
    entries[number % len(entries)] = changed
    try:
        path.write_bytes(table(sorted(entries)))
        loads_or_says_a_sentence(model, path.parent)
    finally:
        path.write_bytes(whole)


@BOUNDED
@given(
    header=st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-2, 1 << 64)
        | st.sampled_from(["F32", "BF16", "I64", "x", ""]),
        lambda inner: st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["dtype", "shape", "data_offsets", "__metadata__"]
            )
            | st.text(max_size=3),
            inner,
            max_size=4,
        ),
        max_leaves=12,
    )
)
def test_any_header_of_safetensors(model, folders, header):
    path = folders["model.safetensors"]
    whole = path.read_bytes()
    text = json.dumps(header).encode()
    try:
        path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(64))
        loads_or_says_a_sentence(model, path.parent)
    finally:
        path.write_bytes(whole)
