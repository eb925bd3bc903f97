"""Google's BERT checkpoints: bert_config.json and bert_model.ckpt.*

Two kinds: TF1, with tensors by name ("bert/encoder/layer_0/...", as of
github.com/google-research/bert), and TF2, the object graph of the Model
Garden's BertEncoder or BertPretrainerV2 ("encoder/layer_with_weights-0/...").
Google's "gelu" is the tanh approximation, here "gelu_new".
"""

import contextlib
import dataclasses
import functools
import logging
import os
import pathlib
import re
import tempfile
from typing import Literal

from tf_pof._keras import keras  # isort: skip  (before TensorFlow)

import tensorflow as tf

from tf_pof import files, untrusted
from tf_pof.data import tokenizer_files
from tf_pof.models import bert
from tf_pof.models.checkpoints import assign
from tf_pof.models.checkpoints import bundle_index
from tf_pof.models.checkpoints import claims
from tf_pof.models.config import BertConfig

_LOG = logging.getLogger(__name__)

CONFIG = "bert_config.json"
_PREFIX = "bert_model.ckpt"
# TensorFlow's file of checkpoint names, with some thousand of them.
_MAX_STATE = 1 << 20
_VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"
# Optimizer slots and counters.
_IGNORED = (
    r"(^|/)(adam_[mv]|Adam(_1)?|LAMB(_1)?|global_step|save_counter|good_steps|"
    r"current_loss_scale|beta[12]_power)$|^_CHECKPOINTABLE_OBJECT_GRAPH$|"
    r"OPTIMIZER_SLOT|^optimizer/"
)
_NSP_POOLER = "next_sentence..pooler_dense"
# Names of other Model Garden versions, as (pattern, our table's name).
_TF2_ALIASES = (
    (r"^_embedding_layer/", "layer_with_weights-0/"),
    (r"^_position_embedding_layer/", "layer_with_weights-1/"),
    (r"^_type_embedding_layer/", "layer_with_weights-2/"),
    (r"^_embedding_norm_layer/", "layer_with_weights-3/"),
    (r"^masked_lm/embedding_table$", "layer_with_weights-0/embeddings"),
    (r"^masked_lm/output_bias\.Sbias$", "masked_lm/bias"),
    (r"/position_embeddings$", "/embeddings"),
    (r"/_attention_output_dense/", "/_attention_layer/_output_dense/"),
)


class _Activation(untrusted.Schema):
    """What our own bert_config.json adds to Google's."""

    tf_pof_activation: Literal["gelu", "gelu_new"] = "gelu_new"


def find(path: str) -> str | None:
    """The checkpoint prefix that a prefix or folder means, or None.

    In a folder it is the one that TensorFlow's file `checkpoint` names, as
    for tf.train.latest_checkpoint, else the one with the highest step.

    Raises:
        ValueError: if a folder holds checkpoints of several names, or of one
            name with and without a step, and nothing says which is meant.
    """
    if not os.path.isdir(path):
        path = path.removesuffix(".index")
        return path if os.path.exists(path + ".index") else None
    # Paths are never taken for patterns: they may hold brackets.
    names = [
        name.removesuffix(".index")
        for name in sorted(os.listdir(path))
        if name.endswith(".index") and ".ckpt" in name
    ]
    named = _named_by_state(path)
    if named in names:
        return os.path.join(path, named)
    if not names:
        return None
    if len(names) == 1:
        return os.path.join(path, names[0])
    steps = [re.fullmatch(r"(.*\.ckpt)-([0-9]{1,18})", name) for name in names]
    if not all(steps) or len({step[1] for step in steps}) > 1:
        raise ValueError(
            f"{path} holds the checkpoints {', '.join(names[:5])}: name one, "
            f"such as {os.path.join(path, names[0])}."
        )
    latest = max(steps, key=lambda step: int(step[2]))
    return os.path.join(path, latest[0])


def _named_by_state(folder) -> str | None:
    """The name of the latest checkpoint in the text file `checkpoint`."""
    path = os.path.join(folder, "checkpoint")
    try:
        untrusted.read_bytes(path, _MAX_STATE)
        state = tf.train.get_checkpoint_state(folder)
    except (OSError, ValueError):
        return None
    if state is None:
        return None
    # The folder may have been moved since: what counts is the last part.
    return os.path.basename(state.model_checkpoint_path)


