"""The archive behind a .tflite may hold anything, and takes no memory."""

import io
import json
import struct
import zipfile
import zlib

from hypothesis import given, settings, strategies as st
import numpy as np
import pytest

from tests import json_mutations
from tests.export import exported
from tests.runtime import memory
from tf_pof.export import archive, litert
from tf_pof.export.evaluation import ScoredFile


@pytest.fixture(scope="module")
def model():
    """The flatbuffer of a file alone."""
    contents = exported.sst2().contents
    with zipfile.ZipFile(io.BytesIO(contents)) as opened:
        size = min(entry.header_offset for entry in opened.infolist())
    return contents[:size]


@pytest.fixture(scope="module")
def details():
    return archive.read_details(exported.sst2().contents)


def with_members(model, members):
    target = io.BytesIO(model)
    with zipfile.ZipFile(target, "a") as opened:
        for name, data in members.items():
            opened.writestr(name, data)
    return target.getvalue()


def with_details(model, details, **changes):
    told = {**details, "crc32": zlib.crc32(model), **changes}
    return with_members(model, {"tf_pof.json": json.dumps(told)})


@pytest.mark.parametrize(
    "changes, sentence",
    [
        ({"config": {}}, "lacks 'config.vocabulary_size'"),
        ({"config": []}, "wrong 'config'"),
        ({"head": 5}, "wrong 'head'"),
        ({"num_labels": 10**9}, "wrong 'num_labels'"),
        ({"num_labels": True}, "wrong 'num_labels'"),
        ({"labels": 5}, "wrong 'labels'"),
        ({"labels": ["negative"]}, "1 labels for 2 classes"),
        ({"labels": ["a", "b", "c"]}, "3 labels for 2 classes"),
        ({"sequence_lengths": []}, "wrong 'sequence_lengths'"),
        ({"sequence_lengths": [-1]}, "wrong 'sequence_lengths.0'"),
        ({"task": None}, "wrong 'task'"),
        ({"crc32": 1}, "its checksum is another one"),
    ],
)
def test_details_that_cannot_be_are_named(model, details, changes, sentence):
    contents = with_details(model, details, **changes)
    with pytest.raises(ValueError, match=sentence):
        archive.read_details(contents)
    with pytest.raises(ValueError, match=sentence):
        litert.LiteModel(contents)


@pytest.mark.parametrize(
    "key", "version head num_labels labels lowercase config task crc32".split()
)
def test_details_that_lack_something_are_refused(model, details, key):
    told = {**details, "crc32": zlib.crc32(model)}
    del told[key]
    contents = with_members(model, {"tf_pof.json": json.dumps(told)})
    with pytest.raises(ValueError, match=f"lacks '{key}'"):
        archive.read_details(contents)


def test_classes_that_are_not_computed_are_refused(model, details, tmp_path):
    path = tmp_path / "x.tflite"
    contents = with_details(model, details, num_labels=900, labels=None)
    path.write_bytes(contents)
    with pytest.raises(ValueError, match="900 classes, and it computes 2"):
        ScoredFile(path, tmp_path)


def encrypted(contents):
    """Sets the flag that says so in all headers of the archive."""
    changed = bytearray(contents)
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = changed.find(mark)
        while at >= 0:
            flags = struct.unpack_from("<H", changed, at + offset)[0] | 1
            struct.pack_into("<H", changed, at + offset, flags)
            at = changed.find(mark, at + 4)
    return bytes(changed)


def test_members_that_cannot_be_read_are_as_if_not_there(model, details):
    contents = with_details(model, details)
    assert archive.read(contents).keys() == {"tf_pof.json"}
    assert archive.read(encrypted(contents)) == {}
    # The method of compression is one that there is not.
    unknown = bytearray(contents)
    for mark, offset in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        struct.pack_into("<H", unknown, unknown.find(mark) + offset, 77)
    assert archive.read(bytes(unknown)) == {}
    wrong = contents.replace(b'"num_labels"', b'"num_labelz"')
    assert archive.read(wrong) == {}  # by the archive's own checksum
    assert archive.read(contents[:-30]) == {}
    assert archive.read(b"") == {}


def test_members_beyond_the_cap_are_refused(model):
    target = io.BytesIO(model)
    with zipfile.ZipFile(target, "a", zipfile.ZIP_DEFLATED) as opened:
        with opened.open("tf_pof.json", "w") as member:
            for _ in range(65):
                member.write(bytes(1 << 20))
    with pytest.raises(ValueError, match="larger than the 64 MB"):
        archive.read_details(target.getvalue())


def test_a_member_that_nobody_reads_takes_no_memory(model, details, tmp_path):
    path = tmp_path / "x.tflite"
    path.write_bytes(with_details(model, details))
    with zipfile.ZipFile(path, "a", zipfile.ZIP_STORED) as opened:
        with opened.open("unused", "w", force_zip64=True) as member:
            for _ in range(300):
                member.write(bytes(1 << 20))
    code = f"""
from tf_pof.export.archive import contents_of, read_details
from tf_pof.export import flatbuffer
contents = contents_of({str(path)!r})
flatbuffer.read(contents)
assert read_details(contents)["head"] == "classifier"
"""
    small = tmp_path / "small.tflite"
    small.write_bytes(with_details(model, details))
    peak = memory.peak_bytes(code)
    least = memory.peak_bytes(code.replace(str(path), str(small)))
    assert peak - least < 100 << 20


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_json_is_read_or_named(model, details, data):
    told = {**details, "crc32": zlib.crc32(model)}
    text = data.draw(json_mutations.texts(told))
    contents = with_members(model, {"tf_pof.json": text})
    try:
        found = archive.read_details(contents)
    except ValueError as error:
        assert "\n" not in str(error) and len(str(error)) < 400
    else:
        assert found["num_labels"] >= 1 and found["sequence_lengths"]


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_any_bytes_behind_a_model_are_read_or_named(model, details, data):
    contents = bytearray(with_details(model, details))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(len(model), len(contents) - 1))
        contents[at] = data.draw(st.integers(0, 255))
    try:
        archive.read(bytes(contents))
        archive.read_details(bytes(contents))
    except ValueError as error:
        assert "\n" not in str(error)


def test_a_mapped_file_is_read_as_its_bytes_are(tmp_path):
    contents = exported.sst2().contents
    path = tmp_path / "x.tflite"
    path.write_bytes(contents)
    mapped = archive.contents_of(path)
    assert archive.read(mapped) == archive.read(contents)
    assert archive.read_details(mapped) == archive.read_details(contents)
    (tmp_path / "empty").write_bytes(b"")
    assert archive.contents_of(tmp_path / "empty") == b""
    inputs = {
        "token_ids": np.ones((1, 5)),
        "segment_ids": np.zeros((1, 5)),
        "padding_mask": np.ones((1, 5)),
    }
    of_path = litert.LiteModel(path)(inputs)["logits"]
    np.testing.assert_array_equal(
        of_path, litert.LiteModel(contents)(inputs)["logits"]
    )
