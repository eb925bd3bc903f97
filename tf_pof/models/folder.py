"""The model folder: config.json, model.safetensors, vocab.txt, sparsity.json.

Config and weights follow Hugging Face's names and layouts, so that its tools
read the folder; config.json's "tf_pof" section says what they cannot. Of a
quantized model quantization.json keeps the ranges; its weights are stored as
floats, before rounding.
"""

import dataclasses
import json
import logging
import os
import pathlib
import shutil
import tempfile
import types

from tf_pof._keras import keras
from tf_pof.models import bert
from tf_pof.models import weights
from tf_pof.models.checkpoints import assign
from tf_pof.models.checkpoints import huggingface
from tf_pof.models.checkpoints import tensor_names
from tf_pof.models.config import BertConfig

_LOG = logging.getLogger(__name__)
_ZOO = os.path.join(os.path.dirname(__file__), "zoo")
_VOCAB = "vocab.txt"
_SPARSITY = "sparsity.json"
_TOKENIZER = "tokenizer_config.json"
_QUANTIZATION = "quantization.json"
_VERSION = 1
_OWN_FIELDS = [field.name for field in dataclasses.fields(BertConfig)]


def save(
    model: keras.Model,
    path: str | os.PathLike,
    vocab_file: str | None = None,
    sparsity: dict | None = None,
    compact: bool = False,
) -> str:
    """Writes a model folder, replacing an older one, atomically.

    A pruned model is stored with its masks applied.

    Args:
        model: built by `build` or `load`, possibly pruned or quantized.
        path: of the folder.
        vocab_file: copied to vocab.txt; by default the model's own.
        sparsity: contents of sparsity.json (per-tensor sparsity, pattern,
            schedule, provenance); by default what the model was loaded with,
            with the zeros it has now. That it lost zeros is logged as a
            warning.
        compact: rounds the weights to bfloat16 and compresses them, as
            model.safetensors.xz.

    Returns:
        The path.

    Raises:
        ValueError: if the path holds something that is not a model folder.
        OSError: if writing fails; an older folder is then left as it was.
    """
    path = os.path.abspath(path)
    if os.path.exists(path) and not _replaceable(path):
        raise ValueError(
            f"{path} exists and is not a model folder: choose another path or "
            "remove it."
        )
    vocab_file = vocab_file or model.vocab_file
    sparsity = sparsity or _sparsity_now(model)
    files = {
        huggingface.CONFIG: _json(_config_of(model, compact)),
    }
    if compact:
        files[huggingface.COMPACT] = huggingface.to_compact_bytes(model)
    else:
        files[huggingface.WEIGHTS] = huggingface.to_bytes(model)
    if vocab_file:
        files[_VOCAB] = pathlib.Path(vocab_file).read_bytes()
    lowercase = getattr(model, "lowercase", None)
    if lowercase is not None:
        files[_TOKENIZER] = _json({"do_lower_case": lowercase})
    if sparsity:
        files[_SPARSITY] = _json(dict(sparsity))
    if hasattr(model, "quantization_state"):
        files[_QUANTIZATION] = _json(model.quantization_state())
    write_folder(path, files)
    return path


def _sparsity_now(model):
    stored = getattr(model, "sparsity", None)
    if not stored:
        return None
    now = weights.sparsity_now(model, stored)
    if now.get("zeros", 0) < stored.get("zeros", 0):
        _LOG.warning(
            "%s has lost zeros (%.1f %% -> %.1f %%): call tf_pof.lock(model) "
            "before training to keep them.",
            model.name,
            100 * stored["sparsity"],
            100 * now["sparsity"],
        )
    return now


def _json(value):
    return (json.dumps(value, indent=2, sort_keys=True) + "\n").encode()


def _config_of(model, compact):
    labels = getattr(model, "labels", None) or [
        f"LABEL_{i}" for i in range(model.num_labels)
    ]
    config = {
        **model.config.to_hf(),
        "architectures": [huggingface.architecture(model)],
        "dtype": "bfloat16" if compact else "float32",
        "tf_pof": {
            "version": _VERSION,
            "head": model.head,
            "num_labels": model.num_labels,
            "labels": list(labels),
            "config": dataclasses.asdict(model.config),
        },
    }
    if model.head == "classifier":
        config["id2label"] = {str(i): label for i, label in enumerate(labels)}
        config["label2id"] = {label: i for i, label in enumerate(labels)}
    return config


def _replaceable(path):
    return os.path.isdir(path) and (
        not os.listdir(path)
        or os.path.exists(os.path.join(path, huggingface.CONFIG))
    )


def _backup(path):
    return f"{path}.old"


