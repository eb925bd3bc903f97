"""The runtime on emulated Arm processors: the delegate in LiteRT, the kernels.

Results must be those of this machine to the bit: kernels of all processors
are specified so. LiteRT itself need not agree with itself across processors.
"""

import json
import os
import re
import shlex
import shutil

import numpy as np
import pytest

import tf_pof
from tests.export import converted
from tests.runtime import arm64_userland, arm64_worker, cc_test
from tests.runtime import delegate_test as models
from tf_pof import quantization
from tf_pof.data import tokenizer as wordpiece
from tf_pof.export import convert

TOOLCHAIN = cc_test.SOURCES / "cmake/aarch64-linux-gnu.cmake"
# The instructions of each.
PROCESSORS = {
    "cortex-a53": {"neon", "scalar"},
    "cortex-a76": {"neondot", "neon", "scalar"},
    "neoverse-n2": {"i8mm", "neondot", "neon", "scalar"},
}
# Kernels that their layers get, by the instructions.
KERNELS = {
    "scalar": {"1x1_scalar"},
    "neon": {"1x1_interleave_neon", "4x1_interleave_neon"},
    "neondot": {
        *("1x1_interleave_neondot", "4x1_interleave_neondot"),
        "16x4_tiles_neondot",
    },
    "i8mm": {"16x8_tiles_i8mm"},
}
# Blocks of weights kept whole, and the share of zeros.
FORMS = {
    "dense": ((1, 1), 0.0),
    "1x1": ((1, 1), 0.8),
    "4x1": ((4, 1), 0.8),
}
OPTIONS = {"min_sparsity": 0, "verbose": 1}
GCC_FLAGS = {"-fstack-reuse=none"}
# What is used of Android's C library, all of it there in version 24; two have
# other names in the headers that are compiled with here.
BIONIC = {
    *("__errno_location", "__isoc99_sscanf", "stderr"),
    *("calloc", "free", "malloc", "posix_memalign"),
    *("memchr", "memcmp", "memcpy", "memmove", "memset"),
    *("strchr", "strcmp", "strcpy", "strerror", "strlen"),
    *("close", "flock", "fstat", "mkdir", "mkostemps", "open", "read"),
    *("rename", "unlink", "write"),
    *("geteuid", "getpid", "mmap", "munmap"),
    *("fclose", "fgets", "fopen", "fprintf", "fputc", "fputs", "fwrite"),
    *("snprintf", "strtod", "strtol", "erfcf", "tanhf"),
    *("clock_gettime", "getauxval", "madvise", "sched_yield", "sysconf"),
    *("pthread_atfork", "pthread_once"),
    *("pthread_cond_broadcast", "pthread_cond_destroy", "pthread_cond_init"),
    *("pthread_cond_wait", "pthread_create", "pthread_join"),
    *("pthread_mutex_destroy", "pthread_mutex_init", "pthread_mutex_lock"),
    "pthread_mutex_unlock",
}
TEXTS = (
    "the keeper of the light wrote a letter to the harbour every winter .",
    "prices rose by four per cent , and the bank said that it would wait .",
    "she could not remember who had told her of the house by the river .",
)
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """The folder of the library and of its tests, compiled for Arm."""
    cc_test.need("cmake", "aarch64-linux-gnu-g++")
    return cc_test.build(
        tmp_path_factory.mktemp("arm64"),
        f"-DCMAKE_TOOLCHAIN_FILE={TOOLCHAIN}",
        "-DCMAKE_EXPORT_COMPILE_COMMANDS=ON",
    )


@pytest.fixture(scope="module")
def emulator():
    return available(arm64_userland.emulator)


def available(prepare):
    try:
        return prepare()
    except arm64_userland.Unavailable as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("processor", PROCESSORS)
def test_kernels_pass_their_tests(compiled, emulator, processor, tmp_path):
    link = tmp_path / "qemu-aarch64"
    link.symlink_to(emulator)
    said = cc_test.run(
        "ctest",
        "--test-dir",
        compiled,
        "--output-on-failure",
        timeout=1800,
        env=os.environ
        | {
            "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}",
            "QEMU_CPU": processor,
        },
    )
    assert "fully_connected_test" in said


