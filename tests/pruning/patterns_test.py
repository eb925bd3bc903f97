"""Patterns are named outputs x inputs; kernels are stored [in, out]."""

import numpy as np
import pytest

from tf_pof.pruning import selection
from tf_pof.pruning.patterns import Pattern

RNG = np.random.default_rng(0)


def block_mask_by_loops(weights, zeros, rows, columns):
    """Scores [out, in] blocks one by one, kills the `zeros` smallest."""
    kernel = np.abs(weights.T)
    outputs, inputs = kernel.shape
    blocks = []
    # Index order is that of the stored kernel: inputs first.
    for i in range(0, inputs, columns):
        for o in range(0, outputs, rows):
            block = kernel[o : o + rows, i : i + columns]
            blocks.append((float(np.mean(block, dtype=np.float64)), o, i))
    order = sorted(range(len(blocks)), key=lambda k: (blocks[k][0], k))
    mask = np.ones(kernel.shape, bool)
    for k in order[:zeros]:
        _, o, i = blocks[k]
        mask[o : o + rows, i : i + columns] = False
    return mask.T, len(blocks)


@pytest.mark.parametrize("name", ["1x4", "4x1", "1x16", "16x4", "3x5"])
@pytest.mark.parametrize("shape", [(32, 48), (33, 50), (3, 2), (1, 1)])
@pytest.mark.parametrize("sparsity", [0.0, 0.5, 0.9, 0.99])
def test_blocks_equal_a_loop_over_them(name, shape, sparsity):
    rows, columns = map(int, name.split("x"))
    weights = RNG.normal(size=shape).astype(np.float32)
    _, total = block_mask_by_loops(weights, 0, rows, columns)
    zeros = int(round(sparsity * 100)) * total // 100
    expected, _ = block_mask_by_loops(weights, zeros, rows, columns)
    mask = selection.select(weights, sparsity, name)
    np.testing.assert_array_equal(mask, expected)
    assert Pattern.parse(name).num_units(shape) == total


def test_1x4_is_one_output_of_four_inputs():
    weights = np.ones((4, 4), np.float32)
    weights[:, 2] = 0.1
    mask = selection.select(weights, 0.25, "1x4")
    assert mask[:, 2].sum() == 0 and mask.sum() == 12
    mask = selection.select(weights.T, 0.25, "4x1")
    assert mask[2].sum() == 0 and mask.sum() == 12


def test_ragged_edge_block_is_its_own_mean():
    # Inputs 0..3 of output 0 mean 0.5; the edge block holds one weight, 0.6.
    weights = np.array([[0.5], [0.5], [0.5], [0.5], [0.6]], np.float32)
    mask = selection.select(weights, 0.5, "1x4")
    assert mask[:, 0].tolist() == [False] * 4 + [True]


def test_equal_blocks_go_by_index():
    mask = selection.select(np.ones((8, 2), np.float32), 0.5, "1x4")
    assert mask[:4].sum() == 0 and mask[4:].all()


@pytest.mark.parametrize("inputs", [1, 2, 3, 4, 7, 16])
@pytest.mark.parametrize("name", ["2:4", "1:4", "4:8"])
def test_n_of_m_consecutive_inputs_live(inputs, name):
    n, m = map(int, name.split(":"))
    weights = RNG.normal(size=(inputs, 6)).astype(np.float32)
    mask = selection.select(weights, 0.95, name)
    for output in range(6):
        for start in range(0, inputs, m):
            group = np.abs(weights[start : start + m, output])
            live = mask[start : start + m, output]
            assert live.sum() == min(n, group.size)
            largest = np.argsort(-group)[: live.sum()]
            assert live[largest].all()


def test_n_m_ramp_adds_zeros_to_every_group():
    weights = RNG.normal(size=(16, 3)).astype(np.float32)
    zeros = [
        16 * 3 - selection.select(weights, s, "2:4").sum()
        for s in (0.0, 0.24, 0.25, 0.49, 0.5, 0.9)
    ]
    assert zeros == [0, 0, 12, 12, 24, 24]


def test_n_m_ties_go_by_index():
    mask = selection.select(np.ones((4, 1), np.float32), 0.5, "2:4")
    assert mask[:, 0].tolist() == [False, False, True, True]


@pytest.mark.parametrize(
    "name", ["", "dense", "0x4", "4x", "2:2", "4:2", "0:4", "1x4x4", None]
)
def test_unknown_pattern(name):
    with pytest.raises(ValueError, match="is no sparsity pattern"):
        Pattern.parse(name)


@pytest.mark.parametrize("name", ["unstructured", "1x4", "16x4", "2:4"])
def test_name_round_trip(name):
    assert str(Pattern.parse(name)) == name
    assert Pattern.parse(Pattern.parse(name)) == Pattern.parse(name)


@pytest.mark.parametrize("name", ["1x4", "2:4"])
def test_structured_patterns_need_two_dimensions(name):
    with pytest.raises(ValueError, match="conv/kernel has shape"):
        selection.select(np.ones((3, 3, 4, 4)), 0.5, name, "conv/kernel")
