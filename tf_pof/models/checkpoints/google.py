"""Google's BERT checkpoints: bert_config.json and bert_model.ckpt.*

Two kinds: TF1, with tensors by name ("bert/encoder/layer_0/...", as of
github.com/google-research/bert), and TF2, the object graph of the Model
Garden's BertEncoder or BertPretrainerV2 ("encoder/layer_with_weights-0/...").
Google's "gelu" is the tanh approximation, here "gelu_new".
"""

import dataclasses
import glob
import json
import logging
import os
import re
import shutil
import tempfile

from tf_pof._keras import keras  # isort: skip  (before TensorFlow)

import tensorflow as tf

from tf_pof.models import bert
from tf_pof.models.checkpoints import assign
from tf_pof.models.config import BertConfig

_LOG = logging.getLogger(__name__)

CONFIG = "bert_config.json"
_PREFIX = "bert_model.ckpt"
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


def find(path: str) -> str | None:
    """The checkpoint prefix that a prefix or folder means, or None."""
    if os.path.isdir(path):
        # ".ckpt" alone, or with a step: bert_model.ckpt-1.
        found = sorted(glob.glob(os.path.join(path, "*.ckpt*.index")))
        return found[0].removesuffix(".index") if found else None
    path = path.removesuffix(".index")
    return path if os.path.exists(path + ".index") else None


def read_config(prefix: str) -> BertConfig:
    """The bert_config.json beside a checkpoint.

    Raises:
        ValueError: if it is missing or not what it should be.
    """
    path = os.path.join(os.path.dirname(prefix), CONFIG)
    try:
        with open(path, encoding="utf-8") as file:
            fields = json.load(file)
        config = BertConfig.from_hf(fields)
    except FileNotFoundError:
        raise ValueError(
            f"{path} does not exist: Google checkpoints need their {CONFIG}."
        ) from None
    except (json.JSONDecodeError, AttributeError) as error:
        raise ValueError(f"{path} is not a JSON object: {error}.") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    activation = fields.get("tf_pof_activation", "gelu_new")
    return dataclasses.replace(config, activation=activation)


def read_tensors(prefix: str, num_layers: int) -> tuple[str, dict]:
    """The format ("google" or "tf2") and the tensors under its table's names.

    Raises:
        ValueError: if the checkpoint cannot be read or is no BERT.
    """
    try:
        reader = tf.train.load_checkpoint(prefix)
        names = sorted(reader.get_variable_to_shape_map())
        stored = {
            name: reader.get_tensor(name)
            for name in names
            if not re.search(_IGNORED, name.removesuffix(_VALUE))
        }
    except (tf.errors.OpError, RuntimeError) as error:
        message = str(error).splitlines()[0]
        raise ValueError(f"{prefix} cannot be read: {message}") from None
    if not any(name.endswith(_VALUE) for name in stored):
        return "google", stored
    # Where there is a next-sentence head, its pooler is the trained one: put
    # it last, so that it overrides the encoder's.
    names = sorted(stored, key=lambda name: (_NSP_POOLER in name, name))
    return "tf2", {
        _tf2_name(name.removesuffix(_VALUE), num_layers): stored[name]
        for name in names
    }


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
    config = read_config(prefix)
    fmt, stored = read_tensors(prefix, config.num_layers)
    groups = assign.stored_groups(config, fmt, stored)
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
        build_arguments.setdefault("num_labels", len(stored["output_bias"]))
    model = bert.build(config, head, **build_arguments)
    model.new_weights = load_into(model, prefix)
    vocab_file = os.path.join(os.path.dirname(prefix), "vocab.txt")
    model.vocab_file = vocab_file if os.path.exists(vocab_file) else None
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
    fmt, stored = read_tensors(prefix, model.config.num_layers)
    return assign.assign(
        model, fmt, stored, prefix, assign.HEADS, assign.HEADS
    )


def save(model: keras.Model, folder: str, kind: str = "tf1") -> str:
    """Writes bert_config.json, vocab.txt (if known) and bert_model.ckpt.*

    A pruned model is stored with its masks applied. TF2 checkpoints can be
    restored into the Model Garden's encoder (functional or not).

    Args:
        model: of the BERT family.
        folder: is created; files of the same name are replaced, the
            checkpoint's index last.
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
    os.makedirs(folder, exist_ok=True)
    if config.activation != "gelu_new":
        _LOG.warning(
            "%s: Google's BERT computes GELU by tanh, this model by erf; its "
            "outputs there will differ by about 1e-3.",
            folder,
        )
    prefix = os.path.join(folder, _PREFIX)
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        fields = {
            **config.to_hf(),
            "hidden_act": "gelu",
            "tf_pof_activation": config.activation,
        }
        # The data file must be in place before the index names it.
        written = [*_write(model, temporary, kind)]
        config_path = os.path.join(temporary, CONFIG)
        with open(config_path, "w", encoding="utf-8") as file:
            json.dump(fields, file, indent=2)
        if model.vocab_file:
            shutil.copyfile(
                model.vocab_file, os.path.join(temporary, "vocab.txt")
            )
            written.insert(0, os.path.join(temporary, "vocab.txt"))
        for path in (config_path, *written):
            os.replace(path, os.path.join(folder, os.path.basename(path)))
    return prefix


def _write(model, folder, kind):
    """Writes the checkpoint; returns its files, the index last."""
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
    return sorted(glob.glob(prefix + "*"))


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
