"""The export program: what it writes, warns of and refuses."""

import io
import json
import types

import numpy as np
import pytest
import rich.console

import tf_pof
from tests.export import exported
from tests.tasks import tiny
from tf_pof import quantization
from tf_pof.export import program
from tf_pof.export.litert import LiteModel


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Folders of models: float, and int8 with zeros and without."""
    root = tmp_path_factory.mktemp("files")
    made = exported.sst2()
    tf_pof.save(made.model, root / "sparse", vocab_file=made.vocab)
    plain = tf_pof.load(
        tiny.save_model(
            root / "float", made.vocab, head="classifier", sparse=False
        )
    )
    dense = quantization.quantize(plain)
    dense.set_ranges(dict.fromkeys(dense.ranges(), (-4.0, 4.0)))
    tf_pof.save(dense, root / "dense")
    return root


@pytest.fixture
def unconverted(monkeypatch):
    """Takes a file that is there for the result of the conversion."""
    calls = []

    def convert(model, lengths, batch_size, progress):
        calls.append((model.name, list(lengths), batch_size))
        return exported.sst2().contents

    monkeypatch.setattr(program, "convert", convert)
    return calls


def run(files, model, output, **values):
    console = rich.console.Console(file=io.StringIO(), width=200)
    report = program.run(
        program.Settings(
            model=str(files / model), output=str(output), **values
        ),
        console,
    )
    return report, console.file.getvalue()


def test_a_file_is_converted_checked_described_and_reported(files, tmp_path):
    output, report = tmp_path / "deep/model.tflite", tmp_path / "r/report.json"
    made = exported.sst2()
    result, printed = run(
        files,
        "sparse",
        output,
        sequence_lengths=(exported.LENGTH,),
        task=made.options,
        parity_examples=16,
        license="MIT",
        report=str(report),
    )
    assert json.loads(report.read_text()) == json.loads(json.dumps(result))
    assert [p.name for p in output.parent.iterdir()] == ["model.tflite"]
    assert result["size"]["file"]["bytes"] == output.stat().st_size
    assert result["parity"]["examples"] == 16
    assert result["parity"]["agreement"] == 1
    assert 0 < result["peak_bytes"] < 2**36 and result["seconds"] > 0
    for words in ("Converting", "encoder", "logits", "Time: ", "accuracy"):
        assert words in printed
    lite = LiteModel(output)
    assert lite.details["labels"] == list(exported.LABELS)
    assert lite.sequence_lengths == [exported.LENGTH]
    data = made.data.features.inputs(np.arange(4), exported.LENGTH)
    expected = made.model(data, training=False)["logits"].numpy()
    minimum, maximum = made.model.ranges()["classifier_output_quantizer"]
    step = (maximum - minimum) / 255
    apart = np.abs(lite(data)["logits"] - expected)
    assert apart.mean() < step


def test_lengths_are_those_of_the_training(files, tmp_path, unconverted):
    length = program._trained_length
    model = types.SimpleNamespace(
        head="span", config=tiny.config(max_sequence_length=512)
    )
    task = {"task": {"name": "squad", "sequence_length": 320}}
    assert length(model, {"fine_tuning": task}) == 320
    assert length(model, {}) == 384
    model.head = "classifier"
    assert length(model, {"quantization": {"task": {"name": "x"}}}) == 128
    model.config = tiny.config()
    assert length(model, {}) == 32
    run(files, "sparse", tmp_path / "m.tflite", parity=False)
    assert unconverted == [("bert", [32], 0)]


def test_a_run_tells_its_task(files, tmp_path):
    (tmp_path / "run").mkdir()
    (files / "sparse").rename(tmp_path / "run/model")
    try:
        settings = {"task": {"name": "sst2", "sequence_length": 20}}
        (tmp_path / "run/settings.json").write_text(json.dumps(settings))
        model, provenance = program.load(str(tmp_path / "run"))
        assert provenance["quantization"] == settings
        assert program._trained_length(model, provenance) == 20
    finally:
        (tmp_path / "run/model").rename(files / "sparse")


def test_a_failed_export_leaves_what_was_there(
    files, tmp_path, unconverted, monkeypatch
):
    output = tmp_path / "model.tflite"
    output.write_bytes(b"older")

    def check(*arguments, **more):
        raise ValueError("It is wrong from layer_1_output on.")

    monkeypatch.setattr(program.parity, "check", check)
    with pytest.raises(ValueError, match="layer_1_output"):
        run(files, "sparse", output)
    assert output.read_bytes() == b"older"
    assert list(tmp_path.iterdir()) == [output]

    def replace(*paths):
        raise OSError("disk full")

    monkeypatch.setattr(program.os, "replace", replace)
    with pytest.raises(OSError, match="disk full"):
        run(files, "sparse", output, parity=False)
    assert list(tmp_path.iterdir()) == [output]


def test_a_dense_model_is_warned_of_and_not_encoded(
    files, tmp_path, unconverted
):
    output = tmp_path / "model.tflite"
    for encoding in ("packed", "tflite_1x16"):
        with pytest.raises(ValueError, match=f"not sparse.*{encoding}"):
            run(files, "dense", output, encoding=encoding)
    assert not unconverted
    _, printed = run(files, "dense", output, parity=False)
    warning = printed.splitlines()[0]
    assert warning.startswith("Warning: ") and "is not sparse" in warning
    _, printed = run(files, "sparse", output, parity=False)
    assert "Warning" not in printed


def test_encodings_are_applied_and_told(files, tmp_path, unconverted):
    dense, packed = tmp_path / "dense.tflite", tmp_path / "packed.tflite"
    run(files, "sparse", dense, parity=False)
    result, printed = run(
        files, "sparse", packed, parity=False, encoding="packed"
    )
    assert "Encoding as packed." in printed
    assert result["encoding"] == "packed"
    assert LiteModel(dense).details["encoding"] == "dense"
    with pytest.raises(ValueError, match="packed.tflite.*--encoding=dense"):
        LiteModel(packed)


def test_a_file_that_does_not_decode_to_the_compared_one_is_refused(
    files, tmp_path, unconverted, monkeypatch
):
    output = tmp_path / "packed.tflite"
    encode = program.encodings.packed.packed_encoder.encode

    def wrong(weights):
        weights = weights.copy()
        weights[0, 0] ^= 2
        return encode(weights)

    monkeypatch.setattr(
        program.encodings.packed.packed_encoder, "encode", wrong
    )
    for parity in (True, False):
        with pytest.raises(ValueError, match=r"decode .*kernel differs"):
            run(files, "sparse", output, parity=parity, encoding="packed")
    assert not list(tmp_path.iterdir())


def test_the_gate_runs_a_sparse_file_itself(
    files, tmp_path, unconverted, monkeypatch
):
    output = tmp_path / "sparse.tflite"
    compared, check = [], program.parity.check

    def record(model, contents, *arguments, **more):
        compared.append(contents)
        return check(model, contents, *arguments, **more)

    monkeypatch.setattr(program.parity, "check", record)
    result, _ = run(
        files,
        "sparse",
        output,
        sequence_lengths=(exported.LENGTH,),
        encoding="tflite_1x16",
        task=exported.sst2().options,
        parity_examples=8,
    )
    assert compared == [output.read_bytes()]
    assert result["parity"]["agreement"] == 1
    assert {row["encoding"] for row in result["size"]["tensors"]} == {
        "dense",
        "tflite_1x16",
    }


def test_the_gate_runs_what_packed_weights_decode_to(
    files, tmp_path, unconverted, monkeypatch
):
    output, compared = tmp_path / "packed.tflite", []

    def record(model, contents, *arguments, **more):
        compared.append(contents)

    monkeypatch.setattr(program.parity, "check", record)
    run(files, "sparse", output, encoding="packed")
    (dense,) = compared
    assert dense == exported.sst2().contents != output.read_bytes()
    program.encodings.check(dense, output.read_bytes())


def test_float_models_and_folders_are_refused(files, tmp_path):
    with pytest.raises(ValueError, match="not quantized.*finetune --qat"):
        run(files, "float", tmp_path / "model.tflite")
    with pytest.raises(ValueError, match="is a folder"):
        run(files, "sparse", tmp_path)
    with pytest.raises(ValueError, match="nowhere"):
        run(files, "nowhere", tmp_path / "model.tflite")
    assert not list(tmp_path.iterdir())


def test_an_encoder_without_a_head_is_exported(tmp_path):
    made = exported.sst2()
    plain = tf_pof.load(
        tiny.save_model(tmp_path / "plain", made.vocab, head=None)
    )
    model = quantization.quantize(plain)
    model.set_ranges(dict.fromkeys(model.ranges(), (-4.0, 4.0)))
    tf_pof.save(model, tmp_path / "encoder")
    found, _ = program.load(str(tmp_path / "encoder"))
    assert found.head is None
