"""BERT and DistilBERT as plain functional Keras models.

Devlin et al. 2019; every projection is a 2-D `Dense` on tokens flattened to
[batch * seq, hidden], so that it can be masked, quantized and become one
TFLite FULLY_CONNECTED.
"""

import dataclasses
import warnings

from tf_pof._keras import keras
from tf_pof.models import layers
from tf_pof.models.config import BertConfig
from tf_pof.models.task_model import TaskModel

HEADS = (None, "pretraining", "classifier", "span")

# Names of the layers whose kernels are pruned: encoder and pooler, not
# embeddings, norms, biases or heads.
PRUNABLE = (
    r"^(layer_\d+_(query|key|value|attention_output|intermediate|output)"
    r"|pooler)$"
)

# A DistilBERT takes a BERT batch: say nothing about the key it does not need.
warnings.filterwarnings(
    "ignore", message=r"Input dict contained keys \['segment_ids'\]"
)


class _Parts:
    """Layer factory: what all layers of one model have in common."""

    def __init__(self, config, dtype):
        self.config, self.dtype = config, dtype

    def initializer(self):
        return keras.initializers.TruncatedNormal(
            stddev=self.config.initializer_range
        )

    def dense(self, units, name, dtype=None):
        return keras.layers.Dense(
            units,
            kernel_initializer=self.initializer(),
            dtype=dtype or self.dtype,
            name=name,
        )

    def norm(self, name):
        # Keras computes this in float32 under mixed precision.
        return keras.layers.LayerNormalization(
            epsilon=self.config.layer_norm_epsilon, dtype=self.dtype, name=name
        )

    def dropout(self, name):
        return layers.Dropout(self.config.dropout, dtype=self.dtype, name=name)

    def gelu(self, name):
        function = (
            layers.gelu_new if self.config.activation == "gelu_new" else "gelu"
        )
        return layers.Activation(function, dtype=self.dtype, name=name)

    def add(self, name):
        return keras.layers.Add(dtype=self.dtype, name=name)


def build(
    config: BertConfig,
    head: str | None = None,
    num_labels: int = 2,
    name: str = "bert",
    sequence_length: int | None = None,
    dtype=None,
    **overrides,
) -> keras.Model:
    """Builds a randomly initialised model.

    The inputs are a dict of int32 tensors [batch, seq]: "token_ids",
    "segment_ids" (not for DistilBERT, which ignores it) and "padding_mask"
    (1 = token). The output is a dict:
      all heads but the tasks': "sequence_output" [batch, seq, hidden] and,
        with a pooler, "pooled_output" [batch, hidden];
      "pretraining": also "mlm_hidden" [batch, seq, hidden] (before the
        decoder), "mlm_logits" [batch, seq, vocabulary] in the compute dtype
        and, with a pooler, "nsp_logits" [batch, 2] float32;
      "classifier": also "logits" [batch, num_labels] float32;
      "span": also "start_logits" and "end_logits" [batch, seq] float32.
    A BERT classifier has a pooler whatever the config says. The model has the
    attributes `config`, `head`, `num_labels`, `vocab_file` (None or a path)
    and `tokenizer_settings` (None or a `TokenizerSettings` of tf_pof.data).

    Args:
        config: sizes.
        head: None, "pretraining", "classifier" or "span".
        num_labels: width of the classifier.
        name: of the Keras model.
        sequence_length: a static seq; None leaves it dynamic.
        dtype: policy of all layers; None takes Keras' global policy.
        **overrides: fields of the config to replace, such as dropout.

    Raises:
        ValueError: for an unknown head, or num_labels below 1.
    """
    if head not in HEADS:
        raise ValueError(f"head must be one of {HEADS}, not {head!r}.")
    if num_labels < 1:
        raise ValueError(f"num_labels must be at least 1, not {num_labels}.")
    config = dataclasses.replace(config, **overrides)
    if head == "classifier" and config.family == "bert":
        # BERT's classifier reads the pooler in every format.
        config = dataclasses.replace(config, pooler=True)
    parts = _Parts(config, dtype)
    inputs = {
        key: keras.Input((sequence_length,), dtype="int32", name=key)
        for key in ("token_ids", "segment_ids", "padding_mask")
        if key != "segment_ids" or config.num_segments
    }
    token_embedding = layers.TokenEmbedding(
        config.vocabulary_size,
        config.hidden_dim,
        output_bias=head == "pretraining",
        embeddings_initializer=parts.initializer(),
        dtype=dtype,
        name="token_embedding",
    )
    tokens = _encoder(parts, inputs, token_embedding)
    unflatten = layers.UnflattenTokens(dtype=dtype, name="unflatten_tokens")
    sequence = unflatten([tokens, inputs["padding_mask"]])
    outputs = {"sequence_output": sequence}
    first = layers.FirstToken(dtype=dtype, name="first_token")
    if config.pooler:
        pooled = parts.dense(config.hidden_dim, "pooler")(first(sequence))
        outputs["pooled_output"] = keras.layers.Activation(
            "tanh", dtype=dtype, name="pooler_tanh"
        )(pooled)
    if head == "pretraining":
        outputs.update(
            _pretraining(parts, inputs, tokens, outputs, token_embedding)
        )
    elif head == "classifier":
        pooled = outputs.get("pooled_output")
        if pooled is None:
            # DistilBERT's own: dense + ReLU on the first token.
            pooled = parts.dense(config.hidden_dim, "pre_classifier")(
                first(sequence)
            )
            pooled = keras.layers.Activation(
                "relu", dtype=dtype, name="pre_classifier_relu"
            )(pooled)
        pooled = parts.dropout("classifier_dropout")(pooled)
        outputs["logits"] = parts.dense(num_labels, "classifier", "float32")(
            pooled
        )
    elif head == "span":
        logits = parts.dense(2, "span_logits", "float32")(tokens)
        logits = layers.UnflattenTokens(
            dtype="float32", name="unflatten_span_logits"
        )([logits, inputs["padding_mask"]])
        outputs["start_logits"] = layers.TakeLast(
            0, dtype="float32", name="start_logits"
        )(logits)
        outputs["end_logits"] = layers.TakeLast(
            1, dtype="float32", name="end_logits"
        )(logits)
    model = TaskModel(inputs, outputs, name=name)
    return describe(model, config, head, num_labels)


