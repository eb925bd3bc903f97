"""Writes the model folder that `tf_pof.models.folder` reads."""

import contextlib
import dataclasses
import logging
import os

from tf_pof._keras import keras
from tf_pof import files, untrusted
from tf_pof.data import tokenizer_files
from tf_pof.models import stored, weights
from tf_pof.models.checkpoints import assign, huggingface, tensor_names
from tf_pof.models.config import BertConfig
from tf_pof.models.folder import QUANTIZATION, SPARSITY

_LOG = logging.getLogger(__name__)
# All files that saving writes; nothing else in a folder is ever touched.
_NAMES = (
    huggingface.CONFIG,
    huggingface.WEIGHTS,
    huggingface.COMPACT,
    tokenizer_files.VOCAB,
    tokenizer_files.CONFIG,
    SPARSITY,
    QUANTIZATION,
)


def save(
    model: keras.Model,
    path: str | os.PathLike,
    vocab_file: str | None = None,
    sparsity: dict | None = None,
    compact: bool = False,
) -> str:
    """Writes a model folder, or replaces the model in one.

    The files of a model are replaced as a set, all or none; other files of the
    folder stay as they are. A pruned model is stored with its masks applied.

    Args:
        model: built by `build` or `load`, possibly pruned or quantized.
        path: of the folder.
        vocab_file: becomes vocab.txt; by default the model's own.
        sparsity: contents of sparsity.json (per-tensor sparsity, pattern,
            schedule, provenance); by default what a pruned model reports, or
            what the model was loaded or stripped with, with the zeros it has
            now. That it lost zeros, or that its schedule is not at its end, is
            logged as a warning.
        compact: rounds the weights to bfloat16 and compresses them, as
            model.safetensors.xz.

    Returns:
        The path.

    Raises:
        ValueError: if the path is a file, or a file of the folder that would
            be replaced is not a model's, or as of `check_savable`.
        OSError: if writing fails; an older model is then left as it was.
    """
    path = os.path.abspath(path)
    check_savable(model)
    vocab_file = vocab_file or model.vocab_file
    now = _sparsity_now(model)
    sparsity = sparsity or now
    written = {
        # In the order of ids, not of their texts.
        huggingface.CONFIG: files.json_bytes(_config_of(model, compact)),
    }
    if compact:
        written[huggingface.COMPACT] = huggingface.to_compact_bytes(model)
    else:
        written[huggingface.WEIGHTS] = huggingface.to_bytes(model)
    written |= tokenizer_files.written(model, vocab_file)
    if sparsity:
        written[SPARSITY] = _json(dict(sparsity))
    if hasattr(model, "quantization_state"):
        written[QUANTIZATION] = _json(model.quantization_state())
    files.write_set(path, written, remove=_replaced(path, written))
    return path


def _json(value):
    return files.json_bytes(value, sort_keys=True)


def check_savable(model: keras.Model) -> None:
    """Makes sure, before any work, that a model can be saved.

    It takes milliseconds whatever the model's size, since no weight is read.

    Args:
        model: as of `save`.

    Raises:
        ValueError: if it was not made by `build` or `load`, has a tensor that
            the files have no name for, or labels that do not fit its outputs.
    """
    if not isinstance(getattr(model, "config", None), BertConfig):
        raise ValueError(
            f"{getattr(model, 'name', model)} was not made by tf_pof.build or "
            "tf_pof.load: save it as Keras does, with its method save."
        )
    assign.named(model, tensor_names.hf_format(model.config))
    _labels_of(model)


def check_path(path: str | os.PathLike) -> None:
    """Makes sure, before any work, that `save` can write to a path.

    Raises:
        ValueError, OSError: as `save` would.
    """
    path = os.fspath(path)
    files.require_folder_path(path, "The model")
    _replaced(path, _NAMES)


def remove(path: str | os.PathLike) -> None:
    """Removes a model that `save` wrote, and its folder if that is all.

    Raises:
        ValueError: if the path holds something else.
        OSError: if a file cannot be removed.
    """
    for name in _replaced(os.fspath(path), ()):
        os.unlink(os.path.join(path, name))
    with contextlib.suppress(OSError):
        os.rmdir(path)


def _replaced(path, written) -> list[str]:
    """Files of an older model of ours that a new one does not have.

    Raises:
        ValueError: if a file would be replaced that is not a model's.
    """
    if os.path.lexists(path) and not os.path.isdir(path):
        raise ValueError(f"{path} is a file: choose another path.")
    files.recover(path)
    there = [n for n in _NAMES if os.path.lexists(os.path.join(path, n))]
    if not there:
        return []
    config = {}
    if huggingface.CONFIG in there:
        try:
            config = untrusted.read_json(
                os.path.join(path, huggingface.CONFIG)
            )
        except ValueError:
            pass  # It is no model's, whatever it is.
    if not config.keys() & {"tf_pof", "model_type", "architectures"}:
        raise ValueError(
            f"{path} holds {', '.join(there)}, but is not a model folder: "
            "choose another path, or move what is there."
        )
    if "tf_pof" not in config:
        return []
    return [name for name in there if name not in written]


def _sparsity_now(model):
    if hasattr(model, "sparsity_report"):
        return model.sparsity_report()
    before = getattr(model, "sparsity", None)
    if not before:
        return None
    now = weights.sparsity_now(model, before)
    if now.get("zeros", 0) < before.get("zeros", 0):
        _LOG.warning(
            "%s has lost zeros (%.1f %% -> %.1f %%): call tf_pof.lock(model) "
            "before training to keep them.",
            model.name,
            100 * before.get("sparsity", 0),
            100 * now["sparsity"],
        )
    return now


def _labels_of(model) -> list[str]:
    """Names of the classes by id; "LABEL_0" and so on where none are given.

    Raises:
        ValueError: if they are not as many different texts as outputs.
    """
    labels = list(getattr(model, "labels", None) or ())
    if not labels or model.head != "classifier":
        return [f"LABEL_{i}" for i in range(model.num_labels)]
    if len(labels) != model.num_labels:
        raise ValueError(
            f"{model.name} has {model.num_labels} outputs, but "
            f"{len(labels)} labels: set model.labels to one for each."
        )
    for label in labels:
        if not isinstance(label, str) or labels.count(label) > 1:
            raise ValueError(
                f"{model.name} has {label!r} among its labels, but each must "
                "be a text of its own: set model.labels."
            )
    return labels


def _config_of(model, compact):
    labels = _labels_of(model)
    config = {
        **model.config.to_hf(),
        "architectures": [huggingface.architecture(model)],
        "dtype": "bfloat16" if compact else "float32",
        "tf_pof": {
            "version": stored.VERSION,
            "head": model.head,
            "num_labels": model.num_labels,
            "labels": list(labels),
            "config": dataclasses.asdict(model.config),
        },
    }
    if model.head == "classifier":
        config["id2label"] = {str(i): label for i, label in enumerate(labels)}
        config["label2id"] = {label: i for i, label in enumerate(labels)}
    return {name: config[name] for name in sorted(config)}
