"""The one table of tensor correspondences behind every checkpoint format.

A row holds our path, the kind of tensor, and the tensor's name in each format
("" where the format has no such tensor). The kind decides the layout:

"hf" and "distilbert" are Hugging Face's names, "google" those of TF1
checkpoints, "tf2" the Model Garden's (below the encoder or beside it), and
"keras_nlp" the attribute path in a backbone, with the index of the weight.

  kind     ours                  hf, distilbert   google        keras_nlp, tf2
  table    [rows, hidden]        same             same          same
  vector   [n]                   same             same          same
  kernel   [in, out]             [out, in]        same          same
  heads    [in, hidden] kernel   [out, in]        same     [in, heads, dim]
  headsb   [hidden] bias         same             same     [heads, dim]
  merge    [hidden, out] kernel  [out, in]        same     [heads, dim, out]
  logits   [in, out]             [out, in]        [out, in]     same
"""

from typing import NamedTuple

import numpy as np

from tf_pof.models.config import BertConfig

FORMATS = ("hf", "distilbert", "google", "keras_nlp", "tf2")


class Row(NamedTuple):
    """One tensor: our path, its kind, and its name in each of FORMATS."""

    path: str
    kind: str
    hf: str
    distilbert: str
    google: str
    keras_nlp: str
    tf2: str


def _dense(layer, kind, hf, distilbert, google, keras_nlp, tf2):
    """Rows of a Dense: kernel of the given kind, and bias."""
    bias_kind = "headsb" if kind == "heads" else "vector"
    return [
        Row(
            f"{layer}/{weight}",
            weight_kind,
            hf and f"{hf}.{torch}",
            distilbert and f"{distilbert}.{torch}",
            google and f"{google}/{weight}",
            keras_nlp and f"{keras_nlp}/{index}",
            tf2 and f"{tf2}/{weight}",
        )
        for index, (weight, torch, weight_kind) in enumerate(
            (("kernel", "weight", kind), ("bias", "bias", bias_kind))
        )
    ]


def _norm(layer, hf, distilbert, google, keras_nlp, tf2):
    """Rows of a layer norm: gamma and beta."""
    return [
        Row(
            f"{layer}/{weight}",
            "vector",
            f"{hf}.{torch}",
            f"{distilbert}.{torch}",
            f"{google}/{weight}",
            keras_nlp and f"{keras_nlp}/{index}",
            tf2 and f"{tf2}/{weight}",
        )
        for index, (weight, torch) in enumerate(
            (("gamma", "weight"), ("beta", "bias"))
        )
    ]


def _encoder(num_layers):
    rows = [
        Row(
            f"{ours}_embedding/embeddings",
            "table",
            f"bert.embeddings.{torch}_embeddings.weight",
            f"distilbert.embeddings.{torch}_embeddings.weight"
            if torch != "token_type"
            else "",
            f"bert/embeddings/{torch}_embeddings",
            f"{ours}_embedding/0",
            f"layer_with_weights-{index}/embeddings",
        )
        for index, (ours, torch) in enumerate(
            (
                ("token", "word"),
                ("position", "position"),
                ("segment", "token_type"),
            )
        )
    ]
    rows += _norm(
        "embeddings_layer_norm",
        "bert.embeddings.LayerNorm",
        "distilbert.embeddings.LayerNorm",
        "bert/embeddings/LayerNorm",
        "embeddings_layer_norm",
        "layer_with_weights-3",
    )
    for i in range(num_layers):
        ours = f"layer_{i}"
        hf = f"bert.encoder.layer.{i}"
        distil = f"distilbert.transformer.layer.{i}"
        google = f"bert/encoder/layer_{i}"
        nlp = f"transformer_layer_{i}"
        tf2 = f"layer_with_weights-{i + 4}"
        for part in ("query", "key", "value"):
            rows += _dense(
                f"{ours}_{part}",
                "heads",
                f"{hf}.attention.self.{part}",
                f"{distil}.attention.{part[0]}_lin",
                f"{google}/attention/self/{part}",
                f"{nlp}/_self_attention_layer/_{part}_dense",
                f"{tf2}/_attention_layer/_{part}_dense",
            )
        rows += _dense(
            f"{ours}_attention_output",
            "merge",
            f"{hf}.attention.output.dense",
            f"{distil}.attention.out_lin",
            f"{google}/attention/output/dense",
            f"{nlp}/_self_attention_layer/_output_dense",
            f"{tf2}/_attention_layer/_output_dense",
        )
        rows += _norm(
            f"{ours}_attention_layer_norm",
            f"{hf}.attention.output.LayerNorm",
            f"{distil}.sa_layer_norm",
            f"{google}/attention/output/LayerNorm",
            f"{nlp}/_self_attention_layer_norm",
            f"{tf2}/_attention_layer_norm",
        )
        rows += _dense(
            f"{ours}_intermediate",
            "kernel",
            f"{hf}.intermediate.dense",
            f"{distil}.ffn.lin1",
            f"{google}/intermediate/dense",
            f"{nlp}/_feedforward_intermediate_dense",
            f"{tf2}/_intermediate_dense",
        )
        rows += _dense(
            f"{ours}_output",
            "kernel",
            f"{hf}.output.dense",
            f"{distil}.ffn.lin2",
            f"{google}/output/dense",
            f"{nlp}/_feedforward_output_dense",
            f"{tf2}/_output_dense",
        )
        rows += _norm(
            f"{ours}_output_layer_norm",
            f"{hf}.output.LayerNorm",
            f"{distil}.output_layer_norm",
            f"{google}/output/LayerNorm",
            f"{nlp}/_feedforward_layer_norm",
            f"{tf2}/_output_layer_norm",
        )
    return rows


