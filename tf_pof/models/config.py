"""Sizes and settings of a BERT or DistilBERT encoder."""

import dataclasses
import math
import numbers

import pydantic

from tf_pof import untrusted

_ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_new": "gelu_new",
    "gelu_pytorch_tanh": "gelu_new",
}
_SIZES = {
    # name: (num_layers, hidden_dim, num_heads)
    "bert_tiny": (2, 128, 2),
    "bert_mini": (4, 256, 4),
    "bert_small": (4, 512, 8),
    "bert_medium": (8, 512, 8),
    "bert_base": (12, 768, 12),
    "bert_large": (24, 1024, 16),
    "distilbert": (6, 768, 12),
    "minilm_l6": (6, 384, 12),
}
PRESETS = tuple(_SIZES)
# Shapes and ids are int32.
_LARGEST = 2**31 - 1
# Smaller numbers are 0 in float32.
_SMALLEST = 1.2e-38


@dataclasses.dataclass(frozen=True)
class BertConfig:
    """Everything that determines the shape and arithmetic of an encoder.

    Devlin et al. 2019 (BERT), Sanh et al. 2019 (DistilBERT: no segments, no
    pooler).

    Attributes:
        vocabulary_size: rows of the token embedding.
        num_layers: encoder layers.
        num_heads: attention heads; divides hidden_dim.
        hidden_dim: width of the encoder.
        intermediate_dim: width of the feed-forward layer.
        max_sequence_length: rows of the position embedding.
        num_segments: rows of the segment embedding; 0 means DistilBERT.
        pooler: whether there is a dense + tanh layer on the first token.
        dropout: rate on embeddings and on the output of each sub-layer.
        attention_dropout: rate on the attention probabilities.
        layer_norm_epsilon: added to the variance in layer norms.
        activation: "gelu" (erf) or "gelu_new" (tanh approximation, which
            Google's and keras-nlp's BERT use).
        initializer_range: standard deviation of new weights.

    Raises:
        ValueError: if a field is out of range or two of them do not fit.
    """

    vocabulary_size: int = 30522
    num_layers: int = 12
    num_heads: int = 12
    hidden_dim: int = 768
    intermediate_dim: int = 3072
    max_sequence_length: int = 512
    num_segments: int = 2
    pooler: bool = True
    dropout: float = 0.1
    attention_dropout: float = 0.1
    layer_norm_epsilon: float = 1e-12
    activation: str = "gelu"
    initializer_range: float = 0.02

    def __post_init__(self):
        for name in (
            "vocabulary_size",
            "num_layers",
            "num_heads",
            "hidden_dim",
            "intermediate_dim",
            "max_sequence_length",
        ):
            self._require_whole(name, 1)
        self._require_whole("num_segments", 0)
        for name in ("dropout", "attention_dropout"):
            self._require_number(name)
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(
                    f"{name} must be in [0, 1), not {getattr(self, name)}."
                )
        self._require_number("layer_norm_epsilon")
        if not _SMALLEST <= self.layer_norm_epsilon <= 1:
            raise ValueError(
                "layer_norm_epsilon must be above 0 and at most 1, not "
                f"{self.layer_norm_epsilon}."
            )
        self._require_number("initializer_range")
        if not 0 <= self.initializer_range <= 10:
            raise ValueError(
                "initializer_range must be in [0, 10], not "
                f"{self.initializer_range}."
            )
        if not isinstance(self.pooler, bool):
            raise ValueError(f"pooler must be a bool, not {self.pooler!r:.40}.")
        if self.hidden_dim % self.num_heads:
            raise ValueError(
                f"hidden_dim {self.hidden_dim} is not a multiple of num_heads "
                f"{self.num_heads}."
            )
        if self.activation not in ("gelu", "gelu_new"):
            raise ValueError(
                'activation must be "gelu" or "gelu_new", not '
                f"{self.activation!r:.40}."
            )
        if self.pooler and not self.num_segments:
            raise ValueError(
                "num_segments must be at least 1, or 0 together with "
                "pooler=False (DistilBERT)."
            )

    def _require_whole(self, name, least):
        value = getattr(self, name)
        if not isinstance(value, numbers.Integral) or isinstance(value, bool):
            raise ValueError(
                f"{name} must be a whole number, not {value!r:.40}."
            )
        if value < least:
            raise ValueError(f"{name} must be at least {least}, not {value}.")
        if value > _LARGEST:
            raise ValueError(f"{name} must be at most {_LARGEST}.")
        # JSON has no numbers of numpy.
        object.__setattr__(self, name, int(value))

    def _require_number(self, name):
        value = getattr(self, name)
        if not isinstance(value, numbers.Real) or isinstance(value, bool):
            raise ValueError(f"{name} must be a number, not {value!r:.40}.")
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        object.__setattr__(self, name, number)

    @property
    def family(self) -> str:
        """ "bert" or "distilbert", Hugging Face's `model_type`."""
        return "bert" if self.num_segments else "distilbert"

    @classmethod
    def preset(cls, name: str, **overrides) -> "BertConfig":
        """The published size called `name`, fields replaced by overrides.

        Raises:
            ValueError: if there is no such size.
        """
        if name not in _SIZES:
            raise ValueError(
                f"There is no model size {name!r}: use one of "
                f"{', '.join(_SIZES)}."
            )
        num_layers, hidden_dim, num_heads = _SIZES[name]
        fields = dict(
            num_layers=num_layers,
            num_heads=num_heads,
            hidden_dim=hidden_dim,
            intermediate_dim=4 * hidden_dim,
        )
        if name == "distilbert":
            fields.update(num_segments=0, pooler=False)
        return cls(**{**fields, **overrides})

    def to_hf(self) -> dict:
        """The fields under Hugging Face's names for a config.json."""
        common = dict(
            model_type=self.family,
            vocab_size=self.vocabulary_size,
            max_position_embeddings=self.max_sequence_length,
            initializer_range=self.initializer_range,
            pad_token_id=0,
        )
        if self.family == "distilbert":
            return dict(
                **common,
                activation=self.activation,
                attention_dropout=self.attention_dropout,
                dim=self.hidden_dim,
                dropout=self.dropout,
                hidden_dim=self.intermediate_dim,
                n_heads=self.num_heads,
                n_layers=self.num_layers,
                qa_dropout=self.dropout,
                seq_classif_dropout=self.dropout,
                sinusoidal_pos_embds=False,
                tie_weights_=True,
            )
        return dict(
            **common,
            attention_probs_dropout_prob=self.attention_dropout,
            hidden_act=self.activation,
            hidden_dropout_prob=self.dropout,
            hidden_size=self.hidden_dim,
            intermediate_size=self.intermediate_dim,
            layer_norm_eps=self.layer_norm_epsilon,
            num_attention_heads=self.num_heads,
            num_hidden_layers=self.num_layers,
            position_embedding_type="absolute",
            type_vocab_size=self.num_segments,
        )

    @classmethod
    def from_hf(cls, hf: dict) -> "BertConfig":
        """Reads the contents of a Hugging Face (or Google) config.json.

        Raises:
            ValueError: for anything that is not an absolute-position BERT or
                DistilBERT encoder with GELU, and for a field that is missing
                or of another type.
        """
        family = hf.get("model_type", "bert")
        if family not in ("bert", "distilbert"):
            raise ValueError(
                f'model_type is {family!r:.40}, but only "bert" and '
                '"distilbert" can be read.'
            )
        schema = _DistilBert if family == "distilbert" else _Bert
        read = untrusted.fit(hf, schema, "The configuration")
        positions = read.position_embedding_type or "absolute"
        if positions != "absolute" or read.is_decoder:
            raise ValueError(
                "Only bidirectional encoders with absolute positions can be "
                f"read (position_embedding_type is {positions!r:.40}, "
                f"is_decoder is {bool(read.is_decoder)})."
            )
        if read.activation not in _ACTIVATIONS:
            raise ValueError(
                f"The activation {read.activation!r:.40} is not one of "
                f"{', '.join(_ACTIVATIONS)}."
            )
        own = {field.name for field in dataclasses.fields(cls)}
        fields = {
            name: getattr(read, name)
            for name in own & schema.model_fields.keys()
        }
        fields["activation"] = _ACTIVATIONS[read.activation]
        if family == "distilbert":
            fields.update(num_segments=0, pooler=False)
        return cls(**fields)


