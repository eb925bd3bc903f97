"""Loads models as they were saved: quantized ones with their ranges."""

import os
import textwrap
from typing import Annotated

import pydantic

from tf_pof import untrusted
from tf_pof._keras import keras
from tf_pof.models import bert, resolve, weights
from tf_pof.quantization.quantize import VERSION, QuantizedModel, quantize

_ATTRIBUTES = (
    "vocab_file",
    "lowercase",
    "sparsity",
    "labels",
    "new_weights",
    "quantization",
)
# Of wider ranges float32 cannot hold the width.
_End = Annotated[float, pydantic.Field(gt=-1e38, lt=1e38)]
_Range = Annotated[
    list[_End | list[_End]], pydantic.Field(min_length=2, max_length=2)
]


class _State(untrusted.Schema):
    """quantization.json."""

    version: int
    layers: list[str]
    ranges: dict[str, _Range]


def load(
    path_or_name: str | os.PathLike,
    head: str | None = "auto",
    num_labels: int | None = None,
    sequence_length: int | None = None,
    dtype=None,
    name: str = "bert",
    **overrides,
) -> keras.Model:
    """Loads a model of any kind that the commands' --model takes.

    A head that is not stored, or is for another number of labels, gets new
    weights, which are logged as a warning and listed in the model's attribute
    `new_weights`. A quantized model comes back as one, with its ranges, unless
    its head is exchanged.

    Args:
        path_or_name: a model folder, ours or Hugging Face's, a keras-nlp
            preset, a Google checkpoint, the output of a finished run, the name
            of a bundled model, or a size such as "bert_tiny", which gives
            random weights. What exists as a path wins.
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
        `sparsity` (None or the contents of sparsity.json), `labels` (names of
        a classifier's outputs, or None) and `new_weights`; a
        `tf_pof.quantization.QuantizedModel` if it was saved as one.

    Raises:
        ValueError: naming what is missing or does not fit.
        OSError: if a file cannot be read.
    """
    if num_labels is not None:
        overrides["num_labels"] = num_labels
    spec = os.fspath(path_or_name)
    model = resolve.resolve(
        spec,
        head,
        sequence_length=sequence_length,
        dtype=dtype,
        name=name,
        **overrides,
    )
    for attribute in _ATTRIBUTES:
        if not hasattr(model, attribute):
            setattr(model, attribute, None)
    return restore(model, spec)


def restore(model: keras.Model, source: str) -> keras.Model:
    """The model as it was saved: quantized, if its folder said so.

    Args:
        model: of `models.folder.load`, or of any other source.
        source: what it was loaded from, for messages.

    Raises:
        ValueError: if what the folder says does not fit.
    """
    state = getattr(model, "quantization", None)
    if state is None:
        return model
    if state.get("version") != VERSION:
        raise ValueError(
            f"{source}: quantization.json has version "
            f"{state.get('version')!r:.40}, but this program reads {VERSION}: "
            "read it with the tf_pof that wrote it, or quantize it again."
        )
    try:
        state = untrusted.fit(dict(state), _State, "It")
        quantized = quantize(model, state.layers)
        quantized.set_ranges(state.ranges)
    except (AttributeError, ValueError) as error:
        # It may name layers, of any length.
        shown = textwrap.shorten(str(error), 200, placeholder="...")
        raise ValueError(
            f"{source}: quantization.json does not fit the model: {shown}"
        ) from None
    return quantized


def as_float32(model: QuantizedModel) -> QuantizedModel:
    """A copy of a quantized model that computes in float32.

    Its variables are new and of this process alone, whatever the strategy of
    the model.

    Args:
        model: of `tf_pof.build` or `load`, then quantized.
    """
    plain = bert.build(
        model.config, model.head, model.num_labels, model.name, dtype="float32"
    )
    for name in ("labels", "vocab_file", "tokenizer_settings", "sparsity"):
        setattr(plain, name, getattr(model, name, None))
    values = weights.variables(model)
    for path, variable in weights.variables(plain).items():
        variable.assign(values[path].numpy())
    state = model.quantization_state()
    copy = quantize(plain, state["layers"])
    copy.set_ranges(state["ranges"])
    return copy
