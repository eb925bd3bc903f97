"""Hugging Face folders: config.json and weights in one of several files."""

import contextlib
import json
import lzma
import os
import re

import numpy as np
import safetensors.tensorflow
from safetensors.numpy import save
import tensorflow as tf

from tf_pof import untrusted
from tf_pof._keras import keras
from tf_pof.models.checkpoints import assign
from tf_pof.models.checkpoints import parameter_names
from tf_pof.models.checkpoints import claims
from tf_pof.models.checkpoints import tensor_names
from tf_pof.models.checkpoints import weight_files
from tf_pof.models.config import BertConfig

CONFIG = "config.json"
WEIGHTS = weight_files.SAFETENSORS
COMPACT = weight_files.COMPACT

# Copies of the token embedding and its bias, to which the decoder is tied.
_TIED = {
    "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
    "cls.predictions.decoder.bias": "cls.predictions.bias",
    "vocab_projector.weight": "distilbert.embeddings.word_embeddings.weight",
}
IGNORED = f"^({'|'.join(map(re.escape, _TIED))})$"
_CLASSES = {
    ("bert", None): "BertModel",
    ("bert", "pretraining"): "BertForPreTraining",
    ("bert", "classifier"): "BertForSequenceClassification",
    ("bert", "span"): "BertForQuestionAnswering",
    ("distilbert", None): "DistilBertModel",
    ("distilbert", "pretraining"): "DistilBertForMaskedLM",
    ("distilbert", "classifier"): "DistilBertForSequenceClassification",
    ("distilbert", "span"): "DistilBertForQuestionAnswering",
}


def is_folder(path: str) -> bool:
    """Whether `path` is a folder with a config.json and weights we read."""
    there = os.path.exists(os.path.join(path, CONFIG))
    return there and weight_files.find(path) is not None


def read_config(folder: str) -> dict:
    """The contents of config.json.

    Raises:
        ValueError: if there is none or it is not a JSON object, or gives two
            names to an id.
        OSError: if it cannot be read.
    """
    path = os.path.join(folder, CONFIG)
    try:
        contents = untrusted.read_bytes(path)
    except FileNotFoundError:
        raise ValueError(
            f"{path} does not exist: not a model folder."
        ) from None
    config = untrusted.parse_json(contents, where=path)

    def without_repeated_ids(pairs):
        # A dict would keep the last name of an id, without a word.
        ids = [key for key, _ in pairs if key.isdecimal()]
        if len(set(ids)) != len(ids):
            raise ValueError(f"{path}: id2label has an id twice.")
        return dict(pairs)

    json.loads(contents, object_pairs_hook=without_repeated_ids)
    return config


def read_tensors(folder: str) -> tuple[str, dict[str, np.ndarray]]:
    """The weights file's path and its tensors under plain names.

    `parameter_names` says what becomes of names. Buffers are left out. Values
    are float32.

    Raises:
        ValueError: if there are no weights, they cannot be read, are no
            floats, or are not what config.json describes.
    """
    config = BertConfig.from_hf(read_config(folder))
    with contextlib.ExitStack() as stack:
        path, found = weight_files.tensors(
            folder, claims.most_numbers(config), stack
        )
        names = parameter_names.plain(found, path)
        shapes = [found[name].shape for name in names]
        claims.check_sizes(config, shapes, path)
        return path, {
            plain: found[name].floats() for name, plain in names.items()
        }


def load_into(
    model: keras.Model,
    folder: str,
    may_be_new: tuple[str, ...] = (),
    may_be_unused: tuple[str, ...] = (),
    tensors: tuple[str, dict] | None = None,
) -> tuple[str, ...]:
    """Assigns a folder's weights to a model; see `assign.assign`.

    Args:
        model: to be assigned.
        folder: with weights that `weight_files` reads.
        may_be_new: groups that may be absent as a whole.
        may_be_unused: groups the model may lack.
        tensors: result of `read_tensors(folder)` if already at hand.

    Raises:
        ValueError: naming a missing, extra or misshapen tensor, or an MLM
            decoder that is not tied to the token embedding.
    """
    path, values = tensors or read_tensors(folder)
    for copy, original in _TIED.items():
        if copy in values and original in values:
            if not np.array_equal(values[copy], values[original]):
                raise ValueError(
                    f"{path}: tensor {copy!r} differs from {original!r}, to "
                    "which the MLM decoder must be tied."
                )
    fmt = tensor_names.hf_format(model.config)
    return assign.assign(
        model, fmt, values, path, may_be_new, may_be_unused, IGNORED
    )


def architecture(model: keras.Model) -> str:
    """The Hugging Face class that reads a model's folder."""
    family, head = model.config.family, model.head
    if (family, head) == ("bert", "pretraining") and not model.config.pooler:
        return "BertForMaskedLM"
    return _CLASSES[family, head]


def to_bytes(model: keras.Model) -> bytes:
    """The model's effective weights as a safetensors file."""
    return save(_tensors(model), metadata={"format": "pt"})


def to_compact_bytes(model: keras.Model) -> bytes:
    """The same in bfloat16 and xz-compressed: small, for shipping.

    `xz -d` makes of it a file that Hugging Face tools read.
    """
    tensors = {
        name: tf.cast(value, tf.bfloat16)
        for name, value in _tensors(model).items()
    }
    contents = safetensors.tensorflow.save(tensors, metadata={"format": "pt"})
    # Bytes of one kind are two apart: lp and pb tell the coder.
    lzma2 = {"id": lzma.FILTER_LZMA2, "preset": 9, "lc": 3, "lp": 1, "pb": 1}
    return lzma.compress(contents, filters=[lzma2])


def _tensors(model):
    tensors = assign.extract(model, tensor_names.hf_format(model.config))
    if model.head is not None:
        return tensors
    return {
        re.sub(r"^(distil)?bert\.", "", name): value
        for name, value in tensors.items()
    }
