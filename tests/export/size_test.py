"""The size report against sums written out by hand."""

import io
import json
import zlib

from ai_edge_litert import schema_py_generated as schema
import numpy as np
import pytest
import rich.console

from tests.export import lite_files
from tf_pof.export import encodings, flatbuffer, size
from tf_pof.export.encodings import packed_encoder

OUT, IN = 640, 320


@pytest.fixture(scope="module")
def blocks():
    """int8 [640, 320], one block of 1 x 16 in ten full: 1280 of 12800."""
    live = np.zeros(OUT * IN // 16, bool)
    live[::10] = True
    random = np.random.default_rng(0)
    weights = random.integers(1, 128, (len(live), 16)) * live[:, None]
    return weights.reshape(OUT, IN).astype(np.int8)


@pytest.fixture(scope="module")
def contents(blocks):
    """A pruned layer in two subgraphs, a head and a table."""
    random = np.random.default_rng(1)
    head = random.integers(1, 128, (2, IN)).astype(np.int8)
    table = random.integers(1, 128, (50, 16)).astype(np.int8)
    names = ["layer_0_query", "classifier"]
    return lite_files.make([blocks, head], (4, 8), names, table)


def test_dense_parts_are_counted(contents):
    report = size.report(contents)
    encoder = report["encoder"]
    # Weights, then an int32 bias, and a float32 scale of weight and bias.
    assert encoder["bytes"] == 640 * 320 + 640 * (4 + 4 + 4) == 212480
    assert encoder["float32_bytes"] == 640 * 320 * 4 + 640 * 4 == 821760
    assert encoder["int8_bytes"] == encoder["bytes"]
    assert encoder["weights"] == 204800
    assert encoder["zeros"] == 204800 - 1280 * 16 == 184320
    assert encoder["bits_per_weight"] == 8
    assert encoder["ratio_to_float32"] == pytest.approx(821760 / 212480)
    assert report["head"]["bytes"] == 2 * 320 + 2 * 12 == 664
    # One scale for the whole table.
    assert report["embeddings"]["bytes"] == 50 * 16 + 4 == 804
    assert report["file"]["bytes"] == len(contents)
    assert report["file"]["int8_bytes"] == len(contents)
    assert report["rest"]["bytes"] == len(contents) - 212480 - 664 - 804
    # 205440 weights, 642 biases, 800 of the table.
    assert report["file"]["float32_bytes"] == 4 * (205440 + 642 + 800)


def test_the_papers_count_leaves_indices_out(contents):
    # "40x": 10x by 90 % zeros and 4x by int8.
    assert size.report(contents)["paper_ratio"] == pytest.approx(40)


def test_1x16_is_counted_with_its_indices(contents):
    report = size.report(encodings.apply("tflite_1x16", contents))
    encoder = report["encoder"]
    # 1280 blocks, a column of one byte each, 641 segments of two bytes.
    data = 1280 * 16 + 1280 + 641 * 2
    assert encoder["bytes"] == data + 640 * 12
    assert encoder["bits_per_weight"] == pytest.approx(8 * data / 204800)
    assert encoder["zeros"] == 184320
    assert report["file"]["int8_bytes"] == (
        report["file"]["bytes"] + 204800 - data
    )
    assert report["tensors"][0]["encoding"] == "tflite_1x16"


def test_packed_is_counted_as_it_is_stored(contents, blocks):
    report = size.report(encodings.apply("packed", contents))
    packed = len(packed_encoder.encode(blocks))
    encoder = report["encoder"]
    assert encoder["bytes"] == packed + 640 * 12
    assert encoder["bits_per_weight"] == pytest.approx(8 * packed / 204800)
    assert encoder["zeros"] == 184320
    assert encoder["int8_bytes"] == 212480
    assert encoder["float32_bytes"] == 821760
    assert encoder["ratio_to_int8"] == pytest.approx(
        212480 / (packed + 640 * 12)
    )
    assert report["file"]["float32_bytes"] == 4 * (205440 + 642 + 800)
    row = report["tensors"][0]
    assert row["name"] == "layer_0_query/kernel"
    assert (row["encoding"], row["shape"]) == ("packed", [640, 320])


@pytest.mark.parametrize("name", encodings.NAMES)
def test_weights_of_several_subgraphs_count_once(contents, name):
    report = size.report(encodings.apply(name, contents))
    assert [(row["name"], row["part"]) for row in report["tensors"]] == [
        ("layer_0_query/kernel", "encoder"),
        ("classifier/kernel", "head"),
        ("token_embedding/embeddings", "embeddings"),
    ]


def test_a_table_counts_whatever_reads_it(contents):
    # The position table is sliced, not looked up.
    model = flatbuffer.read(contents)
    code = model.operatorCodes[1]
    code.builtinCode = schema.BuiltinOperator.SLICE
    code.deprecatedBuiltinCode = code.builtinCode
    report = size.report(flatbuffer.write(model))
    assert report["embeddings"]["bytes"] == 804


def test_zipped_is_deflate_of_the_file(contents):
    report = size.report(contents)
    # Not in one piece: the borders of deflate's blocks are others.
    whole = len(zlib.compress(contents, 9))
    assert report["file"]["zipped_bytes"] == pytest.approx(whole, rel=0.03)
    # Zeros in the encoder shrink; a packed one has none left.
    assert report["encoder"]["zipped_bytes"] < 0.2 * 212480
    packed = size.report(encodings.apply("packed", contents))["encoder"]
    assert packed["zipped_bytes"] > 0.8 * packed["bytes"]


def test_a_model_without_an_encoder_has_no_ratio():
    contents = lite_files.make([np.ones((4, 16), np.int8)], names=["dense"])
    report = size.report(contents)
    assert report["encoder"]["bytes"] == 0
    assert report["encoder"]["ratio_to_float32"] is None
    assert report["paper_ratio"] is None
    assert report["head"]["weights"] == 64


def test_the_report_is_json_and_a_table(contents):
    report = size.report(encodings.apply("packed", contents))
    assert json.loads(json.dumps(report)) == report
    stream = io.StringIO()
    size.show(report, rich.console.Console(file=stream, width=120))
    text = stream.getvalue()
    assert "layer_0_query/kernel" in text and "640 x 320" in text
    assert f"{report['file']['bytes']:,}" in text
    assert "zeros and int8 alone, 40.0x" in text
    assert "90.0%" in text


def test_corrupt_packed_weights_are_said(contents):
    broken = bytearray(encodings.apply("packed", contents))
    broken[broken.index(b"TPW1") + 40] ^= 1
    with pytest.raises(ValueError, match="checksum"):
        size.report(bytes(broken))
