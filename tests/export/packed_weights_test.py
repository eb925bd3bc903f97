"""Packed weights: round trips, sizes against the entropy, corrupt bytes."""

import zlib

from hypothesis import given, settings, strategies as st
import numpy as np
import pytest

from tf_pof.export.encodings import (
    huffman,
    packed_decoder,
    packed_encoder,
    packed_format,
)

BLOCKS = [(1, 1), (4, 1), (1, 4), (2, 1), (1, 16), (16, 4), (3, 5)]


@st.composite
def matrices(draw):
    """Weights of any shape, density, pattern and set of values."""
    block = draw(st.sampled_from(BLOCKS))
    rows = draw(st.integers(1, 12)) * block[0]
    columns = draw(st.integers(1, 40)) * block[1]
    random = np.random.default_rng(draw(st.integers(0, 1000)))
    density = draw(st.sampled_from([0, 0.002, 0.02, 0.1, 0.5, 1]))
    live = random.random((rows // block[0], columns // block[1])) < density
    values = draw(st.sampled_from([(-128, 128), (3, 4), (-1, 2), (100, 128)]))
    weights = random.integers(*values, (rows, columns))
    return (weights * np.kron(live, np.ones(block))).astype(np.int8)


def normal(rows, columns, sparsity, seed=0):
    """Weights as magnitude pruning and a grid for each output leave them."""
    weights = np.random.default_rng(seed).normal(size=(rows, columns))
    threshold = np.quantile(np.abs(weights), sparsity)
    weights[np.abs(weights) < threshold] = 0
    scale = np.abs(weights).max(1, keepdims=True) / 127
    scale[scale == 0] = 1
    return np.round(weights / scale).astype(np.int8)


def entropy(counts):
    counts = np.asarray(counts, np.float64)
    counts = counts[counts > 0]
    return float((counts * np.log2(counts.sum() / counts)).sum())


@settings(max_examples=60, deadline=None)
@given(matrices())
def test_decoding_gives_the_weights_back(weights):
    packed = packed_encoder.encode(weights)
    np.testing.assert_array_equal(packed_decoder.decode(packed), weights)
    assert len(packed) <= weights.size + 24
    header = packed_format.header(packed)
    assert (header.rows, header.columns) == weights.shape
    assert header.nonzeros == (weights != 0).sum()


@settings(max_examples=20, deadline=None)
@given(st.lists(matrices(), min_size=1, max_size=5))
def test_matrices_decoded_together_are_those_decoded_alone(weights):
    packed = [packed_encoder.encode(matrix) for matrix in weights]
    decoded = packed_decoder.decode_all(packed)
    assert len(decoded) == len(weights)
    for matrix, expected in zip(decoded, weights):
        np.testing.assert_array_equal(matrix, expected)


@pytest.mark.parametrize("sparsity", [0.5, 0.8, 0.85, 0.9, 0.95])
def test_bits_are_within_5_percent_of_the_entropy(sparsity):
    weights = normal(768, 768, sparsity)
    zeros = (weights == 0).sum()
    places = entropy([zeros, weights.size - zeros])
    values = entropy(np.bincount(weights[weights != 0].view(np.uint8)))
    bits = 8 * len(packed_encoder.encode(weights))
    assert bits <= 1.05 * (places + values)


def test_bits_at_90_percent_meet_the_goal():
    bits = 8 * len(packed_encoder.encode(normal(768, 768, 0.9)))
    assert bits / 768**2 <= 1.2


@pytest.mark.parametrize("block", [(4, 1), (1, 4), (1, 16), (16, 4)])
def test_blocks_cost_one_place_each(block):
    shape = 512 // block[0], 512 // block[1]
    random = np.random.default_rng(1)
    live = np.kron(random.random(shape) < 0.1, np.ones(block, bool))
    weights = np.where(live, normal(512, 512, 0), 0).astype(np.int8)
    share = live.mean()
    places = entropy([shape[0] * shape[1] * x for x in (share, 1 - share)])
    values = entropy(np.bincount(weights[live].view(np.uint8)))
    bits = 8 * len(packed_encoder.encode(weights))
    assert bits <= 1.05 * (places + values)
    header = packed_format.header(packed_encoder.encode(weights))
    assert (header.block_rows, header.block_columns) == block


def test_2_of_4_costs_no_more_than_a_bitmap():
    random = np.random.default_rng(2)
    live = random.random((256, 64, 4)).argsort(-1) < 2
    weights = np.where(live.reshape(256, 256), normal(256, 256, 0), 0)
    weights = weights.astype(np.int8)
    values = entropy(np.bincount(weights[weights != 0].view(np.uint8)))
    bits = 8 * len(packed_encoder.encode(weights))
    assert bits <= weights.size + 1.03 * values


def test_a_small_matrix_by_hand():
    weights = np.array([[0, 0, 5, 0], [-2, 0, 0, 5]], np.int8)
    body = packed_encoder._coded(weights, (1, 1))
    # Gaps 2, 1, 2 and values 5, -2, 5, that is symbols 133, 126, 133: in both
    # codes the smaller symbol has the bit 0, the larger 1. Gap, value, gap ..:
    # 1 1, 0 0, 1 1 from the lowest bit on.
    lengths = bytes([1, 0, 0, 0x10])  # 126: 1 bit, 127 to 132: 0, 133: 1
    assert body == (
        bytes([1, 2, 126, 133])
        + bytes([0x11])
        + lengths
        + (1).to_bytes(4, "little")  # the group's bits end at byte 1
        + (3).to_bytes(4, "little")  # blocks
        + bytes([0b110011])
        + bytes(16)
    )


@pytest.mark.parametrize(
    "weights",
    [
        np.zeros((3, 4), np.int16),
        np.zeros((3, 0), np.int8),
        np.zeros(4, np.int8),
    ],
)
def test_what_is_no_int8_matrix_is_refused(weights):
    with pytest.raises(ValueError, match="Packed weights are int8"):
        packed_encoder.encode(weights)


def with_checksum(packed):
    """The bytes with a checksum that hides what was changed."""
    crc = zlib.crc32(packed[8:])
    return packed[:4] + crc.to_bytes(4, "little") + packed[8:]


@pytest.mark.parametrize("block", [(1, 1), (4, 2)])
def test_any_changed_byte_is_noticed_or_harmless(block):
    random = np.random.default_rng(0)
    live = random.random((40 // block[0], 24 // block[1])) < 0.2
    live = np.kron(live, np.ones(block))
    weights = (random.integers(-9, 10, (40, 24)) * live).astype(np.int8)
    packed = packed_encoder.encode(weights)
    for at in range(len(packed)):
        for change in (1, 0x80, 0xFF):
            broken = bytearray(packed)
            broken[at] ^= change
            with pytest.raises(ValueError):
                packed_decoder.decode(bytes(broken))
            if 12 <= at < 20:
                continue  # Another shape may well be a larger matrix.
            try:
                decoded = packed_decoder.decode(with_checksum(bytes(broken)))
            except ValueError:
                continue
            assert decoded.shape == weights.shape
    for size in range(len(packed)):
        with pytest.raises(ValueError):
            packed_decoder.decode(packed[:size])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=256))
def test_code_lengths_make_the_best_prefix_code(counts):
    counts = np.array(counts)
    lengths = huffman.code_lengths(counts).astype(int)
    used = counts > 0
    if used.sum() < 2:
        assert not lengths.any()
        return
    assert (lengths[used] >= 1).all() and not lengths[~used].any()
    assert (2.0 ** -lengths[used]).sum() == 1
    assert lengths.max() <= 12
    # Unlimited Huffman codes by merging the two rarest, which no limit beats.
    rest, cost = sorted(counts[used]), 0
    while len(rest) > 1:
        merged = rest[0] + rest[1]
        cost += merged
        rest = sorted([merged, *rest[2:]])
    total = (counts * lengths).sum()
    assert total >= cost
    if lengths.max() < 12:
        assert total == cost


def test_long_codes_are_cut_to_12_bits():
    # Fibonacci numbers give Huffman codes of up to 29 bits.
    counts = [1, 1]
    while len(counts) < 30:
        counts.append(counts[-1] + counts[-2])
    lengths = huffman.code_lengths(np.array(counts)).astype(int)
    assert lengths.max() == 12 and (2.0**-lengths).sum() == 1


@pytest.mark.parametrize("lengths", [[1, 1, 1], [1, 2], [13, 13], [0, 0]])
def test_lengths_of_no_whole_code_are_refused(lengths):
    with pytest.raises(ValueError, match="no prefix code"):
        huffman.decoding_table(np.array(lengths, np.uint8))