def write_folder(path: str, files: dict[str, bytes]) -> None:
    """Writes all files or none: a temporary sibling is renamed at the end.

    Directories cannot be replaced in one step: the older folder is first
    renamed to "<path>.old", where `load` finds it after a crash in between.
    """
    parent = os.path.dirname(os.path.abspath(path))
    os.makedirs(parent, exist_ok=True)
    temporary = tempfile.mkdtemp(
        dir=parent, prefix=f".{os.path.basename(path)}.tmp-"
    )
    try:
        for name, contents in files.items():
            with open(os.path.join(temporary, name), "wb") as file:
                file.write(contents)
                file.flush()
                os.fsync(file.fileno())
        os.chmod(temporary, 0o777 & ~_umask())
        _sync_folder(temporary)
        backup = _backup(path)
        if os.path.exists(path):
            shutil.rmtree(backup, ignore_errors=True)
            os.rename(path, backup)
        try:
            os.rename(temporary, path)
        except OSError:
            if os.path.exists(backup):
                os.rename(backup, path)
            raise
        _sync_folder(parent)
        shutil.rmtree(backup, ignore_errors=True)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _sync_folder(path):
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def bundled() -> list[str]:
    """Names of the models that come with the package."""
    if not os.path.isdir(_ZOO):
        return []
    return sorted(
        entry.name for entry in os.scandir(_ZOO) if entry.is_dir()
    )


def find(path_or_name: str | os.PathLike) -> str:
    """The folder of a path or of a bundled model's name.

    Raises:
        ValueError: if there is neither.
    """
    path = os.fspath(path_or_name)
    for candidate in (path, _backup(path), os.path.join(_ZOO, path)):
        if os.path.isdir(candidate):
            return candidate
    raise ValueError(
        f"There is no model folder {path}, nor a bundled model of that name "
        f"({', '.join(bundled()) or 'none is bundled'})."
    )


def load(
    path_or_name: str | os.PathLike,
    head: str | None = "auto",
    num_labels: int | None = None,
    sequence_length: int | None = None,
    dtype=None,
    name: str = "bert",
    **overrides,
) -> keras.Model:
    """Loads a model folder, ours or Hugging Face's, or a bundled model.

    A head that the folder lacks, or has for another number of labels, gets new
    weights, which are logged as a warning and listed in the model's attribute
    `new_weights`.

    Args:
        path_or_name: a folder, or the name of a bundled model.
        head: None, "pretraining", "classifier", "span", or "auto" for the
            head that is stored.
        num_labels: width of the classifier; by default as stored, else 2.
        sequence_length: a static seq; None leaves it dynamic.
        dtype: policy of all layers; None takes Keras' global policy.
        name: of the Keras model.
        **overrides: fields of BertConfig, such as dropout.

    Returns:
        A model as of `tf_pof.models.bert.build`, with `vocab_file` (None or a
        path), `lowercase` (of its texts; None if unknown), `sparsity` (None or
        the contents of sparsity.json), `labels` and `new_weights`. It is a
        float model; `quantization` is None, or the contents of
        quantization.json if the head is the stored one.

    Raises:
        ValueError: naming what is missing or does not fit.
    """
    path = find(path_or_name)
    hf = huggingface.read_config(path)
    own = hf.get("tf_pof", {})
    try:
        config = BertConfig.from_hf(hf)
        if "config" in own:
            config = BertConfig(
                **{k: own["config"][k] for k in _OWN_FIELDS}
            )
        source, stored = huggingface.read_tensors(path)
        fmt = tensor_names.hf_format(config)
        groups = assign.stored_groups(config, fmt, stored)
        stored_head = own.get("head", huggingface.stored_head(config, stored))
        same_head = head in ("auto", stored_head)
        head = stored_head if head == "auto" else head
        if not own and config.family == "bert":
            # Hugging Face's config does not say whether there is a pooler.
            wanted = not same_head and head in ("pretraining", "classifier")
            config = dataclasses.replace(
                config, pooler="pooler" in groups or wanted
            )
        config = dataclasses.replace(config, **overrides)
    except (TypeError, KeyError) as error:
        raise ValueError(f"{path}: config.json: {error}.") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    labels = own.get("labels") or list(hf.get("id2label", {}).values())
    classifier = stored.get("classifier.weight")
    stored_labels = 2 if classifier is None else len(classifier)
    if num_labels is None:
        num_labels = stored_labels
    elif head == "classifier" and num_labels != stored_labels:
        # A head for other labels is of no use: a new one takes its place.
        labels, same_head = (), False
        stored = {k: v for k, v in stored.items() if "classifier." not in k}
    model = bert.build(
        config, head, num_labels, name, sequence_length, dtype
    )
    model.new_weights = huggingface.load_into(
        model,
        path,
        may_be_new=() if own and same_head else assign.HEADS,
        may_be_unused=() if same_head else assign.HEADS,
        tensors=(source, stored),
    )
    vocab_file = os.path.join(path, _VOCAB)
    model.vocab_file = vocab_file if os.path.exists(vocab_file) else None
    model.labels = tuple(labels) if len(labels) == num_labels else None
    sparsity = _read_json(path, _SPARSITY)
    # A plain dict would be wrapped and tracked by Keras.
    model.sparsity = sparsity and types.MappingProxyType(sparsity)
    quantization = _read_json(path, _QUANTIZATION) if same_head else None
    model.quantization = quantization and types.MappingProxyType(quantization)
    tokenizer = _read_json(path, _TOKENIZER) or {}
    model.lowercase = tokenizer.get("do_lower_case")
    return model


def _read_json(folder, name):
    path = os.path.join(folder, name)
    if not os.path.exists(path):
        return None
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not valid JSON: {error}.") from None