def test_sources_compile_for_android(compiled, tmp_path):
    names = ["clang++", *(f"clang++-{x}" for x in range(30, 13, -1))]
    clang = next(filter(shutil.which, names), None)
    if clang is None:
        pytest.skip("needs clang++, which is not installed")
    cc_test.need("aarch64-linux-gnu-nm")
    commands = json.loads((compiled / "compile_commands.json").read_text())
    defined, undefined = set(), set()
    for i, command in enumerate(commands):
        if "_test.dir/" in command["command"]:
            continue
        _, *flags = shlex.split(command["command"])
        flags = [flag for flag in flags if flag not in GCC_FLAGS]
        flags[flags.index("-o") + 1] = tmp_path / f"{i}.o"
        cc_test.run(
            clang,
            "--target=aarch64-linux-android24",
            "-isystem",
            "/usr/aarch64-linux-gnu/include",
            "-Werror",
            *flags,
            cwd=command["directory"],
        )
        symbols = cc_test.run("aarch64-linux-gnu-nm", tmp_path / f"{i}.o")
        for line in symbols.splitlines():
            *_, kind, name = line.split()
            (undefined if kind == "U" else defined).add(name)
    assert "tflite_plugin_create_delegate" in defined
    assert undefined - defined <= BIONIC


def bundled():
    """The .tflite of the trained encoder that tf_pof comes with."""
    model = tf_pof.load("minilm_l6_90", head=None)
    tokenizer = wordpiece.WordPiece(model.vocab_file)
    inputs = tokenizer.encode(TEXTS, 32)
    quantized = quantization.calibrate(tf_pof.quantize(model), [inputs])
    return convert.convert(quantized, (32,), 0), inputs


@pytest.fixture(scope="module")
def cases():
    """Names of models, their .tflite, and inputs by signature.

    All have their weights as they are, and packed.
    """
    found = {}
    for kind in converted.KINDS:
        for form, (block, zeros) in FORMS.items():
            contents = models.sparse(kind, block, zeros)
            runner = models.stock(contents)
            found[f"{kind}_{form}"] = contents, {
                signature: models.inputs(runner, signature, batch=3)
                for signature in runner.get_signature_list()
            }
    contents, x = bundled()
    found["minilm"] = contents, {"serving_default": x}
    return found | {
        f"{name}_packed": (models.pack(contents), x)
        for name, (contents, x) in found.items()
    }


@pytest.mark.parametrize("processor", PROCESSORS)
def test_delegate_gives_in_litert_what_it_gives_here(
    compiled, cases, processor, tmp_path, capfd
):
    system = available(arm64_userland.prepare)
    for name, (contents, inputs) in cases.items():
        (tmp_path / f"{name}.tflite").write_bytes(contents)
        for signature, values in inputs.items():
            np.savez(tmp_path / f"{name}.{signature}.inputs.npz", **values)
    done = system.python(
        processor,
        arm64_worker.__file__,
        tmp_path,
        compiled / "libtf_pof_delegate.so",
        *(f"{key}={value}" for key, value in OPTIONS.items()),
    )
    assert done.returncode == 0, done.stderr[-4000:]
    capfd.readouterr()
    expected_lines = 0
    for name, (contents, inputs) in cases.items():
        here = models.delegated(contents, **OPTIONS)
        # What runs on all the processor's sets of instructions.
        said = capfd.readouterr().err.count("tf_pof: runs ")
        assert said > 0
        expected_lines += said * len(PROCESSORS[processor])
        for signature, values in inputs.items():
            expected = models.run(here, signature, values)
            found = outputs(tmp_path, f"{name}.{signature}")
            litert = found.pop("litert", None)
            assert set(found) == PROCESSORS[processor]
            for isa, arrays in found.items():
                assert set(arrays) == set(expected)
                for key, array in expected.items():
                    np.testing.assert_array_equal(
                        arrays[key], array, f"{name}, {isa}"
                    )
            for key, array in (litert or {}).items():
                # Levels of int8 tensors that round apart, some 0.02 each.
                assert np.abs(array - expected[key]).mean() <= 0.02
    assert done.stderr.count("tf_pof: runs ") == expected_lines
    taken = set(re.findall(r"zeros: (\w+), the cheapest kernel", done.stderr))
    assert taken >= set.union(*(KERNELS[x] for x in PROCESSORS[processor]))


def outputs(folder, stem):
    """Arrays by name, by what computed them."""
    found = {}
    for path in folder.glob(f"{stem}.*.npz"):
        _, _, engine, _ = path.name.split(".")
        if engine != "inputs":
            with np.load(path) as arrays:
                found[engine] = dict(arrays)
    return found
