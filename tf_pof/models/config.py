"""Sizes and settings of a BERT or DistilBERT encoder."""

import dataclasses

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
            if getattr(self, name) < 1:
                raise ValueError(
                    f"{name} must be at least 1, not {getattr(self, name)}."
                )
        for name in ("dropout", "attention_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(
                    f"{name} must be in [0, 1), not {getattr(self, name)}."
                )
        if self.hidden_dim % self.num_heads:
            raise ValueError(
                f"hidden_dim {self.hidden_dim} is not a multiple of num_heads "
                f"{self.num_heads}."
            )
        if self.activation not in ("gelu", "gelu_new"):
            raise ValueError(
                'activation must be "gelu" or "gelu_new", not '
                f"{self.activation!r}."
            )
        if self.num_segments < 0 or (self.pooler and not self.num_segments):
            raise ValueError(
                "num_segments must be at least 1, or 0 together with "
                "pooler=False (DistilBERT)."
            )

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
                DistilBERT encoder with GELU, and for a missing field.
        """
        family = hf.get("model_type", "bert")
        if family not in ("bert", "distilbert"):
            raise ValueError(
                f'model_type is {family!r}, but only "bert" and "distilbert" '
                "can be read."
            )
        positions = hf.get("position_embedding_type") or "absolute"
        if positions != "absolute" or hf.get("is_decoder"):
            raise ValueError(
                "Only bidirectional encoders with absolute positions can be "
                f"read (position_embedding_type is {positions!r}, is_decoder "
                f"is {bool(hf.get('is_decoder'))})."
            )
        try:
            if family == "distilbert":
                act = hf.get("activation", "gelu")
                fields = dict(
                    num_layers=hf["n_layers"],
                    num_heads=hf["n_heads"],
                    hidden_dim=hf["dim"],
                    intermediate_dim=hf["hidden_dim"],
                    num_segments=0,
                    pooler=False,
                    dropout=hf.get("dropout", 0.1),
                    attention_dropout=hf.get("attention_dropout", 0.1),
                )
            else:
                act = hf.get("hidden_act", "gelu")
                fields = dict(
                    num_layers=hf["num_hidden_layers"],
                    num_heads=hf["num_attention_heads"],
                    hidden_dim=hf["hidden_size"],
                    intermediate_dim=hf["intermediate_size"],
                    num_segments=hf.get("type_vocab_size", 2),
                    dropout=hf.get("hidden_dropout_prob", 0.1),
                    attention_dropout=hf.get(
                        "attention_probs_dropout_prob", 0.1
                    ),
                    layer_norm_epsilon=hf.get("layer_norm_eps", 1e-12),
                )
            if act not in _ACTIVATIONS:
                raise ValueError(
                    f"The activation {act!r} is not one of "
                    f"{', '.join(_ACTIVATIONS)}."
                )
            return cls(
                vocabulary_size=hf["vocab_size"],
                max_sequence_length=hf["max_position_embeddings"],
                activation=_ACTIVATIONS[act],
                initializer_range=hf.get("initializer_range", 0.02),
                **fields,
            )
        except KeyError as error:
            raise ValueError(
                f"The {family} configuration has no field {error}."
            ) from None
