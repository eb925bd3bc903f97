"""An arm64 system with LiteRT that runs here under emulation.

    python -m tests.runtime.arm64_userland [FOLDER]

It needs Debian's apt and dpkg-deb, and their packages and pip's within reach,
but installs nothing: apt keeps a state of its own and only downloads. What is
made goes into a cache folder, about 300 MB: each of its parts appears by one
rename when complete, so that an interrupted start goes on where it was.
"""

import dataclasses
import importlib.metadata
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

# Of the emulator: older ones do not know the last of these.
PROCESSORS = ("cortex-a53", "cortex-a76", "neoverse-n2")
_EMULATORS = ("qemu-aarch64", "qemu-aarch64-static")
_PACKAGES = ("python3-minimal", "python3", "libstdc++6")
_PLATFORMS = ("manylinux_2_27", "manylinux_2_28", "manylinux2014")
_KEYRING = pathlib.Path("/usr/share/keyrings/debian-archive-keyring.gpg")


class Unavailable(Exception):
    """Why there can be no arm64 system on this machine, one sentence."""


@dataclasses.dataclass(frozen=True)
class Userland:
    """Paths of the emulator, of Debian's root and of Python's packages."""

    emulator: str
    root: pathlib.Path
    site: pathlib.Path

    def python(
        self, processor: str, *arguments, timeout: float = 600
    ) -> subprocess.CompletedProcess:
        """Runs arm64 Python with LiteRT and numpy on an emulated processor.

        Args:
            processor: a name of the emulator's, as those of PROCESSORS.
            *arguments: of Python.
            timeout: in seconds.

        Returns:
            With its output as text.
        """
        (interpreter,) = _pythons(self.root)
        command = [self.emulator, "-cpu", processor, "-L", self.root]
        return subprocess.run(
            [str(part) for part in (*command, interpreter, *arguments)],
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(self.site)},
            capture_output=True,
            text=True,
            timeout=timeout,
        )


def cache_folder() -> pathlib.Path:
    """In the folder that TF_POF_CACHE names, ~/.cache/tf_pof by default."""
    root = os.environ.get("TF_POF_CACHE") or "~/.cache/tf_pof"
    return pathlib.Path(root).expanduser() / "arm64"


def prepare(folder: str | os.PathLike | None = None) -> Userland:
    """The arm64 system, downloaded at the first call only.

    Args:
        folder: where it is kept; by default `cache_folder`.

    Raises:
        Unavailable: if it cannot be had here.
    """
    folder = pathlib.Path(folder or cache_folder()).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    litert = importlib.metadata.version("ai-edge-litert")
    emulator = _emulator(folder)
    root = _part(folder / "root", _make_root)
    version = _pythons(root)[0].name.removeprefix("python")
    site = _part(
        folder / f"site-{version}-{litert}",
        lambda part: _make_site(part, version, litert),
    )
    return Userland(emulator, root, site)


def emulator(folder: str | os.PathLike | None = None) -> str:
    """Of all PROCESSORS; installed, or downloaded at the first call.

    Args:
        folder: where it is kept; by default `cache_folder`.

    Raises:
        Unavailable: if it cannot be had here.
    """
    folder = pathlib.Path(folder or cache_folder()).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    return _emulator(folder)


def _emulator(folder):
    for name in _EMULATORS:
        if (path := shutil.which(name)) and _knows_all(path):
            return path
    return str(_part(folder / "emulator", _make_emulator) / _EMULATORS[0])


def _knows_all(path):
    # Its list ends with an error.
    said = subprocess.run(
        [path, "-cpu", "help"], capture_output=True, text=True
    )
    return set(PROCESSORS) <= set(said.stdout.split())


def _pythons(root):
    return sorted(root.glob("usr/bin/python3.[0-9]*[0-9]"))[-1:]


