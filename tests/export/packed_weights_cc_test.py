"""What Python packs, the runtime's C++ reads; hostile bytes do no harm."""

import ctypes
import pathlib
import shutil
import subprocess

from hypothesis import given, settings
import numpy as np
import pytest

from tests.export.packed_weights_test import BLOCKS, matrices, normal
from tf_pof.export.encodings import packed_encoder

SOURCES = pathlib.Path(__file__).parents[2] / "tf_pof" / "runtime" / "cc"
COMPILER = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
pytestmark = pytest.mark.skipif(
    COMPILER is None, reason="needs a C++ compiler (c++, g++ or clang++)"
)


def build(output, files, *options):
    subprocess.run(
        [
            COMPILER,
            "-std=c++17",
            "-fno-exceptions",
            "-fno-rtti",
            f"-I{SOURCES}",
            *options,
            *map(str, files),
            "-o",
            str(output),
        ],
        check=True,
    )
    return output


@pytest.fixture(scope="module")
def decode(tmp_path_factory):
    here = pathlib.Path(__file__).parent / "packed_weights_decode.cc"
    path = build(
        tmp_path_factory.mktemp("cc") / "decode.so",
        [here, SOURCES / "crc32.cc", SOURCES / "packed_weights.cc"],
        "-O2",
        "-shared",
        "-fPIC",
    )
    function = ctypes.CDLL(str(path)).Decode
    function.argtypes = [
        ctypes.c_char_p,
        ctypes.c_size_t,
        ctypes.c_int,
        ctypes.c_int,
        ctypes.c_void_p,
        ctypes.c_void_p,
    ]

    def call(packed, shape):
        """Status, and the weights by rows and by blocks."""
        rows, blocks = np.full(shape, 99, np.int8), np.zeros(shape, np.int8)
        status = function(
            packed, len(packed), *shape, rows.ctypes.data, blocks.ctypes.data
        )
        return status, rows, blocks

    return call


def check(decode, weights):
    packed = packed_encoder.encode(weights)
    status, rows, blocks = decode(packed, weights.shape)
    assert status == 0
    np.testing.assert_array_equal(rows, weights)
    np.testing.assert_array_equal(blocks, weights)


@settings(max_examples=100, deadline=None)
@given(weights=matrices())
def test_cc_reads_what_python_writes(decode, weights):
    check(decode, weights)


@pytest.mark.parametrize("sparsity", [0, 0.5, 0.9, 0.999])
def test_cc_reads_a_matrix_of_many_groups(decode, sparsity):
    check(decode, normal(1000, 515, sparsity))


def test_cc_notices_every_changed_byte(decode):
    weights = normal(33, 40, 0.8)
    packed = packed_encoder.encode(weights)
    for at in range(len(packed)):
        broken = bytearray(packed)
        broken[at] ^= 0x20
        assert decode(bytes(broken), weights.shape)[0] != 0


@pytest.mark.slow
def test_cc_survives_hostile_bytes_under_sanitizers(tmp_path):
    random = np.random.default_rng(0)
    seeds = []
    for i, block in enumerate(BLOCKS):
        shape = 48 // block[0] + 1, 60 // block[1] + 1
        live = np.kron(random.random(shape) < 0.2, np.ones(block, np.int8))
        weights = random.integers(-9, 10, live.shape) * live
        seeds.append(tmp_path / f"seed_{i}")
        seeds[-1].write_bytes(packed_encoder.encode(weights.astype(np.int8)))
    tests = SOURCES / "tests"
    program = build(
        tmp_path / "test",
        [
            tests / "packed_weights_test.cc",
            tests / "packed_weights_fuzz.cc",
            SOURCES / "crc32.cc",
            SOURCES / "packed_weights.cc",
        ],
        "-O1",
        "-g",
        "-fsanitize=address,undefined",
        "-fno-sanitize-recover=all",
    )
    run = subprocess.run(
        [program, *seeds], capture_output=True, text=True, timeout=600
    )
    assert run.returncode == 0, run.stderr
