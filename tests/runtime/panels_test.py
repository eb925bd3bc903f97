"""Activations stay in the panels of kernels that compute with them."""

import re

import numpy as np
import pytest

from tests.export import converted
from tests.runtime import built
from tests.runtime.delegate_test import ISAS, delegated, inputs, run, sparse


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