def _part(path, make):
    """A folder that `make` fills, if it is not there yet."""
    if not path.is_dir():
        with tempfile.TemporaryDirectory(dir=path.parent) as temporary:
            made = pathlib.Path(temporary, "part")
            made.mkdir()
            make(made)
            try:
                made.rename(path)
            except OSError:
                # Another process was first.
                if not path.is_dir():
                    raise
    return path


def _run(*command, cwd=None):
    command = [str(part) for part in command]
    if shutil.which(command[0]) is None:
        raise Unavailable(
            f"It needs {command[0]}, which is not installed: only Debian and "
            "what is made of it can run these tests."
        )
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    if done.returncode != 0:
        *_, line = (done.stderr or done.stdout).splitlines() or ["no reason"]
        raise Unavailable(f"{' '.join(command[:3])} .. failed: {line}")
    return done.stdout


def _apt(folder, *suffixes):
    """Options of apt for a state in `folder` and this Debian's packages.

    Args:
        suffixes: of the suites, as "-backports".
    """
    release = _run("sh", "-c", ". /etc/os-release; echo $VERSION_CODENAME")
    release = release.strip()
    wanted = "$(REPO_URI) $(RELEASE)"
    found = _run("apt-get", "indextargets", "--format", wanted)
    addresses = {
        line.split()[0]
        for line in found.splitlines()
        if line.split()[1:] == [release]
    }
    if not addresses or not _KEYRING.exists():
        raise Unavailable("It needs Debian's packages, and apt knows none.")
    source = f"deb [signed-by={_KEYRING}] {min(addresses)} {release}"
    lines = [f"{source}{suffix} main\n" for suffix in suffixes]
    for name in ("lists/partial", "cache/archives/partial"):
        (folder / name).mkdir(parents=True)
    (folder / "status").touch()
    (folder / "sources.list").write_text("".join(lines))
    return [
        f"-oDir::State::Lists={folder}/lists",
        f"-oDir::State::status={folder}/status",
        f"-oDir::Cache={folder}/cache",
        f"-oDir::Etc::SourceList={folder}/sources.list",
        "-oDir::Etc::SourceParts=/dev/null",
        "-oDebug::NoLocking=1",
        "-oAPT::Sandbox::User=",
    ]


def _make_emulator(part):
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        options = _apt(folder, "", "-backports")
        _run("apt-get", *options, "-qq", "update")
        for name in ("qemu-user", "qemu-user-static"):
            said = _run("apt-cache", *options, "madison", name)
            # The newest first.
            version = said.splitlines()[0].split("|")[1].strip()
            download = [*options, "download", f"{name}={version}"]
            _run("apt-get", *download, cwd=folder)
            (package,) = folder.glob(f"{name}_*.deb")
            _run("dpkg-deb", "-x", package, folder / name)
            for program in _EMULATORS:
                path = folder / name / "usr/bin" / program
                if path.exists() and _knows_all(path):
                    shutil.copy(path, part / _EMULATORS[0])
                    return
    raise Unavailable(
        f"It needs a qemu-aarch64 that knows {PROCESSORS[-1]}, version 9 or "
        "later, and apt has none."
    )


def _make_root(part):
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        options = [
            *_apt(folder, ""),
            "-oAPT::Architecture=arm64",
            "-oAPT::Architectures=arm64",
        ]
        _run("apt-get", *options, "-qq", "update")
        _run(
            "apt-get",
            *options,
            "-qq",
            "--yes",
            "--no-install-recommends",
            "--download-only",
            "install",
            *_PACKAGES,
        )
        for package in (folder / "cache/archives").glob("*.deb"):
            _run("dpkg-deb", "-x", package, part)


def _make_site(part, version, litert):
    platforms = [f"--platform={name}_aarch64" for name in _PLATFORMS]
    _run(
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--only-binary=:all:",
        f"--target={part}",
        f"--python-version={version}",
        *platforms,
        f"ai-edge-litert=={litert}",
    )


if __name__ == "__main__":
    print(prepare(*sys.argv[1:]))
