"""BERT's arithmetic against a plain numpy one, and the shape of the model."""

import math

import numpy as np
import pytest

from tf_pof._keras import keras
from tf_pof.models import bert
from tf_pof.models import weights
from tf_pof.models.config import BertConfig

import tensorflow as tf


def _norm(x, gamma, beta):
    mean = x.mean(-1, keepdims=True)
    variance = ((x - mean) ** 2).mean(-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + 1e-12) * gamma + beta


def _gelu(x):
    return 0.5 * x * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def numpy_bert(model, batch):
    """Devlin et al. 2019 in numpy float64: all hidden states, and heads."""
    w = {
        path: value.numpy().astype(np.float64)
        for path, value in weights.variables(model).items()
    }
    config = model.config

    def dense(x, name):
        return x @ w[f"{name}/kernel"] + w[f"{name}/bias"]

    def norm(x, name):
        return _norm(x, w[f"{name}/gamma"], w[f"{name}/beta"])

    ids = batch["token_ids"]
    x = w["token_embedding/embeddings"][ids]
    x = x + w["position_embedding/embeddings"][: ids.shape[1]]
    if config.num_segments:
        x = x + w["segment_embedding/embeddings"][batch["segment_ids"]]
    x = norm(x, "embeddings_layer_norm")
    states, head_dim = [x], config.hidden_dim // config.num_heads
    for i in range(config.num_layers):
        context = np.zeros_like(x)
        q, k, v = (
            dense(x, f"layer_{i}_{part}") for part in ("query", "key", "value")
        )
        for head in range(config.num_heads):
            part = slice(head * head_dim, (head + 1) * head_dim)
            scores = np.einsum("bqd,bkd->bqk", q[..., part], k[..., part])
            scores = scores / math.sqrt(head_dim)
            hidden = batch["padding_mask"][:, None, :] == 0
            scores = np.where(hidden, -np.inf, scores)
            scores = np.exp(scores - scores.max(-1, keepdims=True))
            scores /= scores.sum(-1, keepdims=True)
            context[..., part] = scores @ v[..., part]
        y = dense(context, f"layer_{i}_attention_output")
        x = norm(x + y, f"layer_{i}_attention_layer_norm")
        y = dense(
            _gelu(dense(x, f"layer_{i}_intermediate")), f"layer_{i}_output"
        )
        x = norm(x + y, f"layer_{i}_output_layer_norm")
        states.append(x)
    outputs = {"hidden_states": states, "sequence_output": x}
    if config.pooler:
        outputs["pooled_output"] = np.tanh(dense(x[:, 0], "pooler"))
    if model.head == "pretraining":
        y = norm(_gelu(dense(x, "mlm_dense")), "mlm_layer_norm")
        outputs["mlm_hidden"] = y
        outputs["mlm_logits"] = (
            y @ w["token_embedding/embeddings"].T
            + w["token_embedding/output_bias"]
        )
        if config.pooler:
            outputs["nsp_logits"] = dense(
                outputs["pooled_output"], "nsp_logits"
            )
    elif model.head == "classifier":
        pooled = outputs.get("pooled_output")
        if pooled is None:
            pooled = np.maximum(dense(x[:, 0], "pre_classifier"), 0)
        outputs["logits"] = dense(pooled, "classifier")
    elif model.head == "span":
        logits = dense(x, "span_logits")
        outputs["start_logits"] = logits[..., 0]
        outputs["end_logits"] = logits[..., 1]
    return outputs


@pytest.mark.parametrize("family", ["bert", "distilbert"])
@pytest.mark.parametrize("head", bert.HEADS)
def test_every_output_equals_numpy(tiny, batch, family, head):
    model = bert.with_internals(tiny(head, family))
    expected = numpy_bert(model, batch)
    outputs = model(batch)
    assert set(outputs) == set(expected) | {"attention_scores"}
    for key, value in expected.items():
        for ours, theirs in zip(
            tf.nest.flatten(outputs[key]), tf.nest.flatten(value), strict=True
        ):
            # Rows of padding tokens count too: they are computed alike.
            np.testing.assert_allclose(ours, theirs, atol=2e-5, rtol=2e-5)


