"""pytorch_model.bin: PyTorch's own files are read, and no pickle runs."""

import contextlib
import json
import os
import pathlib
import pickle
import shutil
import struct
import time
import zipfile

import numpy as np
import pytest

import tf_pof
from tf_pof.models.checkpoints import huggingface
from tf_pof.models.checkpoints import torch_zip

FILES = pathlib.Path(__file__).parent / "torch_files"
CONFIG = {
    "model_type": "bert",
    "architectures": ["BertForSequenceClassification"],
    "vocab_size": 20,
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 12,
    "max_position_embeddings": 10,
    "type_vocab_size": 2,
    "id2label": {"0": "a", "1": "b", "2": "c"},
}


@pytest.fixture
def folder(tmp_path):
    """A folder with a config.json for the weights of torch_files."""
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    return tmp_path


def _expected():
    with np.load(FILES / "expected.npz") as file:
        return dict(file)


@pytest.mark.parametrize(
    "name", ["plain", "half", "bfloat16", "double", "parameters"]
)
def test_what_pytorch_writes_is_read_exactly(folder, name):
    shutil.copy(FILES / f"{name}.bin", folder / "pytorch_model.bin")
    _, values = huggingface.read_tensors(os.fspath(folder))
    decoder = values.pop("cls.predictions.decoder.weight", None)
    expected = _expected()
    assert values.keys() == expected.keys()
    for key, value in values.items():
        assert value.dtype == np.float32
        np.testing.assert_array_equal(value, expected[key])
    if name == "plain":
        table = expected["bert.embeddings.word_embeddings.weight"]
        np.testing.assert_array_equal(decoder, table)


def test_shards_are_read_and_make_a_model(folder):
    for name in ("1.bin", "2.bin"):
        shutil.copy(FILES / name, folder)
    shutil.copy(FILES / "index.json", folder / "pytorch_model.bin.index.json")
    model = tf_pof.load(folder)
    assert model.head == "classifier" and model.new_weights == ()
    assert model.labels == ("a", "b", "c")
    np.testing.assert_array_equal(
        model.get_layer("layer_0_output").kernel,
        _expected()["bert.encoder.layer.0.output.dense.weight"].T,
    )
    os.remove(folder / "2.bin")
    with pytest.raises(ValueError, match="index.json names '2.bin', which is"):
        tf_pof.load(folder)


def _read(path):
    with contextlib.ExitStack() as stack:
        found = torch_zip.tensors(os.fspath(path), stack)
        return {name: claim.floats() for name, claim in found.items()}


