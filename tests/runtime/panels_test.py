"""Activations stay in the panels of kernels that compute with them."""

import re

import numpy as np
import pytest

from tests.export import converted
from tests.runtime import built
from tests.runtime.delegate_test import (
    ISAS,
    assert_follows,
    delegated,
    inputs,
    run,
    sparse,
)
from tf_pof.export import flatbuffer
from tf_pof.export.encodings import weights


@pytest.fixture(scope="module", autouse=True)
def library():
    return built.library()


def test_verbose_says_what_runs_together_and_stays_in_panels(capfd):
    interpreter = delegated(sparse("classifier"), verbose=1, isa="scalar")
    run(interpreter, "seq_12", inputs(interpreter, "seq_12", 1))
    said = capfd.readouterr().err
    names = [f"layer_1_{part}/kernel" for part in ("key", "query", "value")]
    assert f"one call for 3 layers of one input: {' '.join(names)}\n" in said
    assert "tf_pof: stays in panels: bert/layer_1_gelu" in said


@pytest.mark.parametrize("kind", sorted(converted.KINDS))
@pytest.mark.parametrize("block, zeros", [((1, 1), 0.3), ((4, 1), 0.9)])
def test_rows_panels_and_both_mixed_change_no_bit(kind, block, zeros, capfd):
    contents = sparse(kind, block, zeros)
    expected, counts = {}, {}
    for isa in ("scalar", "best", *ISAS):
        try:
            interpreter = delegated(contents, isa=isa, verbose=1)
        except ValueError:
            continue  # not this processor's
        # Sequences of 8 and 12 tokens begin and end inside panels of 64.
        for signature in interpreter.get_signature_list():
            for batch in (2, 7):
                values = inputs(interpreter, signature, batch)
                outputs = run(interpreter, signature, values)
                key = signature, batch
                for name, array in expected.setdefault(key, outputs).items():
                    np.testing.assert_array_equal(outputs[name], array)
        said = capfd.readouterr().err
        panels = re.findall("stays in panels: bert/(.*)", said)
        counts[isa] = len(panels)
        if isa == "scalar" and kind != "span" and zeros > 0.5:
            # Embeddings, layer norms, attention and both of its neighbours.
            for part in ("embeddings_layer_norm", "_key/", "_attention/"):
                assert any(part in name for name in panels), panels
            assert sum("layer_norm" in name for name in panels) > 1
    if block == (1, 1) and "avx512vbmi" in counts:
        assert counts["avx512vbmi"] < counts["scalar"]  # rows of windows


def two_of_four(kind):
    """A model of tests.export.converted with two nonzeros in four inputs."""
    model = flatbuffer.read(converted.make(kind).contents)
    rng = np.random.default_rng(6)
    for matrix in weights.find(model):
        rows, columns = matrix.values.shape
        ranks = rng.random((rows, columns // 4, 4)).argsort(-1)
        live = (ranks < 2).reshape(rows, columns)
        small = rng.integers(1, 20, (rows, columns), np.int8)
        values = np.where(matrix.values == 0, small, matrix.values) * live
        data = values.reshape(-1).view(np.uint8)
        model.buffers[matrix.buffer].data = data
    return flatbuffer.write(model)


@pytest.mark.parametrize("kind", ["classifier", "span"])
def test_two_of_four_has_a_kernel_of_256_bits(kind, capfd):
    contents = two_of_four(kind)
    expected = {}
    for isa in ("best", *ISAS):
        try:
            interpreter = delegated(contents, isa=isa, verbose=1)
        except ValueError:
            continue  # not this processor's
        assert_follows(contents, interpreter, 3)
        for signature in interpreter.get_signature_list():
            values = inputs(interpreter, signature, 3, seed=1)
            outputs = run(interpreter, signature, values)
            first = expected.setdefault(signature, outputs)
            for name, array in first.items():
                np.testing.assert_array_equal(outputs[name], array)
        said = capfd.readouterr().err
        layers = re.findall(r"layer_\d_\w+/kernel: .* zeros: (\S+), ", said)
        assert layers
        if isa in ("avx2", "avxvnni"):
            assert set(layers) == {f"2:4_pairs_{isa}"}
        else:
            assert not any("2:4" in name for name in layers)


@pytest.mark.parametrize(
    "readers, operand, panel",
    [
        # A residual, what a layer gives to layer norms, and to layers.
        (("layer_0_attention_add", "layer_0_output_add"), 0, "embeddings"),
        (("layer_0_attention_add", "layer_0_output_add"), 1, None),
        (("layer_0_output/", "layer_1_output/"), 0, "layer_0_gelu"),
    ],
)
def test_two_steps_may_read_one_value(readers, operand, panel, capfd):
    model = flatbuffer.read(sparse("classifier", (4, 1), 0.9))
    for graph in model.subgraphs:
        first, second = (
            operator
            for reader in readers
            for operator in graph.operators
            if graph.tensors[operator.outputs[0]].name.startswith(
                f"bert/{reader}".encode()
            )
            and len(operator.inputs) > 1
        )
        second.inputs[operand] = first.inputs[operand]
    contents = flatbuffer.write(model)
    expected = {}
    for isa in ("scalar", "best", *ISAS):
        try:
            interpreter = delegated(contents, isa=isa, verbose=1)
        except ValueError:
            continue  # not this processor's
        for batch in (7, 2):
            assert_follows(contents, interpreter, batch)
            values = inputs(interpreter, "seq_12", batch)
            outputs = run(interpreter, "seq_12", values)
            first = expected.setdefault(batch, outputs)
            np.testing.assert_array_equal(outputs["logits"], first["logits"])
        said = capfd.readouterr().err
        if isa == "scalar" and panel is not None:
            assert f"tf_pof: stays in panels: bert/{panel}" in said
