"""The C++ tests of the runtime, built in a temporary folder."""

import pathlib
import platform
import re
import shutil
import subprocess

import pytest

SOURCES = pathlib.Path(__file__).parents[2] / "tf_pof/runtime/cc"
# What the library may need at run time: libc with its parts, no C++ library.
LIBRARIES = {"libc.so.6", "libm.so.6", "libpthread.so.0"}
LOADER = re.compile(r"ld-linux.*\.so\.\d")
COMPILERS = ("c++", "g++", "clang++")


def run(*command, timeout=600, **kwargs):
    done = subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        timeout=timeout,
        **kwargs,
    )
    output = done.stdout + done.stderr
    assert done.returncode == 0, f"{command}\n{output[-4000:]}"
    return done.stdout


def need(*programs):
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"needs {program}, which is not installed")


def build(folder, *settings):
    """Configures and builds in `folder`; returns it."""
    run("cmake", "-S", SOURCES, "-B", folder, *settings)
    # gcc takes long over intrinsics under sanitizers, on a busy machine longer.
    run("cmake", "--build", folder, "--parallel", 2, timeout=1800)
    return folder


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    need("cmake")
    if not any(shutil.which(name) for name in COMPILERS):
        pytest.skip("needs a C++ compiler, and none is installed")
    return build(tmp_path_factory.mktemp("cc"))


def test_kernels_pass_their_tests(built):
    listed = run("ctest", "--test-dir", built, "-N")
    assert "fully_connected_test" in listed
    run("ctest", "--test-dir", built, "--output-on-failure")


@pytest.mark.skipif(
    platform.system() != "Linux", reason="reads a library of Linux"
)
def test_library_needs_nothing_but_libc(built):
    need("readelf")
    dynamic = run("readelf", "-d", built / "libtf_pof_kernels.so")
    needed = re.findall(r"NEEDED.*\[(.*)\]", dynamic)
    others = [name for name in needed if not LOADER.fullmatch(name)]
    assert others and set(others) <= LIBRARIES


def test_sources_keep_to_the_style():
    problems = []
    for path in sorted(SOURCES.rglob("*")):
        if path.suffix not in (".cc", ".h"):
            continue
        lines = path.read_text().splitlines()
        if len(lines) > 400:
            problems.append(f"{path} has more than 400 lines")
        problems += [
            f"{path}:{number} has over 80 characters"
            for number, line in enumerate(lines, 1)
            if len(line) > 80
        ]
    assert not problems


@pytest.mark.slow
@pytest.mark.parametrize("sanitizers", ["address,undefined", "thread"])
def test_sanitizers_find_nothing(tmp_path, sanitizers):
    need("cmake", "c++")
    build(
        tmp_path,
        f"-DTF_POF_SANITIZE={sanitizers}",
        "-DCMAKE_BUILD_TYPE=RelWithDebInfo",
    )
    run("ctest", "--test-dir", tmp_path, "--output-on-failure", timeout=1800)