class _Call:
    """Pickled, it is a call of a function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


# The language of pickles, as torch.save uses it.


def _text(value):
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def _number(value):
    size = (value.bit_length() + 8) // 8
    return b"\x8a" + bytes([size]) + value.to_bytes(size, "little", signed=True)


def _global(module, name):
    return f"c{module}\n{name}\n".encode()


def _tuple(*parts):
    return b"(" + b"".join(parts) + b"t"


ORDERED = _global("collections", "OrderedDict") + b")R"
REBUILD = _global("torch._utils", "_rebuild_tensor_v2")


def _storage(name="FloatStorage", key="0", size=6, module="torch"):
    kind = _global(module, name)
    parts = _text("storage"), kind, _text(key), _text("cpu"), _number(size)
    return _tuple(*parts) + b"Q"


def _tensor(offset=0, shape=(2, 3), strides=(3, 1), storage=None, more=b""):
    sizes = [_tuple(*map(_number, sizes)) for sizes in (shape, strides)]
    storage = storage or _storage()
    tail = (b"\x89", ORDERED, more)
    return REBUILD + _tuple(storage, _number(offset), *sizes, *tail) + b"R"


def _state(**tensors):
    items = b"".join(_text(name) + code for name, code in tensors.items())
    return b"\x80\x02}(" + items + b"u."


NUMBERS = np.arange(6, dtype="<f4").tobytes()


def _archive(path, contents, storages=(NUMBERS,), more=(), **options):
    with zipfile.ZipFile(path, "w", **options) as file:
        file.writestr("m/data.pkl", contents)
        for key, numbers in enumerate(storages):
            file.writestr(f"m/data/{key}", numbers)
        for name, value in more:
            file.writestr(name, value)
    return path


def test_views_are_those_of_numpy(tmp_path):
    numbers = np.arange(6, dtype=np.float32)
    path = _archive(
        tmp_path / "w.bin",
        _state(
            whole=_tensor(),
            turned=_tensor(shape=(3, 2), strides=(1, 3)),
            tail=_tensor(offset=4, shape=(2,), strides=(1,)),
            spread=_tensor(offset=1, shape=(3,), strides=(2,)),
            same=_tensor(offset=5, shape=(4,), strides=(0,)),
            none=_tensor(offset=6, shape=(0, 9), strides=(9, 1)),
        ),
    )
    found = _read(path)
    assert found.keys() == {"whole", "turned", "tail", "spread", "same", "none"}
    np.testing.assert_array_equal(found["whole"], numbers.reshape(2, 3))
    np.testing.assert_array_equal(found["turned"], numbers.reshape(2, 3).T)
    np.testing.assert_array_equal(found["tail"], [4, 5])
    np.testing.assert_array_equal(found["spread"], [1, 3, 5])
    np.testing.assert_array_equal(found["same"], [5, 5, 5, 5])
    assert found["none"].shape == (0, 9)


GOOD = _state(w=_tensor())
HOSTILE = {
    "eval": (pickle.dumps(_Call(eval, "1"), 2), "asks for .*eval"),
    "getattr": (b"\x80\x02c__builtin__\ngetattr\n.", "asks for .*getattr"),
    "stack_global": (
        b"\x80\x04\x8c\x02os\x8c\x06system\x93.",
        "asks for os.system",
    ),
    "inst": (b"(cos\nsystem\n(S'ls'\nios\nsystem\n.", "asks for "),
    "new object": (b"\x80\x02" + ORDERED[:-2] + b")\x81.", "NEWOBJ"),
    "extension": (b"\x80\x02\x82\x01.", "EXT1"),
    "other storage": (
        _state(w=_tensor(storage=_storage("UntypedStorage"))),
        "asks for torch.UntypedStorage",
    ),
    "module of storage": (
        _state(w=_tensor(storage=_storage(module="os"))),
        "asks for os.FloatStorage",
    ),
    "call of a storage": (
        _state(w=_global("torch", "FloatStorage") + b")R"),
        "no tensor",
    ),
    "called with more": (
        b"\x80\x02" + ORDERED[:-2] + _tuple(_number(9)) + b"R.",
        "no tensor",
    ),
    "attributes": (b"\x80\x02)}b.", "sets attributes"),
    "signs turned": (_state(w=_tensor(more=b"\x88")), "no tensor"),
    "memo bomb": (b"\x80\x02Nr\xff\xff\xff\x7fh\x07.", "no valid pickle"),
    "long text": (b"\x80\x02X\xff\xff\xff\x7f.", "no valid pickle"),
    "long text 8": (b"\x80\x04\x8d" + b"\xff" * 8 + b".", "no valid pickle"),
    "deep": (b"\x80\x02N" + b"\x85" * 300_000 + b".", "no dictionary"),
    "deep key": (
        b"\x80\x02}N" + b"\x85" * 300_000 + b"Ns.",
        "keys are no text",
    ),
    "operations": (b"\x80\x02" + b"N" * 500_000 + b".", "400,000 operations"),
    "pickle of 9 MB": (b"\x80\x02" + b"N" * (9 << 20), "too large"),
    "empty": (b"", "no valid pickle"),
    "no end": (GOOD[:-1], "no valid pickle"),
    "underflow": (b"\x80\x02u.", "nothing to work on"),
    "set on nothing": (b"\x80\x02(NNu.", "nothing to work on"),
    "a number": (_state(w=_tensor(), epoch=_number(3)), "'epoch', which is no"),
    "nested": (_state(model=b"}(" + _text("w") + _tensor() + b"u"), "'model'"),
    "beyond": (_state(w=_tensor(offset=1)), "'w' that leaves its storage"),
    "strides": (_state(w=_tensor(strides=(4, 1))), "leaves its storage"),
    "negative offset": (_state(w=_tensor(offset=-1)), "no tensor"),
    "negative stride": (_state(w=_tensor(strides=(-3, 1))), "no tensor"),
    "negative size": (_state(w=_tensor(shape=(-2, -3))), "no tensor"),
    "axes": (_state(w=_tensor(shape=(2,))), "no tensor"),
    "many axes": (
        _state(w=_tensor(shape=(1,) * 70, strides=(1,) * 70)),
        "leaves its storage",
    ),
    "expanded to 4 TB": (
        _state(w=_tensor(shape=(1 << 20,) * 2, strides=(0, 0))),
        "leaves its storage",
    ),
    "overflow": (
        _state(w=_tensor(shape=(1 << 61, 8), strides=(1 << 61, 1))),
        "leaves its storage",
    ),
    "storage of 4 TB": (
        _state(w=_tensor(storage=_storage(size=1 << 40))),
        "storage claims 1,099,511,627,776 of float32",
    ),
    "no such storage": (
        _state(w=_tensor(storage=_storage(key="1"))),
        "no numbers for the tensor 'w'",
    ),
    "path as key": (
        _state(w=_tensor(storage=_storage(key="../data.pkl"))),
        "no numbers for the tensor 'w'",
    ),
    "size as text": (
        _state(w=REBUILD + _tuple(_text("0")) + b"R"),
        "no tensor",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_pickles_are_refused_by_what_they_ask(tmp_path, name):
    contents, sentence = HOSTILE[name]
    path = _archive(tmp_path / "w.bin", contents)
    begin = time.process_time()
    with pytest.raises(ValueError, match=f"w.bin.*{sentence}") as caught:
        _read(path)
    assert time.process_time() - begin < 2
    message = str(caught.value)
    assert "save_pretrained" in message and "\n" not in message
    assert len(message) < 400


@pytest.mark.parametrize("protocol", [0, 1, 2, 4, 5])
def test_no_pickle_is_ever_run(tmp_path, protocol):
    marker = tmp_path / "marker"
    call = _Call(os.system, f"touch {marker}")
    contents = pickle.dumps({"w": call, call: 1}, protocol)
    pickle.loads(contents)
    assert marker.exists()  # It would run.
    marker.unlink()
    with pytest.raises(ValueError, match="asks for"):
        _read(_archive(tmp_path / "w.bin", contents))
    assert not marker.exists()


def _flagged(path, flag):
    """Sets a flag of all members in the directory of an archive."""
    contents = bytearray(path.read_bytes())
    start = contents.index(b"PK\x01\x02")
    while (start := contents.find(b"PK\x01\x02", start)) >= 0:
        contents[start + 8] |= flag
        start += 4
    path.write_bytes(contents)


def test_archives_that_pytorch_does_not_write_are_refused(tmp_path):
    path = tmp_path / "w.bin"

    def refused(sentence):
        with pytest.raises(ValueError, match=f"w.bin .*{sentence}") as caught:
            _read(path)
        assert "\n" not in str(caught.value)

    _archive(path, GOOD)
    assert _read(path)["w"].shape == (2, 3)
    _flagged(path, 1)
    refused("is encrypted")
    _archive(path, GOOD, compression=zipfile.ZIP_DEFLATED)
    refused("compressed members")
    with pytest.warns(UserWarning, match="Duplicate"):
        _archive(path, GOOD, more=[("m/data.pkl", GOOD)])
    refused("two members of one name")
    _archive(path, GOOD, more=[("n/data.pkl", GOOD)])
    refused("no data.pkl")
    _archive(path, GOOD, more=[("m/byteorder", b"big")])
    refused("bytes in another order")
    _archive(path, GOOD, more=[("m/byteorder", b"little")])
    assert _read(path)["w"][1, 2] == 5
    # Torch keeps all of a storage; a huge one for one number is refused.
    big = _tensor(shape=(1,), strides=(1,), storage=_storage(size=2 << 20))
    _archive(path, _state(w=big), [b"\0" * (8 << 20)])
    refused("far more numbers than its tensors use")
    _archive(path, GOOD, more=[(f"m/{i}", b"") for i in range(17_000)])
    refused("17,002 members")
    names = [f"m/{i}{'x' * 60_000}" for i in range(80)]
    _archive(path, GOOD, more=[(name, b"") for name in names])
    refused("directory is too large")
    contents = _archive(path, GOOD).read_bytes()
    # The directory claims 2 GB for both sizes of data.pkl.
    sizes = contents.index(b"PK\x01\x02") + 20
    huge = bytes([0, 0, 0, 128]) * 2
    path.write_bytes(contents[:sizes] + huge + contents[sizes + 8 :])
    refused("members that overlap")
    path.write_bytes(contents[:-30])
    refused("cannot be read")
    damaged = bytearray(contents)
    damaged[damaged.index(NUMBERS) + 3] ^= 1
    path.write_bytes(damaged)
    refused("Bad CRC-32")
    path.write_bytes(b"<html>")
    refused("is no PyTorch file")
    path.write_bytes((FILES / "legacy.bin").read_bytes())
    refused("before 1.6")
    path.write_bytes((FILES / "script.bin").read_bytes())
    refused("TorchScript")


def test_other_types_than_floats_are_named(tmp_path):
    storage = _storage("LongStorage", size=3)
    tensor = _tensor(shape=(3,), strides=(1,), storage=storage)
    path = _archive(tmp_path / "w.bin", _state(w=tensor), [b"\0" * 24])
    with pytest.raises(ValueError, match="tensor 'w' holds int64"):
        _read(path)