def read_config(prefix: str) -> BertConfig:
    """The bert_config.json beside a checkpoint.

    Raises:
        ValueError: if it is missing or not what it should be.
    """
    path = os.path.join(os.path.dirname(prefix), CONFIG)
    try:
        fields = untrusted.read_json(path)
    except FileNotFoundError:
        raise ValueError(
            f"{path} does not exist: Google checkpoints need their {CONFIG}."
        ) from None
    activation = untrusted.fit(fields, _Activation, path).tf_pof_activation
    try:
        config = BertConfig.from_hf(fields)
        return dataclasses.replace(config, activation=activation)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def read_tensors(prefix: str, config: BertConfig) -> tuple[str, dict]:
    """The format ("google" or "tf2") and the tensors under its table's names.

    Raises:
        ValueError: if the checkpoint cannot be read, is no BERT or not one of
            the configuration's size.
    """
    bundle_index.check(prefix + ".index")
    with contextlib.ExitStack() as stack:
        with claims.reading(prefix):
            reader = tf.train.load_checkpoint(_without_patterns(prefix, stack))
            shapes = reader.get_variable_to_shape_map()
            dtypes = reader.get_variable_to_dtype_map()
        found = {
            name: claims.Claim(
                prefix,
                name,
                tuple(shapes[name]),
                dtypes[name].name,
                functools.partial(reader.get_tensor, name),
            )
            for name in sorted(shapes)
            if not re.search(_IGNORED, name.removesuffix(_VALUE))
        }
        claims.check_sizes(
            config, [claim.shape for claim in found.values()], prefix
        )
        values = {name: claim.floats() for name, claim in found.items()}
    if not any(name.endswith(_VALUE) for name in values):
        return "google", values
    # Where there is a next-sentence head, its pooler is the trained one: put
    # it last, so that it overrides the encoder's.
    names = sorted(values, key=lambda name: (_NSP_POOLER in name, name))
    return "tf2", {
        _tf2_name(name.removesuffix(_VALUE), config.num_layers): values[name]
        for name in names
    }


def _without_patterns(prefix, stack):
    """A prefix that TensorFlow, which takes it for a pattern, reads as it is.

    Args:
        prefix: as a user named it.
        stack: removes the links that are made if it has special characters.
    """
    if not set(prefix) & set("*?[]{}\\"):
        return prefix
    links = stack.enter_context(tempfile.TemporaryDirectory())
    folder, name = os.path.split(os.path.abspath(prefix))
    for file in os.listdir(folder):
        if file.startswith((f"{name}.index", f"{name}.data-")):
            link = _PREFIX + file.removeprefix(name)
            os.symlink(os.path.join(folder, file), os.path.join(links, link))
    return os.path.join(links, _PREFIX)


def _tf2_name(name, num_layers):
    pooler = f"layer_with_weights-{num_layers + 4}/"
    name = re.sub(r"^(model/)?(encoder|encoder_network)/", "", name)
    name = re.sub(r"^model/", "", name)
    name = name.replace(f"{_NSP_POOLER}/", pooler)
    name = re.sub(r"^_pooler_layer/", pooler, name)
    name = re.sub(
        r"^_transformer_layers/(\d+)/",
        lambda match: f"layer_with_weights-{int(match[1]) + 4}/",
        name,
    )
    for pattern, replacement in _TF2_ALIASES:
        name = re.sub(pattern, replacement, name)
    return name


def load(
    path: str, head: str | None = "auto", **build_arguments
) -> keras.Model:
    """Builds a model from a checkpoint and the bert_config.json beside it.

    Args:
        path: a prefix such as ".../bert_model.ckpt", or the folder.
        head: None, "pretraining", "classifier", "span", or "auto" for the
            stored one. New weights are logged and listed in `new_weights`.
        **build_arguments: of `bert.build`.

    Raises:
        ValueError: naming what is missing or does not fit.
    """
    prefix = find(path)
    if prefix is None:
        raise ValueError(f"There is no checkpoint {path} (no .index file).")
    files.recover(os.path.dirname(prefix))
    config = read_config(prefix)
    fmt, values = read_tensors(prefix, config)
    groups = assign.stored_groups(config, fmt, values)
    if head == "auto":
        head = next(
            (
                name
                for name, group in assign.HEAD_GROUPS.items()
                if group in groups
            ),
            None,
        )
    if "classifier" in groups and fmt == "google":
        if build_arguments.get("num_labels") is None:
            bias = values.get("output_bias", values.get("output_weights"))
            build_arguments["num_labels"] = len(bias)
    model = bert.build(config, head, **build_arguments)
    model.new_weights = _assign(model, fmt, values, prefix)
    tokenizer_files.attach(model, os.path.dirname(prefix))
    return model


