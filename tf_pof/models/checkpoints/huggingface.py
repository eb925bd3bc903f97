"""Hugging Face folders: config.json and model.safetensors or tf_model.h5."""

import json
import lzma
import os
import re
import shutil
import tempfile

import h5py
import numpy as np
import safetensors
import safetensors.tensorflow
from safetensors.numpy import save
import tensorflow as tf

from tf_pof import untrusted
from tf_pof._keras import keras
from tf_pof.models.checkpoints import assign
from tf_pof.models.checkpoints import tensor_names
from tf_pof.models.config import BertConfig

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
COMPACT = "model.safetensors.xz"
_INDEX = "model.safetensors.index.json"
_KERAS_WEIGHTS = "tf_model.h5"

# Buffers, and copies of the token embedding that the MLM decoder is tied to.
_TIED = r"^(cls\.predictions\.decoder|vocab_projector)\.weight$"
IGNORED = (
    r"(^|\.)embeddings\.position_ids$|^cls\.predictions\.decoder\.bias$|"
    + _TIED
)
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
    return os.path.exists(os.path.join(path, CONFIG)) and any(
        os.path.exists(os.path.join(path, name))
        for name in (WEIGHTS, COMPACT, _INDEX, _KERAS_WEIGHTS)
    )


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
    """The weights file's path and its tensors under normalised names.

    Names get the prefix "bert." or "distilbert." that headless models lack,
    and "weight"/"bias" for the older "gamma"/"beta". Values are float32.

    Raises:
        ValueError: if there are no weights, or they cannot be read.
    """
    path = os.path.join(folder, WEIGHTS)
    if os.path.exists(path):
        tensors = _read_safetensors(path)
    elif os.path.exists(os.path.join(folder, COMPACT)):
        path = os.path.join(folder, COMPACT)
        tensors = _read_compact(path)
    elif os.path.exists(os.path.join(folder, _INDEX)):
        path = os.path.join(folder, _INDEX)
        with open(path, encoding="utf-8") as file:
            shards = sorted(set(json.load(file)["weight_map"].values()))
        tensors = {}
        for shard in shards:
            tensors.update(_read_safetensors(os.path.join(folder, shard)))
    elif os.path.exists(os.path.join(folder, _KERAS_WEIGHTS)):
        path = os.path.join(folder, _KERAS_WEIGHTS)
        tensors = _read_h5(path)
    else:
        raise ValueError(
            f"{folder} holds no weights: expected {WEIGHTS}, {COMPACT}, "
            f"{_INDEX} or {_KERAS_WEIGHTS}."
        )
    named = {}
    for name, value in tensors.items():
        name = re.sub(r"\.gamma$", ".weight", name)
        name = re.sub(r"\.beta$", ".bias", name)
        named[name] = value
    return path, _with_prefix(named)


def _with_prefix(tensors):
    if any(re.match(r"(distil)?bert\.", name) for name in tensors):
        return tensors
    distil = any(name.startswith("transformer.") for name in tensors)
    prefix = "distilbert." if distil else "bert."
    headless = r"^(?=(embeddings|encoder|transformer|pooler)\.)"
    return {
        re.sub(headless, prefix, name): value
        for name, value in tensors.items()
    }


def _read_safetensors(path):
    try:
        # The TensorFlow reader knows bfloat16, numpy's does not.
        with safetensors.safe_open(path, framework="tf") as file:
            return {
                name: _as_float(file.get_tensor(name).numpy())
                for name in file.keys()
            }
    except (safetensors.SafetensorError, OSError) as error:
        raise ValueError(f"{path} cannot be read: {error}.") from None


def _read_compact(path):
    # A file, because the reader of bytes does not know bfloat16.
    with tempfile.NamedTemporaryFile(suffix=".safetensors") as plain:
        try:
            with lzma.open(path) as file:
                shutil.copyfileobj(file, plain)
        except (lzma.LZMAError, EOFError) as error:
            raise ValueError(f"{path} cannot be read: {error}.") from None
        plain.flush()
        return _read_safetensors(plain.name)


def _as_float(value):
    if np.issubdtype(value.dtype, np.integer):
        return value
    return value.astype(np.float32)


def _read_h5(path):
    """Tensors of a `TFBert*` or `TFDistilBert*` weights file.

    A dataset is called "<top layer>/<model>/<layer>/.../kernel:0", where
    "layer_._0" is list item 0 and kernels are [in, out].
    """
    tensors = {}

    def visit(name, item):
        if not isinstance(item, h5py.Dataset):
            return
        # Headless models have "bert/tf_bert_model/bert/...", others may put
        # their head's name, "mlm___cls", in place of "cls".
        parts = name.split(":")[0].split("/")[2:]
        parts[0] = re.sub(r"^(mlm|nsp)___", "", parts[0])
        value = np.asarray(item)
        if parts[-1] == "kernel":
            value = value.T
        if parts[-1] in ("kernel", "embeddings"):
            parts[-1] = "weight"
        tensors[".".join(parts).replace("_._", ".")] = _as_float(value)

    try:
        with h5py.File(path) as file:
            file.visititems(visit)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error}.") from None
    return tensors


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
        folder: with weights in one of the three layouts.
        may_be_new: groups that may be absent as a whole.
        may_be_unused: groups the model may lack.
        tensors: result of `read_tensors(folder)` if already at hand.

    Raises:
        ValueError: naming a missing, extra or misshapen tensor, or an MLM
            decoder that is not tied to the token embedding.
    """
    path, stored = tensors or read_tensors(folder)
    fmt = tensor_names.hf_format(model.config)
    words = stored.get(
        "distilbert.embeddings.word_embeddings.weight"
        if fmt == "distilbert"
        else "bert.embeddings.word_embeddings.weight"
    )
    for name, value in stored.items():
        tied = re.search(_TIED, name) and words is not None
        if tied and not np.array_equal(value, words):
            raise ValueError(
                f"{path}: tensor {name!r} differs from the word embeddings, "
                "but the MLM decoder must be tied to them."
            )
    return assign.assign(
        model, fmt, stored, path, may_be_new, may_be_unused, IGNORED
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
