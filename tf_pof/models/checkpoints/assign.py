"""Moves named tensors of any format into and out of a model.

Everything is checked before the first assignment, so that a refused
checkpoint leaves the model as it was.
"""

from collections.abc import Collection, Mapping
import logging
import re
from typing import Any

import numpy as np

from tf_pof._keras import keras
from tf_pof.models import weights
from tf_pof.models.checkpoints import tensor_names
from tf_pof.models.config import BertConfig

_LOG = logging.getLogger(__name__)

# Layers that come and go together. All other layers are the encoder.
_GROUPS = {
    "pooler": r"pooler/",
    "mlm": r"mlm_|token_embedding/output_bias$",
    "nsp": r"nsp_logits/",
    "classifier": r"(pre_)?classifier/",
    "span": r"span_logits/",
}
# Groups that a checkpoint of the bare encoder may lack.
HEADS = tuple(_GROUPS)
# Head of a model: the group that shows that a checkpoint has it.
HEAD_GROUPS = {
    "pretraining": "mlm",
    "classifier": "classifier",
    "span": "span",
}
# Six Dense and two layer norms.
_TENSORS_OF_A_LAYER = 16


def group(path: str) -> str:
    """ "encoder", "pooler", "mlm", "nsp", "classifier" or "span"."""
    for name, pattern in _GROUPS.items():
        if re.match(pattern, path):
            return name
    return "encoder"


def stored_groups(config, fmt: str, names: Collection[str]) -> set[str]:
    """The groups of which at least one tensor is among `names`."""
    return {
        group(path)
        for path, row in tensor_names.table(config).items()
        if getattr(row, fmt) and getattr(row, fmt) in names
    }


def stored_head(groups: Collection[str]) -> str | None:
    """The head whose tensors are there, by `stored_groups`."""
    for head, name in HEAD_GROUPS.items():
        if name in groups:
            return head
    return None


def check_sizes(
    config: BertConfig, fmt: str, stored: Mapping[str, Any], source: str
) -> None:
    """Refuses sizes that the tensors do not have, before anything is built.

    It takes no longer and no more memory if a configuration tells of a million
    layers or of 1e12 tokens.

    Args:
        config: as the checkpoint tells it.
        fmt: one of `tensor_names.FORMATS`.
        stored: tensors under the format's names.
        source: file or folder, for messages.

    Raises:
        ValueError: naming the tensor.
    """
    if config.num_layers * _TENSORS_OF_A_LAYER > len(stored):
        raise ValueError(
            f"{source} has only {len(stored)} tensors, too few for the "
            f"{config.num_layers} layers that its configuration tells of."
        )
    rows = tensor_names.table(config)
    shapes = {
        "token_embedding/embeddings": config.vocabulary_size,
        "position_embedding/embeddings": config.max_sequence_length,
        "segment_embedding/embeddings": config.num_segments,
    }
    shapes = {k: (n, config.hidden_dim) for k, n in shapes.items() if n}
    kernel = "layer_0_intermediate/kernel"
    shapes[kernel] = config.hidden_dim, config.intermediate_dim
    for path, shape in shapes.items():
        _stored(rows[path], fmt, stored, shape, config, source)


def _stored(row, fmt, stored, shape, config, source):
    """The tensor of a row, in the format's layout.

    Raises:
        ValueError: if it is missing, or of another shape than ours, `shape`.
    """
    name = getattr(row, fmt)
    expected = tensor_names.stored_shape(row, fmt, shape, config)
    if not name or name not in stored:
        raise ValueError(
            f"{source} has no tensor {name or row.path!r}: expected shape "
            f"{list(expected)}."
        )
    found = np.shape(stored[name])
    if found != expected:
        raise ValueError(
            f"{source}: tensor {name!r} has shape {list(found)}, but expected "
            f"{list(expected)}."
        )
    return stored[name]


def assign(
    model: keras.Model,
    fmt: str,
    stored: Mapping[str, np.ndarray],
    source: str,
    may_be_new: Collection[str] = (),
    may_be_unused: Collection[str] = (),
    ignored: str = r"$^",
) -> tuple[str, ...]:
    """Assigns the tensors of a checkpoint to a model, all or none.

    Args:
        model: built by `tf_pof.models.bert.build`, possibly pruned.
        fmt: one of `tensor_names.FORMATS`.
        stored: tensors under the format's names.
        source: file or folder, for messages.
        may_be_new: groups that may be absent as a whole; they keep their
            random values.
        may_be_unused: groups that may be stored though the model lacks them.
        ignored: regular expression of names that are no weights.

    Returns:
        Our paths of the tensors that kept their random values.

    Raises:
        ValueError: naming a missing, extra or misshapen tensor, or one that
            holds NaN or infinite numbers.
    """
    config = model.config
    rows = tensor_names.table(config)
    variables = weights.variables(model)
    found = stored_groups(config, fmt, stored)
    new, values, used = [], {}, set()
    for path, variable in variables.items():
        row = rows[path]
        name = getattr(row, fmt)
        shape = tuple(variable.shape)
        if not name or name not in stored:
            if group(path) in may_be_new and group(path) not in found:
                new.append(path)
                continue
        value = np.asarray(_stored(row, fmt, stored, shape, config, source))
        used.add(name)
        if not np.isfinite(value).all():
            raise ValueError(
                f"{source}: tensor {name!r} holds NaN or infinite numbers: "
                "the model computes nothing, save it anew where it was made."
            )
        values[path] = tensor_names.from_stored(row, fmt, value, shape)
    known = {getattr(row, fmt): path for path, row in rows.items()}
    unused = []
    for name in stored:
        if name in used or re.search(ignored, name):
            continue
        if name not in known or group(known[name]) not in may_be_unused:
            raise ValueError(
                f"{source} has an extra tensor {name!r}: a "
                f"{config.family} model with {config.num_layers} layers and "
                f"head {model.head!r} has no place for it."
            )
        unused.append(name)
    for path, value in values.items():
        variables[path].assign(value)
    if new:
        _LOG.warning(
            "%s lacks %s: newly initialised.", source, ", ".join(new)
        )
    if unused:
        _LOG.info("%s: not used: %s.", source, ", ".join(unused))
    return tuple(new)


def named(
    model: keras.Model, fmt: str, drop: Collection[str] = ()
) -> dict[str, tensor_names.Row]:
    """The rows of the tensors that `extract` would give, by our path.

    Args:
        model, fmt, drop: as of `extract`.

    Raises:
        ValueError: if the format has no name for one of the tensors.
    """
    rows = tensor_names.table(model.config)
    chosen = {}
    for path in weights.variables(model):
        if group(path) in drop:
            continue
        if path not in rows or not getattr(rows[path], fmt):
            raise ValueError(
                f"The {fmt} format has no name for the tensor {path!r}."
            )
        chosen[path] = rows[path]
    return chosen


def extract(
    model: keras.Model, fmt: str, drop: Collection[str] = ()
) -> dict[str, np.ndarray]:
    """The effective (masked) tensors of a model under a format's names.

    Args:
        model: built by `tf_pof.models.bert.build`, possibly pruned.
        fmt: one of `tensor_names.FORMATS`.
        drop: groups to leave out.

    Raises:
        ValueError: if the format has no name for one of the tensors.
    """
    rows = named(model, fmt, drop)
    return {
        getattr(rows[path], fmt): tensor_names.to_stored(
            rows[path], fmt, value, model.config
        )
        for path, value in weights.effective(model)
        if path in rows
    }
