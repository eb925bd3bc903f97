"""Hashes of what a run reads, to notice that it was changed under its name."""

from collections.abc import Sequence
import hashlib
import os
import re

import tensorflow as tf

from tf_pof.data import records
from tf_pof.models import folder, resolve

# Files of a model that training depends on. A checkpoint's index has the
# checksums of all its tensors.
_OF_MODELS = re.compile(
    r"(bert_|tokenizer_)?config\.json|tokenizer\.json|vocab(ulary)?\.txt"
    r"|.*\.(safetensors(\.xz|\.index\.json)?|h5|bin|index)"
)
# Where keras-nlp has its vocabulary.
_SUBFOLDERS = ("", os.path.join("assets", "tokenizer"))
# A gzip file ends with the checksum and the size of what is in it.
_GZIP_END = 8


def of_files(paths: Sequence[str]) -> str:
    """Hex digest of the names and contents of files."""
    total = hashlib.sha256()
    for path in paths:
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        total.update(f"{os.path.basename(path)} {digest}\n".encode())
    return total.hexdigest()


def of_models(model: str, teacher: str | None) -> dict[str, str]:
    """Hashes of the models of a pre-training run, by its settings' names."""
    specs = {"model": model, "teacher": teacher}
    return {
        name: of_model(resolve.locate(spec))
        for name, spec in specs.items()
        if spec is not None
    }


def of_model(path: str) -> str:
    """Hex digest of a model's files.

    Args:
        path: a folder, the prefix of a checkpoint, the name of a bundled
            model, or a size, which has no files.
    """
    if os.path.exists(f"{path}.index"):
        around = os.path.dirname(os.path.abspath(path))
        return of_files([f"{path}.index", *_model_files(around, "index")])
    if not os.path.isdir(path):
        if path not in folder.bundled():
            return of_files([])
        path = folder.find(path)
    return of_files(_model_files(path))


def _model_files(path, without=None) -> list[str]:
    found = []
    for subfolder in _SUBFOLDERS:
        place = os.path.join(path, subfolder)
        for name in sorted(os.listdir(place) if os.path.isdir(place) else ()):
            file = os.path.join(place, name)
            is_other = without is not None and name.endswith(without)
            if _OF_MODELS.fullmatch(name) and os.path.isfile(file):
                found += [] if is_other else [file]
    return found


def of_pretraining_data(path: str) -> str:
    """Hex digest of a prepared data set, without reading all of it."""
    total = hashlib.sha256()
    with tf.io.gfile.GFile(os.path.join(path, "meta.json"), "rb") as file:
        total.update(file.read())
    meta = records.read_meta(path)
    for split in records.SPLITS:
        for name, _, size in meta.shards(split):
            with tf.io.gfile.GFile(os.path.join(path, name), "rb") as file:
                file.seek(max(0, size - _GZIP_END))
                total.update(f"{name} {size} {file.read().hex()}\n".encode())
    return total.hexdigest()
