"""Builds the delegate's library from its C++ sources with CMake.

`pip install` does so through setup.py, and bin/* through `python -m
tf_pof.runtime.build` when sources of a checkout have changed. Where it cannot
be built everything else works; why stands in a file in the library's place,
as pip shows nothing of an installation that succeeds.
"""

import os
import pathlib
import platform
import re
import shutil
import subprocess
import sys
import tempfile

from tf_pof.runtime.installed import FOLDER, LIBRARY, REASON

SOURCES = pathlib.Path(__file__).parent / "cc"
_TARGET = "tf_pof_delegate"
_ERROR = re.compile(r"\berror: |CMake Error|\*\*\* ")
_INSTALL = "(on Debian and Ubuntu: apt install cmake g++)"


def missing() -> str:
    """What cannot be done without on this machine, "" if all is there."""
    if platform.system() != "Linux":
        return f"it is made for Linux, and this is {platform.system()}"
    compilers = [os.environ.get("CXX", "c++"), "g++", "clang++"]
    needed = {
        "CMake": ["cmake"],
        "a C++ compiler": [name.split()[0] for name in compilers if name],
        "make or ninja": ["make", "gmake", "ninja"],
    }
    lacking = [
        what
        for what, names in needed.items()
        if not any(map(shutil.which, names))
    ]
    if not lacking:
        return ""
    return f"it needs {', '.join(lacking)} {_INSTALL}"


def build(
    destination: str | os.PathLike,
    folder: str | os.PathLike,
    target: str = _TARGET,
) -> str:
    """Puts the library, or the reason why there is none, into a folder.

    Args:
        destination: that LIBRARY or REASON is put into.
        folder: for CMake; what it holds is not compiled again.
        target: of CMakeLists.txt.

    Returns:
        The reason, "" if the library was built.

    Raises:
        OSError: if a folder cannot be written.
    """
    destination = pathlib.Path(destination)
    destination.mkdir(parents=True, exist_ok=True)
    reason = missing() or _compile(pathlib.Path(folder), target)
    if reason:
        _replace(destination / REASON, f"{reason}\n".encode())
        (destination / LIBRARY).unlink(missing_ok=True)
        return reason
    library = pathlib.Path(folder, f"lib{target}.so")
    _replace(destination / LIBRARY, library.read_bytes())
    (destination / REASON).unlink(missing_ok=True)
    return ""


def _compile(folder, target):
    """Runs CMake; returns what went wrong."""
    cache = folder / "CMakeCache.txt"
    home = f"CMAKE_HOME_DIRECTORY:INTERNAL={SOURCES}\n"
    if cache.exists() and home not in cache.read_text():
        # Of a checkout that has moved.
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    # PYTHONPATH: pip hides site-packages by it, where CMake's wheel lives.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    if not (shutil.which("make") or shutil.which("gmake")):
        environment.setdefault("CMAKE_GENERATOR", "Ninja")
    configure = ["cmake", "-S", SOURCES, "-B", folder, "-DTF_POF_TESTS=OFF"]
    make = ["cmake", "--build", folder, "--target", target]
    for command in (configure, [*make, "--parallel", str(os.cpu_count())]):
        done = subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if done.returncode != 0:
            print(done.stdout, file=sys.stderr)
            return f"CMake or the compiler failed ({_error(done.stdout)})"
    return ""


def _error(output):
    """The first line that tells of one."""
    lines = output.splitlines()
    told = [line for line in lines if _ERROR.search(line)] or lines[-1:]
    return " ".join(" ".join(told[:1]).split()) or "without a word"


def _replace(path, contents):
    """Writes a file at once: others may be running what it holds."""
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        file.write(contents)
    os.chmod(file.name, 0o644)
    os.replace(file.name, path)


def main() -> None:
    """Builds into the checkout."""
    root = pathlib.Path(__file__).parents[2]
    reason = build(FOLDER, root / "dist/build/runtime")
    if reason:
        print(
            f"tf_pof: the library of the sparse runtime was not built: "
            f"{reason}; everything else works without it.",
            file=sys.stderr,
        )


if __name__ == "__main__":
    main()