class _HuggingFace(untrusted.Schema):
    """Fields of config.json, as far as they make an encoder."""

    position_embedding_type: str | None = None
    is_decoder: bool | None = None
    vocabulary_size: int = pydantic.Field(alias="vocab_size")
    max_sequence_length: int = pydantic.Field(alias="max_position_embeddings")
    initializer_range: float = 0.02


class _Bert(_HuggingFace):
    num_layers: int = pydantic.Field(alias="num_hidden_layers")
    num_heads: int = pydantic.Field(alias="num_attention_heads")
    hidden_dim: int = pydantic.Field(alias="hidden_size")
    intermediate_dim: int = pydantic.Field(alias="intermediate_size")
    num_segments: int = pydantic.Field(2, alias="type_vocab_size")
    dropout: float = pydantic.Field(0.1, alias="hidden_dropout_prob")
    attention_dropout: float = pydantic.Field(
        0.1, alias="attention_probs_dropout_prob"
    )
    layer_norm_epsilon: float = pydantic.Field(1e-12, alias="layer_norm_eps")
    activation: str = pydantic.Field("gelu", alias="hidden_act")


class _DistilBert(_HuggingFace):
    num_layers: int = pydantic.Field(alias="n_layers")
    num_heads: int = pydantic.Field(alias="n_heads")
    hidden_dim: int = pydantic.Field(alias="dim")
    intermediate_dim: int = pydantic.Field(alias="hidden_dim")
    dropout: float = 0.1
    attention_dropout: float = 0.1
    activation: str = "gelu"
