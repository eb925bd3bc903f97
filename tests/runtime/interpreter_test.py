"""Interpreter: LiteRT's own, with the delegate in it."""

import numpy as np
import pytest
from ai_edge_litert import interpreter as litert

from tests.export import converted, exported
from tests.runtime import built
from tf_pof import runtime
from tf_pof.export import evaluation


@pytest.fixture(scope="module", autouse=True)
def library():
    return built.library()


@pytest.fixture
def path(tmp_path):
    target = tmp_path / "model.tflite"
    target.write_bytes(converted.make("classifier").contents)
    return target


def logits(interpreter, inputs):
    return interpreter.get_signature_runner("seq_12")(**inputs)["logits"]


@pytest.mark.parametrize("threads", [1, 2])
def test_outputs_are_those_of_litert(path, threads):
    made = converted.make("classifier")
    inputs = converted.inputs(made.model, 3, 12)
    expected = logits(litert.Interpreter(str(path)), inputs)
    for source in (path, str(path), made.contents):
        found = logits(runtime.Interpreter(source, threads), inputs)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, atol=0.1 * expected.std())


def test_a_dry_run_leaves_everything_to_litert(path):
    made = converted.make("classifier")
    inputs = converted.inputs(made.model, 3, 12)
    expected = logits(litert.Interpreter(str(path)), inputs)
    found = logits(runtime.Interpreter(path, dry_run=True), inputs)
    np.testing.assert_array_equal(found, expected)


def test_the_stock_interpreter_takes_the_delegate(path):
    made = converted.make("classifier")
    inputs = converted.inputs(made.model, 3, 12)
    expected = logits(runtime.Interpreter(path), inputs)
    stock = litert.Interpreter(
        str(path), experimental_delegates=[runtime.delegate()]
    )
    np.testing.assert_array_equal(logits(stock, inputs), expected)


def test_bad_files_are_refused_in_one_sentence(tmp_path):
    with pytest.raises(FileNotFoundError, match="no file .*nowhere.tflite"):
        runtime.Interpreter(tmp_path / "nowhere.tflite")
    broken = tmp_path / "broken.tflite"
    broken.write_bytes(b"no model")
    for source, name in ((broken, "broken.tflite"), (b"no model", "The")):
        with pytest.raises(ValueError, match=f"{name}.* cannot be") as error:
            runtime.Interpreter(source)
        assert "\n" not in str(error.value)


def test_a_task_is_scored_through_delegates(tmp_path):
    import io

    import rich.console

    made = exported.sst2()
    path = tmp_path / "sst2.tflite"
    path.write_bytes(made.contents)
    console = rich.console.Console(file=io.StringIO())
    expected = evaluation.run(str(path), made.options, console)
    found = evaluation.run(
        str(path),
        made.options,
        console,
        delegates=[runtime.delegate(dry_run=True)],
    )
    assert found == expected


def test_one_mask_serves_all_sequences(path):
    made = converted.make("classifier")
    inputs = converted.inputs(made.model, 3, 12)
    # The others' mask: half of it is padding.
    inputs["padding_mask"] = inputs["padding_mask"][-1:]
    expected = logits(litert.Interpreter(str(path)), inputs)
    found = logits(runtime.Interpreter(path, min_sparsity=0), inputs)
    assert found.shape == (3, 3)
    np.testing.assert_allclose(found, expected, atol=0.1 * expected.std())
