"""The model folder: config.json, model.safetensors, vocab.txt, sparsity.json.

Config and weights follow Hugging Face's names and layouts, so that its tools
read the folder; config.json's "tf_pof" section says what they cannot. For a
quantized model quantization.json keeps the ranges; its weights are stored as
floats, before rounding. `tf_pof.models.saving` writes such a folder.
"""

import dataclasses
import json
import os
import types

from tf_pof._keras import keras
from tf_pof import files
from tf_pof.models import bert
from tf_pof.models.checkpoints import assign
from tf_pof.models.checkpoints import huggingface
from tf_pof.models.checkpoints import tensor_names
from tf_pof.models.config import BertConfig

_ZOO = os.path.join(os.path.dirname(__file__), "zoo")
VOCAB = "vocab.txt"
SPARSITY = "sparsity.json"
TOKENIZER = "tokenizer_config.json"
QUANTIZATION = "quantization.json"
_OWN_FIELDS = [field.name for field in dataclasses.fields(BertConfig)]


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
    for candidate in (path, os.path.join(_ZOO, path)):
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
    files.recover(path)
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
    vocab_file = os.path.join(path, VOCAB)
    model.vocab_file = vocab_file if os.path.exists(vocab_file) else None
    model.labels = tuple(labels) if len(labels) == num_labels else None
    sparsity = _read_json(path, SPARSITY)
    # A plain dict would be wrapped and tracked by Keras.
    model.sparsity = sparsity and types.MappingProxyType(sparsity)
    quantization = _read_json(path, QUANTIZATION) if same_head else None
    model.quantization = quantization and types.MappingProxyType(quantization)
    tokenizer = _read_json(path, TOKENIZER) or {}
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