def test_attention_scores_are_masked_and_scaled(tiny, batch):
    model = tiny()
    scores = bert.with_internals(model)(batch)["attention_scores"]
    assert [s.shape for s in scores] == [(3, 4, 9, 9)] * 2
    assert (scores[1].numpy()[2, :, :, 2:] < -1e8).all()
    x = numpy_bert(model, batch)["hidden_states"][0]
    w = {k: v.numpy() for k, v in weights.variables(model).items()}
    q = x @ w["layer_0_query/kernel"] + w["layer_0_query/bias"]
    k = x @ w["layer_0_key/kernel"] + w["layer_0_key/bias"]
    # Head 1 has columns 4..7; the head dimension is 4, its root 2.
    expected = q[0, 3, 4:8] @ k[0, 5, 4:8] / 2
    np.testing.assert_allclose(scores[0][0, 1, 3, 5], expected, rtol=1e-4)


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_compiled_training_step_is_finite(batch, tiny, policy, jit_compile):
    keras.mixed_precision.set_global_policy(policy)
    model = tiny("pretraining")
    view = bert.without_mlm_logits(model)

    @tf.function(jit_compile=jit_compile)
    def step(x):
        with tf.GradientTape() as tape:
            outputs = view(x, training=True)
            loss = tf.reduce_mean(tf.square(outputs["nsp_logits"]))
        return loss, tape.gradient(loss, model.get_layer("pooler").kernel)

    loss, gradient = step(batch)
    again, _ = step(batch)
    assert np.isfinite(loss) and np.isfinite(gradient).all()
    assert loss != again  # dropout draws anew


def test_bfloat16_is_close_and_keeps_heads_in_float32(batch, tiny):
    reference = tiny("pretraining")
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    model = tiny("pretraining")
    outputs = model(batch)
    assert outputs["nsp_logits"].dtype == tf.float32
    assert outputs["sequence_output"].dtype == tf.bfloat16
    assert all(w.dtype == tf.float32 for w in model.weights)
    expected = reference(batch)["sequence_output"].numpy()
    got = tf.cast(outputs["sequence_output"], tf.float32).numpy()
    # 8 bits of mantissa through two layers; values are of the order of 1.
    assert np.abs(got - expected).mean() < 0.05
    assert bert.with_internals(model)(batch)["attention_scores"][
        0
    ].dtype == tf.float32


def test_dropout_random_state_is_in_checkpoints(tiny, batch, tmp_path):
    model = tiny()

    def draw(m):
        return m(batch, training=True)["sequence_output"].numpy()

    draw(model)
    path = tf.train.Checkpoint(model=model).write(str(tmp_path / "ckpt"))
    expected = [draw(model), draw(model)]
    assert not np.array_equal(expected[0], expected[1])
    other = tiny(seed=5)
    draw(other)
    tf.train.Checkpoint(model=other).read(path).assert_consumed()
    np.testing.assert_array_equal(draw(other), expected[0])
    np.testing.assert_array_equal(draw(other), expected[1])
    assert all(w.dtype == tf.float32 for w in model.weights)


def test_without_mlm_logits_has_no_vocabulary_sized_tensor(tiny, batch):
    view = bert.without_mlm_logits(tiny("pretraining", vocabulary_size=97))
    function = tf.function(lambda x: view(x)).get_concrete_function(
        {k: tf.TensorSpec([None, 9], tf.int32) for k in batch}
    )
    assert set(function.structured_outputs) == {"mlm_hidden", "nsp_logits"}
    last = [
        output.shape[-1]
        for operation in function.graph.get_operations()
        for output in operation.outputs
        if output.shape.rank
    ]
    assert 97 not in last and 16 in last


def test_prunable_names_exactly_encoder_kernels_and_pooler(tiny):
    import re

    for head in bert.HEADS:
        dense = [
            layer.name
            for layer in tiny(head).layers
            if isinstance(layer, keras.layers.Dense)
        ]
        pruned = [n for n in dense if re.match(bert.PRUNABLE, n)]
        assert len(pruned) == 2 * 6 + 1
        assert all(n.startswith("layer_") or n == "pooler" for n in pruned)