def _heads(num_layers):
    return [
        *_dense(
            "pooler",
            "kernel",
            "bert.pooler.dense",
            "",
            "bert/pooler/dense",
            "pooled_dense",
            f"layer_with_weights-{num_layers + 4}",
        ),
        *_dense(
            "mlm_dense",
            "kernel",
            "cls.predictions.transform.dense",
            "vocab_transform",
            "cls/predictions/transform/dense",
            "",
            "masked_lm/dense",
        ),
        *_norm(
            "mlm_layer_norm",
            "cls.predictions.transform.LayerNorm",
            "vocab_layer_norm",
            "cls/predictions/transform/LayerNorm",
            "",
            "masked_lm/layer_norm",
        ),
        Row(
            "token_embedding/output_bias",
            "vector",
            "cls.predictions.bias",
            "vocab_projector.bias",
            "cls/predictions/output_bias",
            "",
            "masked_lm/bias",
        ),
        *_logits(
            "nsp_logits",
            "cls.seq_relationship",
            "",
            "cls/seq_relationship/output_",
            "next_sentence..logits",
        ),
        *_dense("pre_classifier", "kernel", "", "pre_classifier", "", "", ""),
        *_logits("classifier", "classifier", "classifier", "output_", ""),
        *_logits(
            "span_logits", "qa_outputs", "qa_outputs", "cls/squad/output_", ""
        ),
    ]


def _logits(layer, hf, distilbert, google, tf2):
    """Rows of a small head, whose kernel Google's TF1 code transposes."""
    kernel, bias = _dense(layer, "logits", hf, distilbert, "", "", tf2)
    return [
        kernel._replace(google=f"{google}weights"),
        bias._replace(google=f"{google}bias"),
    ]


def table(config: BertConfig) -> dict[str, Row]:
    """The rows that a model of this size can have, by our path."""
    rows = _encoder(config.num_layers) + _heads(config.num_layers)
    return {row.path: row for row in rows}


def hf_format(config: BertConfig) -> str:
    """The format of a Hugging Face folder of this family."""
    return "distilbert" if config.family == "distilbert" else "hf"


def stored_shape(
    row: Row, fmt: str, shape: tuple[int, ...], config: BertConfig
) -> tuple[int, ...]:
    """The shape in a format of the tensor that has `shape` with us."""
    heads = (config.num_heads, config.hidden_dim // config.num_heads)
    if fmt in ("hf", "distilbert"):
        if row.kind in ("kernel", "heads", "merge", "logits"):
            return shape[::-1]
    elif fmt == "google":
        if row.kind == "logits":
            return shape[::-1]
    elif row.kind == "heads":
        return (shape[0], *heads)
    elif row.kind == "headsb":
        return heads
    elif row.kind == "merge":
        return (*heads, shape[1])
    return shape


def _transposed(row, fmt):
    return (
        fmt in ("hf", "distilbert")
        and row.kind in ("kernel", "heads", "merge", "logits")
    ) or (fmt == "google" and row.kind == "logits")


def to_stored(
    row: Row, fmt: str, value: np.ndarray, config: BertConfig
) -> np.ndarray:
    """Our layout to that of a format."""
    if _transposed(row, fmt):
        return np.ascontiguousarray(value.T)
    return value.reshape(stored_shape(row, fmt, value.shape, config))


def from_stored(
    row: Row, fmt: str, value: np.ndarray, shape: tuple[int, ...]
) -> np.ndarray:
    """A format's layout to ours, which has `shape`."""
    return value.T if _transposed(row, fmt) else value.reshape(shape)
