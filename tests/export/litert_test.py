"""LiteModel: any batch and length, and clear words for what is no model."""

import os

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from tests.export import converted, lite_files
from tf_pof.export import flatbuffer, metadata
from tf_pof.export.litert import LiteModel


@pytest.fixture(scope="module")
def classifier():
    return LiteModel(converted.make("classifier").contents)


def pad(inputs, seq):
    return {
        k: np.pad(v, ((0, 0), (0, seq - v.shape[1]))) for k, v in inputs.items()
    }


def test_says_what_it_takes(classifier):
    names = ["padding_mask", "segment_ids", "token_ids"]
    assert classifier.input_names == names
    assert classifier.output_names == ["logits"]
    assert classifier.sequence_lengths == [8, 12]
    assert classifier.batch_size == 0
    assert classifier.details is None


@pytest.mark.parametrize("seq,runs_as", [(3, 8), (8, 8), (9, 12), (12, 12)])
def test_sequences_are_padded_to_the_nearest_signature(
    classifier, seq, runs_as
):
    from ai_edge_litert.interpreter import Interpreter

    made = converted.make("classifier")
    inputs = converted.inputs(made.model, 3, seq)
    interpreter = Interpreter(model_content=made.contents)
    runner = interpreter.get_signature_runner(f"seq_{runs_as}")
    expected = runner(**pad(inputs, runs_as))["logits"]
    found = classifier(inputs)["logits"]
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected)


def test_batches_of_any_size_in_any_order(classifier):
    made = converted.make("classifier")
    inputs = converted.inputs(made.model, 7, 12)
    whole = classifier(inputs)["logits"]
    assert whole.shape == (7, 3)
    for i in (6, 0, 3):
        one = classifier({k: v[i : i + 1] for k, v in inputs.items()})
        np.testing.assert_array_equal(one["logits"], whole[i : i + 1])
    none = classifier({k: v[:0] for k, v in inputs.items()})
    assert none["logits"].shape == (0, 3)


def test_a_fixed_batch_is_filled_up_and_cut():
    made = converted.make("span")
    lite = LiteModel(made.contents)
    assert (lite.batch_size, lite.sequence_lengths) == (2, [12])
    inputs = converted.inputs(made.model, 5, 10)
    found = lite(inputs)
    assert found["start_logits"].shape == (5, 10) == found["end_logits"].shape
    for i in range(5):
        one = lite({k: v[i : i + 1] for k, v in inputs.items()})
        np.testing.assert_array_equal(
            one["start_logits"][0], found["start_logits"][i]
        )


def test_keys_that_the_model_lacks_are_ignored_and_others_are_missed():
    made = converted.make("distilbert")
    lite = LiteModel(made.contents)
    inputs = converted.inputs(made.model, 2, 12)
    expected = lite(inputs)["logits"]
    more = {**inputs, "segment_ids": inputs["token_ids"]}
    np.testing.assert_array_equal(lite(more)["logits"], expected)
    with pytest.raises(ValueError, match="needs the input 'padding_mask'"):
        lite({"token_ids": inputs["token_ids"]})
    with pytest.raises(ValueError, match=r"one size, not .*\(1, 12\)"):
        lite({**inputs, "padding_mask": inputs["padding_mask"][:1]})
    with pytest.raises(ValueError, match="13 tokens.*12.*--sequence_lengths"):
        lite(pad(inputs, 13))


def refuse(contents, match):
    with pytest.raises(ValueError, match=match) as error:
        LiteModel(contents)
    assert "\n" not in str(error.value)


def test_corrupt_files_are_refused(tmp_path):
    contents = converted.make("distilbert").contents
    for size in (0, 3, 8, 100, len(contents) // 2, len(contents) - 9):
        refuse(contents[:size], "no .tflite|corrupt|cannot be loaded")
    refuse(b"PK\x03\x04" + contents[4:8][::-1] + contents[8:], "no .tflite")
    path = tmp_path / "broken.tflite"
    path.write_bytes(contents[:1000])
    refuse(path, "broken.tflite: ")
    with pytest.raises(OSError):
        LiteModel(tmp_path / "nowhere.tflite")


def test_a_changed_byte_is_noticed_by_the_checksum():
    made = converted.make("distilbert")
    contents = metadata.add(
        made.contents, metadata.About(), metadata.details(made.model, [12])
    )
    assert LiteModel(contents).details["sequence_lengths"] == [12]
    file = flatbuffer.read(contents)
    largest = max(
        (b.data for b in file.buffers if b.data is not None), key=len
    )
    place = contents.index(bytes(largest)) + 7
    changed = bytearray(contents)
    changed[place] ^= 4
    refuse(bytes(changed), "corrupt, or was changed after its export")


def test_other_models_are_told_from_ours():
    refuse(
        lite_files.make([np.ones((16, 16), np.int8)]),
        "not a model of bin/export_tflite.*token_ids",
    )


def test_operators_that_litert_lacks_are_named():
    file = flatbuffer.read(converted.make("distilbert").contents)
    for code in file.operatorCodes:
        if code.builtinCode == schema.BuiltinOperator.GELU:
            code.builtinCode = schema.BuiltinOperator.CUSTOM
            code.deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
            code.customCode = b"tf_pof.Special"
    refuse(
        flatbuffer.write(file), "tf_pof.Special.*delegate.*--encoding=dense"
    )


def test_what_litert_prints_stays_away(capfd, monkeypatch):
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")
    made = converted.make("distilbert")
    LiteModel(made.contents)(converted.inputs(made.model, 1, 12))
    assert capfd.readouterr().err == ""
    os.write(2, b"heard")
    assert capfd.readouterr().err == "heard"