def test_every_dense_input_and_kernel_is_two_dimensional(tiny):
    for layer in tiny("pretraining").layers:
        if isinstance(layer, keras.layers.Dense):
            assert layer.input.shape.rank == 2
            assert layer.kernel.shape.rank == 2
            assert layer.activation is keras.activations.linear


def test_clone_and_config_round_trip_compute_the_same(tiny, batch):
    model = tiny("pretraining")
    for other in (
        keras.models.clone_model(model),
        keras.Model.from_config(model.get_config()),
    ):
        other.set_weights(model.get_weights())
        np.testing.assert_array_equal(
            other(batch)["mlm_logits"], model(batch)["mlm_logits"]
        )


def test_distilbert_takes_a_batch_with_segments(tiny, batch):
    model = tiny(family="distilbert")
    output = model(batch)["sequence_output"]
    changed = {**batch, "segment_ids": 1 - batch["segment_ids"]}
    np.testing.assert_array_equal(model(changed)["sequence_output"], output)


def test_static_sequence_equals_dynamic(tiny, batch):
    model = tiny("span")
    static = bert.build(model.config, "span", sequence_length=9)
    static.set_weights(model.get_weights())
    np.testing.assert_array_equal(
        static(batch)["end_logits"], model(batch)["end_logits"]
    )
    with pytest.raises(ValueError, match="21 tokens.*only 20 positions"):
        bert.build(model.config, sequence_length=21)


@pytest.mark.parametrize(
    "name, parameters",
    [
        # Embeddings (30522 + 512 + 2) H + 2 H; a layer 4 (H H + H) + 2 H F +
        # F + H + 4 H; pooler H H + H. DistilBERT: no segments, no pooler.
        ("bert_tiny", 4385920),
        ("bert_base", 109482240),
        ("distilbert", 66362880),
        ("minilm_l6", 22713216),
    ],
)
def test_preset_sizes(name, parameters):
    c = BertConfig.preset(name)
    h, f = c.hidden_dim, c.intermediate_dim
    count = (30522 + 512 + c.num_segments) * h + 2 * h
    count += c.num_layers * (4 * (h * h + h) + 2 * h * f + f + h + 4 * h)
    count += c.pooler * (h * h + h)
    assert count == parameters
    if name in ("bert_tiny", "minilm_l6"):
        assert bert.build(c).count_params() == parameters


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"hidden_dim": 10}, "not a multiple of num_heads"),
        ({"activation": "relu"}, "activation must be"),
        ({"num_segments": 0}, "pooler=False"),
        ({"dropout": 1.0}, r"in \[0, 1\)"),
        ({"num_layers": 0}, "at least 1"),
        ({"num_layers": "2"}, "num_layers must be a whole number, not '2'"),
        ({"num_layers": 2.0}, "num_layers must be a whole number"),
        ({"num_heads": True}, "num_heads must be a whole number"),
        ({"vocabulary_size": 2**31}, "vocabulary_size must be at most"),
        ({"layer_norm_epsilon": -1}, "layer_norm_epsilon must be above 0"),
        ({"layer_norm_epsilon": 1e-60}, "layer_norm_epsilon must be above 0"),
        ({"layer_norm_epsilon": float("nan")}, "layer_norm_epsilon must be"),
        ({"initializer_range": 10**400}, r"must be in \[0, 10\], not inf"),
        ({"dropout": None}, "dropout must be a number"),
        ({"pooler": 1}, "pooler must be a bool"),
    ],
)
def test_config_refuses_what_does_not_fit(fields, message):
    with pytest.raises(ValueError, match=message):
        BertConfig(**fields)


def test_a_classifier_has_a_pooler_and_an_output():
    config = BertConfig.preset("bert_tiny", num_layers=1, pooler=False)
    model = bert.build(config, "classifier")
    assert model.config.pooler and "pooled_output" in model.output
    assert "pooled_output" not in bert.build(config, "pretraining").output
    with pytest.raises(ValueError, match="num_labels must be at least 1"):
        bert.build(config, "classifier", num_labels=0)
