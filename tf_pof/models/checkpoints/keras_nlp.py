"""keras-nlp's BertBackbone and DistilBertBackbone: objects and presets.

keras-nlp itself is imported only to make a backbone. A preset folder is
config.json, metadata.json and model.weights.h5, written by tf-keras or by
Keras 3, whose layouts differ in the attention's attribute names.
"""

import contextlib
import logging
import os
import pathlib
import re
import tempfile
from typing import Literal

import h5py

from tf_pof._keras import keras
from tf_pof import files, untrusted
from tf_pof.data import tokenizer_files
from tf_pof.models import bert
from tf_pof.models.checkpoints import assign
from tf_pof.models.checkpoints import claims
from tf_pof.models.checkpoints import hdf5
from tf_pof.models.checkpoints import tensor_names
from tf_pof.models.config import BertConfig

_LOG = logging.getLogger(__name__)

CONFIG = "config.json"
WEIGHTS = "model.weights.h5"
_VOCAB = os.path.join("assets", "tokenizer", "vocabulary.txt")
_FAMILIES = {"BertBackbone": "bert", "DistilBertBackbone": "distilbert"}
_DISTIL = "token_and_position_embedding/"
# h5 groups are named after the layer's class, numbered by creation order.
_H5_LAYERS = {
    "token_embedding": "reversible_embedding",
    "segment_embedding": "embedding",
    "embeddings_layer_norm": "layer_normalization",
    "pooled_dense": "dense",
}


class _Fields(untrusted.Schema):
    """A backbone's settings."""

    vocabulary_size: int
    num_layers: int
    num_heads: int
    hidden_dim: int
    intermediate_dim: int
    dropout: float
    max_sequence_length: int
    # A DistilBertBackbone has none.
    num_segments: int = 2


class _Named(untrusted.Schema):
    """Any serialised object."""

    class_name: str


class _Preset(untrusted.Schema):
    """The config.json of a preset that can be read."""

    class_name: Literal["BertBackbone", "DistilBertBackbone"]
    config: _Fields


def _config(class_name, fields, activation):
    family = _FAMILIES[class_name]
    return BertConfig(
        vocabulary_size=fields.vocabulary_size,
        num_layers=fields.num_layers,
        num_heads=fields.num_heads,
        hidden_dim=fields.hidden_dim,
        intermediate_dim=fields.intermediate_dim,
        max_sequence_length=fields.max_sequence_length,
        num_segments=fields.num_segments if family == "bert" else 0,
        pooler=family == "bert",
        dropout=fields.dropout,
        attention_dropout=fields.dropout,
        activation=activation,
    )


def _default_activation(family):
    return "gelu_new" if family == "bert" else "gelu"


def _fields(config):
    fields = dict(
        vocabulary_size=config.vocabulary_size,
        num_layers=config.num_layers,
        num_heads=config.num_heads,
        hidden_dim=config.hidden_dim,
        intermediate_dim=config.intermediate_dim,
        dropout=config.dropout,
        max_sequence_length=config.max_sequence_length,
    )
    if config.family == "bert":
        fields["num_segments"] = config.num_segments
    return fields


def _check_exportable(model):
    config = model.config
    if config.family == "bert" and not config.pooler:
        raise ValueError(
            "keras-nlp's BertBackbone has a pooler, this model has none."
        )
    if config.layer_norm_epsilon != 1e-12:
        raise ValueError(
            "keras-nlp's backbones have layer norm epsilon 1e-12, this model "
            f"{config.layer_norm_epsilon}."
        )


def _rows(config):
    """(row, attribute path) of the encoder's tensors and the pooler's."""
    for row in tensor_names.table(config).values():
        path = row.keras_nlp
        if not path or assign.group(row.path) not in ("encoder", "pooler"):
            continue
        if config.family == "distilbert":
            if re.match("segment_embedding|pooled", path):
                continue
            path = re.sub(r"^(?=(token|position)_embedding)", _DISTIL, path)
        yield row, path


def _variable(backbone, path):
    first, *attributes, index = path.split("/")
    layer = backbone.get_layer(first)
    for attribute in attributes:
        layer = getattr(layer, attribute)
    return layer.weights[int(index)]