def load_into(model: keras.Model, path: str) -> tuple[str, ...]:
    """Assigns a checkpoint to a model; heads may be absent or unused.

    Returns:
        Our paths of the tensors that kept their random values.

    Raises:
        ValueError: naming a missing, extra or misshapen tensor.
    """
    prefix = find(path)
    if prefix is None:
        raise ValueError(f"There is no checkpoint {path} (no .index file).")
    fmt, values = read_tensors(prefix, model.config)
    return _assign(model, fmt, values, prefix)


def _assign(model, fmt, values, prefix):
    return assign.assign(
        model, fmt, values, prefix, assign.HEADS, assign.HEADS
    )


def save(model: keras.Model, folder: str, kind: str = "tf1") -> str:
    """Writes bert_config.json, bert_model.ckpt.* and, if known, vocab.txt.

    tokenizer_config.json, which Google's own checkpoints lack, says what that
    vocabulary's tokenizer does.

    A pruned model is stored with its masks applied. TF2 checkpoints can be
    restored into the Model Garden's encoder (functional or not).

    Args:
        model: of the BERT family.
        folder: is made if need be; files of the same name are replaced, all
            or none.
        kind: "tf1" or "tf2".

    Returns:
        The checkpoint prefix.

    Raises:
        ValueError: for a DistilBERT or an unknown kind.
    """
    if kind not in ("tf1", "tf2"):
        raise ValueError(f'kind must be "tf1" or "tf2", not {kind!r}.')
    config = model.config
    if config.family != "bert":
        raise ValueError("Google's checkpoints have no DistilBERT.")
    if config.activation != "gelu_new":
        _LOG.warning(
            "%s: Google's BERT computes GELU by tanh, this model by erf; its "
            "outputs there will differ by about 1e-3.",
            folder,
        )
    written = _written(model, kind)
    fields = {
        **config.to_hf(),
        "hidden_act": "gelu",
        "tf_pof_activation": config.activation,
    }
    written[CONFIG] = files.json_bytes(fields)
    written |= tokenizer_files.written(model, model.vocab_file)
    files.write_set(folder, written)
    return os.path.join(folder, _PREFIX)


def _written(model, kind) -> dict[str, bytes]:
    """The files of the checkpoint."""
    with tempfile.TemporaryDirectory() as folder:
        prefix = os.path.join(folder, _PREFIX)
        if kind == "tf1":
            tensors = assign.extract(model, "google")
            tf.raw_ops.SaveV2(
                prefix=prefix,
                tensor_names=list(tensors),
                shape_and_slices=[""] * len(tensors),
                tensors=list(tensors.values()),
            )
        else:
            tensors = assign.extract(model, "tf2")
            tf.train.Checkpoint(**_object_graph(tensors, model)).write(prefix)
        return {
            path.name: path.read_bytes()
            for path in sorted(pathlib.Path(folder).iterdir())
        }


def _object_graph(tensors, model):
    """Trackables whose edges are those of the Model Garden's objects."""
    pooler = f"layer_with_weights-{model.config.num_layers + 4}"
    root = tf.Module()
    for name, value in tensors.items():
        *parents, leaf = name.split("/")
        top = parents[0]
        beside = top.startswith(("masked_lm", "next_sentence"))
        node = root if beside else _child(root, "encoder")
        for parent in parents:
            # "." is escaped by doubling in checkpoint keys.
            node = _child(node, parent.replace("..", "."))
        setattr(node, leaf, tf.Variable(value))
    encoder = root.encoder
    # The non-functional encoder's names of the same objects.
    for index, attribute in enumerate(
        (
            "_embedding_layer",
            "_position_embedding_layer",
            "_type_embedding_layer",
            "_embedding_norm_layer",
        )
    ):
        layer = _child(encoder, f"layer_with_weights-{index}")
        setattr(encoder, attribute, layer)
    encoder._transformer_layers = [
        _child(encoder, f"layer_with_weights-{i + 4}")
        for i in range(model.config.num_layers)
    ]
    if model.config.pooler:
        encoder._pooler_layer = _child(encoder, pooler)
        if model.head == "pretraining":
            # A copy: one saved object is restored into one object only.
            copy = _child(root, "next_sentence.pooler_dense")
            copy.kernel = tf.Variable(encoder._pooler_layer.kernel)
            copy.bias = tf.Variable(encoder._pooler_layer.bias)
    return {
        name: child
        for name, child in vars(root).items()
        if isinstance(child, tf.Module)
    }


def _child(node, name):
    if name not in vars(node):
        setattr(node, name, tf.Module())
    return getattr(node, name)