def describe(
    model: keras.Model, config, head, num_labels=2, vocab_file=None
) -> keras.Model:
    """Attaches the attributes that tell what a model is; returns it."""
    model.config = config
    model.head = head
    # JSON has no numbers of numpy.
    model.num_labels = int(num_labels)
    model.vocab_file = vocab_file
    model.tokenizer_settings = None
    return model


def _encoder(parts, inputs, token_embedding):
    """Embeddings and encoder layers: returns [batch * seq, hidden]."""
    config, dtype = parts.config, parts.dtype
    token_ids = inputs["token_ids"]
    terms = [
        token_embedding(token_ids),
        layers.PositionEmbedding(
            config.max_sequence_length,
            config.hidden_dim,
            embeddings_initializer=parts.initializer(),
            dtype=dtype,
            name="position_embedding",
        )(token_ids),
    ]
    if config.num_segments:
        segment_embedding = keras.layers.Embedding(
            config.num_segments,
            config.hidden_dim,
            embeddings_initializer=parts.initializer(),
            dtype=dtype,
            name="segment_embedding",
        )
        terms.append(segment_embedding(inputs["segment_ids"]))
    x = parts.add("embeddings_add")(terms)
    x = parts.norm("embeddings_layer_norm")(x)
    x = parts.dropout("embeddings_dropout")(x)
    x = layers.FlattenTokens(dtype=dtype, name="flatten_tokens")(x)
    mask = layers.AttentionMask(dtype="float32", name="attention_mask")(
        inputs["padding_mask"]
    )
    for i in range(config.num_layers):
        x = _encoder_layer(parts, f"layer_{i}", x, mask)
    return x