def from_backbone(
    backbone, head: str | None = None, **build_arguments
) -> keras.Model:
    """A model with the weights of a keras-nlp backbone.

    Args:
        backbone: keras_nlp.models.BertBackbone or DistilBertBackbone.
        head: as in `bert.build`; its weights are new, logged and listed in
            the model's `new_weights`.
        **build_arguments: of `bert.build`.

    Raises:
        ValueError: for another class, or if a tensor does not fit.
    """
    class_name = type(backbone).__name__
    if class_name not in _FAMILIES:
        raise ValueError(
            f"A {class_name} is not one of {', '.join(_FAMILIES)}."
        )
    activation = _default_activation(_FAMILIES[class_name])
    dense = backbone.get_layer("transformer_layer_0")
    function = dense._feedforward_intermediate_dense.activation
    if function is keras.activations.gelu:
        activation = "gelu"
    fields = untrusted.fit(backbone.get_config(), _Fields, class_name)
    config = _config(class_name, fields, activation)
    model = bert.build(config, head, **build_arguments)
    model.new_weights = load_into(model, backbone)
    return model


def load_into(model: keras.Model, source) -> tuple[str, ...]:
    """Assigns a backbone or a preset folder to a model's encoder.

    Returns:
        Our paths of the tensors that kept their random values.

    Raises:
        ValueError: naming a missing, extra or misshapen tensor.
    """
    if isinstance(source, (str, os.PathLike)):
        return _assign(model, *_read_preset(os.fspath(source), model.config))
    name = type(source).__name__
    values = {}
    for row, path in _rows(model.config):
        try:
            values[row.keras_nlp] = _variable(source, path).numpy()
        except (ValueError, AttributeError, IndexError):
            raise ValueError(
                f"{name} has no {path}: does its size fit the model's?"
            ) from None
    return _assign(model, name, values)


def _assign(model, name, values):
    return assign.assign(
        model, "keras_nlp", values, name, _task_heads(), assign.HEADS
    )


def to_backbone(model: keras.Model):
    """A keras-nlp backbone with the (masked) encoder weights of a model.

    keras-nlp's BERT has GELU by tanh only. For a model with GELU by erf, the
    activation of the returned object is set; a saved backbone forgets it.

    Raises:
        ValueError: if keras-nlp has no such encoder.
    """
    _check_exportable(model)
    # Imported here: only this direction needs it, and it is slow to import.
    import keras_nlp

    config = model.config
    backbone_class = (
        keras_nlp.models.BertBackbone
        if config.family == "bert"
        else keras_nlp.models.DistilBertBackbone
    )
    backbone = backbone_class(**_fields(config))
    if config.activation != _default_activation(config.family):
        function = (
            keras.activations.gelu
            if config.activation == "gelu"
            else bert.layers.gelu_new
        )
        for i in range(config.num_layers):
            layer = backbone.get_layer(f"transformer_layer_{i}")
            layer._feedforward_intermediate_dense.activation = function
    tensors = assign.extract(model, "keras_nlp", drop=_task_heads())
    for row, path in _rows(config):
        _variable(backbone, path).assign(tensors[row.keras_nlp])
    return backbone


def _task_heads():
    return [group for group in assign.HEADS if group != "pooler"]


def is_preset(folder: str) -> bool:
    """Whether a folder is a preset (of any keras-nlp class)."""
    return os.path.exists(os.path.join(folder, WEIGHTS))


def load(
    folder: str, head: str | None = None, **build_arguments
) -> keras.Model:
    """Builds a model from a local preset folder.

    Args:
        folder: with config.json and model.weights.h5.
        head: as in `from_backbone`; "auto" means None.
        **build_arguments: of `bert.build`.

    Raises:
        ValueError: naming what is missing or does not fit.
    """
    files.recover(folder)
    config = _read_config(os.path.join(folder, CONFIG))
    name, values = _read_preset(folder, config)
    model = bert.build(
        config, None if head == "auto" else head, **build_arguments
    )
    model.new_weights = _assign(model, name, values)
    tokenizer_files.attach_preset(model, folder, os.path.join(folder, _VOCAB))
    return model


