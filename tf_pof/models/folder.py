"""The model folder: config.json, model.safetensors, vocab.txt, sparsity.json.

Config and weights follow Hugging Face's names and layouts, so that its tools
read the folder; config.json's "tf_pof" section says what they cannot. For a
quantized model quantization.json keeps the ranges; its weights are stored as
floats, before rounding. `tf_pof.models.saving` writes such a folder.
"""

import logging
import os
import re
import types
from typing import Annotated

import pydantic

from tf_pof._keras import keras
from tf_pof import files, untrusted
from tf_pof.data import tokenizer_files
from tf_pof.models import bert
from tf_pof.models import checkpoints
from tf_pof.models.checkpoints import assign
from tf_pof.models.checkpoints import huggingface
from tf_pof.models.stored import Description

_ZOO = os.path.join(os.path.dirname(__file__), "zoo")
SPARSITY = "sparsity.json"
QUANTIZATION = "quantization.json"
_LOG = logging.getLogger(__name__)
_Share = Annotated[float, pydantic.Field(ge=0, le=1)]
# What a float64 counts.
_Zeros = Annotated[int, pydantic.Field(ge=0, lt=2**53)]
_Size = Annotated[int, pydantic.Field(ge=1, lt=2**53)]


class _SparseTensor(untrusted.Schema):
    zeros: _Zeros = 0
    size: _Size = 1
    sparsity: _Share = 0.0


class _Sparsity(untrusted.Schema):
    """What programs compute with; the rest is told on."""

    sparsity: _Share = 0.0
    zeros: _Zeros = 0
    size: _Size = 1
    tensors: dict[str, _SparseTensor] = {}


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
    if os.path.isdir(path):
        return path
    if path in bundled():
        return os.path.join(_ZOO, path)
    raise ValueError(
        checkpoints.not_here(path)
        or f"There is no model folder {path}, nor a bundled model of that name "
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
        path), `tokenizer_settings` (of its texts; None if unknown),
        `sparsity` (None or the contents of sparsity.json), `labels` and
        `new_weights`. It is a
        float model; `quantization` is None, or the contents of
        quantization.json if the head is the stored one.

    Raises:
        ValueError: naming what is missing or does not fit.
    """
    path = find(path_or_name)
    files.recover(path)
    description = Description(path)
    source, tensors = huggingface.read_tensors(path)
    stored = description.held_against(tensors, source)
    if head == "auto":
        if stored.foreign_head:
            raise ValueError(
                f"{path} has a head that tf_pof does not read, "
                f"{stored.foreign_head}: load its encoder alone (head=None), "
                'or with a new head (head="classifier", for example).'
            )
        head = stored.head
    same_head = head == stored.head and not stored.foreign_head
    if num_labels is None:
        num_labels = stored.num_labels
    elif head == "classifier" and num_labels != stored.num_labels:
        same_head = False
    if stored.foreign_head:
        tensors = _only(r"(distil)?bert\.", tensors)
    elif not same_head:
        # A classifier for other labels is of no use: a new one takes its place.
        tensors = _only(r"(?!(pre_)?classifier\.)", tensors)
    # All that may be refused is read before the model is built.
    labels = None
    if same_head and head == "classifier":
        labels = description.labels(stored)
    sparsity = _read_sparsity(path)
    quantization = _read_quantization(path, stored) if same_head else None
    model = bert.build(
        stored.config,
        head,
        num_labels,
        name,
        sequence_length,
        dtype,
        **overrides,
    )
    all_or_none = same_head and (stored.is_ours or not stored.is_named)
    model.new_weights = huggingface.load_into(
        model,
        path,
        may_be_new=() if same_head and stored.is_ours else assign.HEADS,
        may_be_unused=() if all_or_none else assign.HEADS,
        tensors=(source, tensors),
    )
    tokenizer_files.attach(model, path)
    model.labels = labels
    # A plain dict would be wrapped and tracked by Keras.
    model.sparsity = sparsity and types.MappingProxyType(sparsity)
    model.quantization = quantization and types.MappingProxyType(quantization)
    return model


def _only(pattern, tensors):
    """The tensors whose names begin with what a pattern says."""
    return {k: v for k, v in tensors.items() if re.match(pattern, k)}


def _read_sparsity(folder) -> dict | None:
    """The contents of sparsity.json, None if there is none."""
    path = os.path.join(folder, SPARSITY)
    if not os.path.exists(path):
        return None
    contents = untrusted.read_json(path)
    untrusted.fit(contents, _Sparsity, path)
    return contents


def _read_quantization(folder, stored) -> dict | None:
    """The contents of quantization.json, None if it is not the model's."""
    path = os.path.join(folder, QUANTIZATION)
    if not os.path.exists(path):
        return None
    if not stored.is_ours or stored.is_rewritten:
        _LOG.warning(
            "%s is not used: another tool has written the weights since, so "
            "quantize the model again.",
            path,
        )
        return None
    return untrusted.read_json(path)