def _encoder_layer(parts, prefix, x, mask):
    """One post-norm transformer layer on [batch * seq, hidden]."""
    config, dtype = parts.config, parts.dtype
    query, key, value = (
        parts.dense(config.hidden_dim, f"{prefix}_{part}")(x)
        for part in ("query", "key", "value")
    )
    scores = layers.AttentionScores(
        config.num_heads, dtype=dtype, name=f"{prefix}_attention_scores"
    )([query, key, mask])
    y = layers.AttentionContext(
        config.attention_dropout, dtype=dtype, name=f"{prefix}_attention"
    )([scores, value])
    y = parts.dense(config.hidden_dim, f"{prefix}_attention_output")(y)
    y = parts.dropout(f"{prefix}_attention_dropout")(y)
    x = parts.add(f"{prefix}_attention_add")([x, y])
    x = parts.norm(f"{prefix}_attention_layer_norm")(x)
    y = parts.dense(config.intermediate_dim, f"{prefix}_intermediate")(x)
    y = parts.gelu(f"{prefix}_gelu")(y)
    y = parts.dense(config.hidden_dim, f"{prefix}_output")(y)
    y = parts.dropout(f"{prefix}_output_dropout")(y)
    x = parts.add(f"{prefix}_output_add")([x, y])
    return parts.norm(f"{prefix}_output_layer_norm")(x)


def _pretraining(parts, inputs, tokens, encoder_outputs, token_embedding):
    """MLM head with the decoder tied to the embeddings, and NSP head."""
    dtype = parts.dtype

    def unflatten(flat, name):
        layer = layers.UnflattenTokens(dtype=dtype, name=name)
        return layer([flat, inputs["padding_mask"]])

    x = parts.dense(parts.config.hidden_dim, "mlm_dense")(tokens)
    x = parts.gelu("mlm_gelu")(x)
    x = parts.norm("mlm_layer_norm")(x)
    outputs = {
        "mlm_hidden": unflatten(x, "mlm_hidden"),
        "mlm_logits": unflatten(
            token_embedding(x, reverse=True), "mlm_logits"
        ),
    }
    if parts.config.pooler:
        outputs["nsp_logits"] = parts.dense(2, "nsp_logits", "float32")(
            encoder_outputs["pooled_output"]
        )
    return outputs


def output_of(model: keras.Model, layer_name: str):
    """The symbolic output of a layer inside `model`.

    `layer.output` is ambiguous once clones share the layer.

    Raises:
        ValueError: if the model has no layer of that name.
    """
    for nodes in model._nodes_by_depth.values():
        for node in nodes:
            if node.layer.name == layer_name:
                return node.outputs
    raise ValueError(f"Model {model.name} has no layer {layer_name!r}.")


def with_internals(model: keras.Model) -> keras.Model:
    """A model that shares all layers and also returns its internals.

    Adds "hidden_states", a list of num_layers + 1 tensors [batch, seq,
    hidden], the embeddings first, and "attention_scores", a list of num_layers
    tensors [batch, heads, seq, seq] float32: masked, before the softmax.
    """
    config = model.config
    mask = model.input["padding_mask"]
    hidden_states = [output_of(model, "embeddings_dropout")]
    for i in range(config.num_layers):
        flat = output_of(model, f"layer_{i}_output_layer_norm")
        unflatten = layers.UnflattenTokens(
            dtype=flat.dtype, name=f"hidden_state_{i + 1}"
        )
        hidden_states.append(unflatten([flat, mask]))
    outputs = {
        **model.output,
        "hidden_states": hidden_states,
        "attention_scores": [
            output_of(model, f"layer_{i}_attention_scores")
            for i in range(config.num_layers)
        ],
    }
    return _view(model, outputs, "internals")


def without_mlm_logits(model: keras.Model) -> keras.Model:
    """A model that shares all layers and never computes vocabulary logits.

    Its outputs are "mlm_hidden" [batch, seq, hidden] and, with a pooler,
    "nsp_logits" [batch, 2]. Logits at chosen positions come from
    `model.get_layer("token_embedding")(hidden, reverse=True)`.

    Raises:
        ValueError: if the model has no pretraining head.
    """
    if model.head != "pretraining":
        raise ValueError(
            f"Model {model.name} has head {model.head!r}, not 'pretraining'."
        )
    outputs = {
        key: model.output[key]
        for key in ("mlm_hidden", "nsp_logits")
        if key in model.output
    }
    return _view(model, outputs, "without_mlm_logits")


def _view(model, outputs, suffix):
    view = keras.Model(model.input, outputs, name=f"{model.name}_{suffix}")
    return describe(
        view, model.config, model.head, model.num_labels, model.vocab_file
    )