def _h5_path(path):
    """ "transformer_layer_1/x/0" -> "layers/transformer_encoder_1/x/vars/0"."""
    first, *middle, index = path.split("/")
    number = re.fullmatch(r"transformer_layer_(\d+)", first)
    if number:
        suffix = "" if number[1] == "0" else f"_{number[1]}"
        first = "transformer_encoder" + suffix
    return "/".join(
        ("layers", _H5_LAYERS.get(first, first), *middle, "vars", index)
    )


def _read_config(path):
    """The configuration in a preset's config.json.

    Raises:
        ValueError: if there is none, or not that of a backbone we know.
    """
    try:
        contents = untrusted.read_bytes(path)
    except FileNotFoundError:
        raise ValueError(
            f"{path} does not exist: a keras-nlp preset has it beside its "
            "weights."
        ) from None
    name = untrusted.parse_json(contents, _Named, path).class_name
    if name not in _FAMILIES:
        raise ValueError(
            f"{path}: a {name[:80]} is not one of {', '.join(_FAMILIES)}."
        )
    preset = untrusted.parse_json(contents, _Preset, path)
    try:
        return _config(
            name, preset.config, _default_activation(_FAMILIES[name])
        )
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _read_preset(folder, config):
    """The path of a preset's weights, and the tensors by our table's names."""
    source = os.path.join(folder, WEIGHTS)
    values = {}
    with contextlib.ExitStack() as stack:
        found = hdf5.tensors(source, stack)
        shapes = [claim.shape for claim in found.values()]
        claims.check_sizes(config, shapes, source)
        by_path = {
            _h5_path(path): row.keras_nlp for row, path in _rows(config)
        }
        for name, claim in found.items():
            # Keras 3 has "query_dense" where tf-keras has "_query_dense".
            name = re.sub(r"/(?=(query|key|value|output)_dense/)", "/_", name)
            values[by_path.get(name, name)] = claim.floats()
    return source, values


def save(model: keras.Model, folder: str) -> str:
    """Writes a preset folder that keras-nlp (tf-keras or Keras 3) loads.

    Args:
        model: its encoder is written, masks applied; heads are not.
        folder: is made if need be; older files are replaced, all or none.

    Returns:
        The folder.

    Raises:
        ValueError: if keras-nlp has no such encoder.
    """
    _check_exportable(model)
    config = model.config
    if config.activation != _default_activation(config.family):
        _LOG.warning(
            "%s: keras-nlp's %s computes another GELU than this model; its "
            "outputs there will differ by about 1e-3.",
            folder,
            config.family,
        )
    backbone = to_backbone(model)
    serialized = keras.saving.serialize_keras_object(backbone)
    serialized.pop("build_config", None)
    metadata = {
        # Its presence says that this is a preset; Keras 3 wrote the first.
        "keras_version": "3.0.0",
        "keras_nlp_version": "0.12.1",
        "parameter_count": backbone.count_params(),
    }
    written = {}
    if model.vocab_file:
        vocabulary = tokenizer_files.vocab_txt(model.vocab_file)
        files.write_bytes(os.path.join(folder, _VOCAB), vocabulary)
        settings = tokenizer_files.known(model, model.vocab_file)
        if settings is not None:
            written |= tokenizer_files.preset(settings, config.family)
    files.write_set(
        folder,
        {
            WEIGHTS: _weights_of(backbone, config.num_layers),
            "metadata.json": files.json_bytes(metadata),
            CONFIG: files.json_bytes(serialized),
            **written,
        },
    )
    return folder


def _weights_of(backbone, num_layers) -> bytes:
    """A backbone's weights file, with the names of both Keras versions."""
    with tempfile.TemporaryDirectory() as temporary:
        path = os.path.join(temporary, WEIGHTS)
        backbone.save_weights(path)
        with h5py.File(path, "a") as file:
            for i in range(num_layers):
                group = _h5_path(
                    f"transformer_layer_{i}/_self_attention_layer/0"
                )
                group = file[group.removesuffix("/vars/0")]
                for part in ("query", "key", "value", "output"):
                    # A hard link: Keras 3's name of the same group.
                    group[f"{part}_dense"] = group[f"_{part}_dense"]
        return pathlib.Path(path).read_bytes()
