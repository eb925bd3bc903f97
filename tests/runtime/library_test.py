"""The library is built, found, loaded, and missed in clear words."""

import shutil

import pytest

from tests.runtime import built
from tf_pof import runtime
from tf_pof.runtime import build, installed
from tf_pof.runtime import library as libraries

PROJECT = """
cmake_minimum_required(VERSION 3.20)
project(small LANGUAGES C CXX)
add_library(tf_pof_delegate SHARED small.cc)
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """In the place of the package's folder for the library; empty."""
    monkeypatch.setattr(installed, "FOLDER", tmp_path)
    monkeypatch.delenv(libraries.VARIABLE, raising=False)
    return tmp_path


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Writes a CMake project of one source, in the place of the runtime's."""
    for program in ("cmake", "c++"):
        if shutil.which(program) is None:
            pytest.skip(f"needs {program}, which is not installed")

    def write(name, source):
        sources = tmp_path / name
        sources.mkdir(exist_ok=True)
        (sources / "CMakeLists.txt").write_text(PROJECT)
        (sources / "small.cc").write_text(source)
        monkeypatch.setattr(build, "SOURCES", sources)

    return write


def one_sentence(error):
    text = str(error.value)
    assert "\n" not in text and text.endswith(".")
    return text


def test_the_library_is_found_where_the_build_puts_it(folder):
    (folder / installed.LIBRARY).write_bytes(b"")
    assert runtime.library_path() == str(folder / "libtf_pof_delegate.so")


def test_a_variable_names_another_library(folder, monkeypatch):
    (folder / installed.LIBRARY).write_bytes(b"")
    other = folder / "other.so"
    monkeypatch.setenv("TF_POF_DELEGATE", str(other))
    with pytest.raises(FileNotFoundError) as error:
        runtime.library_path()
    assert "other.so, which TF_POF_DELEGATE names" in one_sentence(error)
    other.write_bytes(b"")
    assert runtime.library_path() == str(other)


def test_why_there_is_no_library_is_told(folder):
    with pytest.raises(FileNotFoundError) as error:
        runtime.delegate()
    assert "never built" in one_sentence(error)
    reason = "it needs CMake (apt install cmake)\n"
    (folder / installed.REASON).write_text(reason)
    with pytest.raises(FileNotFoundError) as error:
        runtime.Interpreter(b"")
    assert "(it needs CMake (apt install cmake))" in one_sentence(error)
    assert "install what is missing, then tf_pof again" in str(error.value)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_what_is_no_library_is_refused(folder):
    (folder / installed.LIBRARY).write_bytes(b"no library")
    with pytest.raises(ValueError, match="loaded: .*delegate.so"):
        runtime.delegate()


def test_unknown_instructions_are_refused():
    built.library()
    with pytest.raises(ValueError) as error:
        runtime.delegate(isa="mmx")
    assert "mmx" in str(error.value) and "\n" not in str(error.value)


def test_missing_tools_are_named_and_an_old_library_goes(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / installed.LIBRARY).write_bytes(b"of other sources")
    reason = build.build(tmp_path, tmp_path / "cmake")
    assert "CMake, a C++ compiler" in reason and "apt install" in reason
    assert (tmp_path / installed.REASON).read_text() == reason + "\n"
    assert not (tmp_path / installed.LIBRARY).exists()


def test_other_systems_are_told(tmp_path, monkeypatch):
    monkeypatch.setattr(build.platform, "system", lambda: "Darwin")
    reason = build.build(tmp_path, tmp_path / "cmake")
    assert "Linux" in reason and "Darwin" in reason


def test_the_library_is_built_and_the_reason_goes(tmp_path, project):
    project("one", "extern int one() { return 1; }")
    target = tmp_path / "lib"
    target.mkdir()
    (target / installed.REASON).write_text("it needs CMake")
    assert build.build(target, tmp_path / "cmake") == ""
    assert [path.name for path in target.iterdir()] == [installed.LIBRARY]
    assert b"_Z3onev" in (target / installed.LIBRARY).read_bytes()
    # Another checkout, as when the first one was moved.
    project("two", "extern int two() { return 2; }")
    assert build.build(target, tmp_path / "cmake") == ""
    assert b"_Z3twov" in (target / installed.LIBRARY).read_bytes()


def test_an_error_of_the_compiler_is_told(tmp_path, project, capfd):
    project("one", "int one() { return missing; }")
    reason = build.build(tmp_path / "lib", tmp_path / "cmake")
    assert "error" in reason and "missing" in reason and "\n" not in reason
    assert "small.cc" in capfd.readouterr().err
    assert not (tmp_path / "lib" / installed.LIBRARY).exists()
