"""Canonical Huffman codes of at most 12 bits, read from the lowest bit on."""

import numpy as np

MAX_LENGTH = 12


def code_lengths(counts: np.ndarray) -> np.ndarray:
    """Lengths of the best prefix code that keeps to MAX_LENGTH bits.

    Follows Larmore and Hirschberg 1990 (package-merge).

    Args:
        counts: int64 [symbols], how often each occurs; at most 4096 symbols.

    Returns:
        uint8 [symbols], in bits; 0 for a symbol that does not occur, and for
        the only one that does: it needs no bits.
    """
    lengths = np.zeros(len(counts), np.uint8)
    symbols = np.flatnonzero(counts)
    if len(symbols) < 2:
        return lengths
    leaves = counts[symbols].astype(np.int64)
    # members[i, j]: how often symbol j is in package i.
    single = np.eye(len(symbols), dtype=np.uint8)
    weights, members = leaves, single
    for _ in range(MAX_LENGTH - 1):
        order = np.argsort(weights, kind="stable")
        order = order[: len(order) // 2 * 2].reshape(-1, 2)
        weights = np.concatenate([leaves, weights[order].sum(1)])
        members = np.concatenate([single, members[order].sum(1, np.uint8)])
    best = np.argsort(weights, kind="stable")[: 2 * len(symbols) - 2]
    lengths[symbols] = members[best].sum(0)
    return lengths


def codes(lengths: np.ndarray) -> np.ndarray:
    """Canonical codes as uint32 [symbols], first bit lowest.

    Among codes of one length those of higher symbols are higher, read with
    the first bit highest, as in RFC 1951, section 3.2.2.
    """
    result = np.zeros(len(lengths), np.uint32)
    code, previous = 0, 0
    for symbol in np.lexsort((np.arange(len(lengths)), lengths)):
        length = int(lengths[symbol])
        if not length:
            continue
        code <<= length - previous
        previous = length
        result[symbol] = int(f"{code:0{length}b}"[::-1], 2)
        code += 1
    return result


def decoding_table(lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Symbol and length behind each run of MAX_LENGTH bits.

    Args:
        lengths: uint8 [symbols].

    Returns:
        int64 [4096] symbols and lengths; the index has the first bit lowest.

    Raises:
        ValueError: if the lengths do not make a whole prefix code.
    """
    used = lengths[lengths > 0].astype(np.int64)
    if (used > MAX_LENGTH).any() or (1 << MAX_LENGTH - used).sum() != (
        1 << MAX_LENGTH
    ):
        raise ValueError("The code lengths make no prefix code.")
    table_symbols = np.empty(1 << MAX_LENGTH, np.int64)
    table_lengths = np.empty(1 << MAX_LENGTH, np.int64)
    for symbol, code in enumerate(codes(lengths)):
        if lengths[symbol]:
            table_symbols[code :: 1 << int(lengths[symbol])] = symbol
            table_lengths[code :: 1 << int(lengths[symbol])] = lengths[symbol]
    return table_symbols, table_lengths
