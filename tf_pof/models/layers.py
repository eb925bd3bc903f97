"""Layers that Keras lacks: embeddings, attention, token flattening.

All work with a static or dynamic batch and sequence, under jit_compile and
under mixed precision (softmax in float32).
"""

import math

from tf_pof._keras import keras

import tensorflow as tf

_register = keras.utils.register_keras_serializable(package="tf_pof")


@_register
def gelu_new(inputs):
    """GELU by tanh (Hendrycks & Gimpel 2016): Google's and keras-nlp's."""
    return tf.nn.gelu(inputs, approximate=True)


def register_model(cls: type[keras.Model]) -> type[keras.Model]:
    """Registers a class of models, by the name that Keras writes into files.

    Of models HDF5 and JSON have the bare name of the class, which Keras' own
    registry does not know when it reads them.
    """
    cls = _register(cls)
    cls.__name__ = keras.utils.get_registered_name(cls)
    return cls


def config_of_wrapper(wrapper: keras.layers.Wrapper) -> dict:
    """Keras' config of a wrapper, with the inner layer's registered name.

    HDF5 files are read by the name of the class, which Keras writes bare.
    """
    config = keras.layers.Wrapper.get_config(wrapper)
    inner = config["layer"] = dict(config["layer"])
    inner["class_name"] = keras.utils.get_registered_name(type(wrapper.layer))
    return config


@_register
class Activation(keras.layers.Activation):
    """Keras' layer with a config that HDF5 files can say.

    There Keras writes functions that are not its own in a form that it does
    not read.
    """

    def get_config(self):
        config = super().get_config()
        name = keras.utils.get_registered_name(self.activation)
        if name.startswith("tf_pof>"):
            config["activation"] = name
        return config


@_register
class Dropout(keras.layers.Dropout):
    """Keras dropout with a random state in checkpoints, at half the cost.

    Keras keeps the generator of a random layer out of `tf.train.Checkpoint`, so
    that a resumed training would draw other masks than the unbroken one. Here
    it is tracked; it stays out of `weights`.

    Drawing the masks was half of a training step on CPU. 16 random bits an
    element are enough: the rate is exact to 1 / 65536, and the kept elements
    are scaled by that rate.
    """

    def __init__(self, rate, **kwargs):
        kwargs["rng_type"] = "stateful"
        super().__init__(rate, **kwargs)
        self._dropped = round(rate * 65536)

    def build(self, input_shape):
        super().build(input_shape)
        generator = self._random_generator._generator
        # None in a TF1-style graph, where Keras falls back to legacy ops.
        if generator is not None:
            self._track_trackable(generator, "random_state")

    def call(self, inputs, training=None):
        if self._random_generator._generator is None or self.noise_shape:
            return super().call(inputs, training=training)
        if not self._dropped:
            return tf.identity(inputs)
        if training is None:
            training = keras.backend.learning_phase()
        return tf.__internal__.smart_cond.smart_cond(
            training, lambda: self._drop(inputs), lambda: tf.identity(inputs)
        )

    def _drop(self, inputs):
        size = tf.size(inputs)
        bits = tf.random.stateless_uniform(
            [(size + 1) // 2],
            seed=self._random_generator.make_seed_for_stateless_op(),
            minval=None,
            maxval=None,
            dtype=tf.uint32,
            alg="philox",  # the same everywhere, and what CPUs do best
        )
        bits = tf.reshape(tf.bitcast(bits, tf.uint16), [-1])[:size]
        keep = tf.reshape(bits, tf.shape(inputs)) >= tf.constant(
            self._dropped, tf.uint16
        )
        scale = tf.cast(65536 / (65536 - self._dropped), inputs.dtype)
        return inputs * (tf.cast(keep, inputs.dtype) * scale)


@_register
class TokenEmbedding(keras.layers.Embedding):
    """Token embedding that also is the decoder of the MLM head.

    Args:
        input_dim: vocabulary size.
        output_dim: hidden_dim.
        output_bias: adds the weight `output_bias` [input_dim], used by
            reverse=True.
    """

    def __init__(self, input_dim, output_dim, output_bias=False, **kwargs):
        super().__init__(input_dim, output_dim, **kwargs)
        self.has_output_bias = output_bias

    def build(self, input_shape=None):
        super().build(input_shape)
        if self.has_output_bias:
            self.output_bias = self.add_weight(
                name="output_bias",
                shape=(self.input_dim,),
                initializer="zeros",
                experimental_autocast=False,
            )

    def call(self, inputs, reverse=False):
        """Maps [..] int32 to [.., hidden], or back to logits.

        Args:
            inputs: [..] token ids, or with reverse [.., hidden].
            reverse: returns [.., vocabulary] logits, in the compute dtype.
        """
        if not reverse:
            return super().call(inputs)
        inputs = tf.cast(inputs, self.compute_dtype)
        kernel = tf.cast(self.embeddings, self.compute_dtype)
        logits = tf.matmul(inputs, kernel, transpose_b=True)
        if self.has_output_bias:
            logits += tf.cast(self.output_bias, self.compute_dtype)
        return logits

    def compute_output_shape(self, input_shape):
        return (*input_shape, self.output_dim)

    def get_config(self):
        return {**super().get_config(), "output_bias": self.has_output_bias}


@_register
class PositionEmbedding(keras.layers.Layer):
    """Learned positions 0..seq-1, as a slice of the table (no gather).

    Args:
        max_sequence_length: rows of the table.
        output_dim: hidden_dim.
        embeddings_initializer: of the table.
    """

    def __init__(
        self,
        max_sequence_length,
        output_dim,
        embeddings_initializer="uniform",
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.max_sequence_length = max_sequence_length
        self.output_dim = output_dim
        self.embeddings_initializer = keras.initializers.get(
            embeddings_initializer
        )

    def build(self, input_shape):
        self.embeddings = self.add_weight(
            name="embeddings",
            shape=(self.max_sequence_length, self.output_dim),
            initializer=self.embeddings_initializer,
            experimental_autocast=False,
        )
        super().build(input_shape)

    def call(self, inputs):
        """Maps anything shaped [batch, seq, ..] to [1, seq, hidden].

        Raises:
            ValueError: if a static seq exceeds max_sequence_length.
        """
        seq = inputs.shape[1]
        if seq is None:
            seq = tf.shape(inputs)[1]
        elif seq > self.max_sequence_length:
            raise ValueError(
                f"The sequence has {seq} tokens, but {self.name} has only "
                f"{self.max_sequence_length} positions."
            )
        rows = tf.cast(self.embeddings[:seq], self.compute_dtype)
        return rows[tf.newaxis]

    def get_config(self):
        return {
            **super().get_config(),
            "max_sequence_length": self.max_sequence_length,
            "output_dim": self.output_dim,
            "embeddings_initializer": keras.initializers.serialize(
                self.embeddings_initializer
            ),
        }


@_register
class AttentionMask(keras.layers.Layer):
    """Padding mask [batch, seq] (1 = token) to an additive float32 mask.

    The result is [batch, 1, 1, seq]: 0 where there is a token, -1e9 elsewhere.
    It is added in float32, so that no dtype overflows.
    """

    def call(self, inputs):
        mask = (tf.cast(inputs, tf.float32) - 1.0) * 1e9
        return mask[:, tf.newaxis, tf.newaxis, :]


def _split_heads(tokens, seq, num_heads):
    """[batch * seq, hidden] -> [batch, heads, seq, head_dim]."""
    head_dim = tokens.shape[-1] // num_heads
    tokens = tf.reshape(tokens, [-1, seq, num_heads, head_dim])
    return tf.transpose(tokens, [0, 2, 1, 3])


@_register
class AttentionScores(keras.layers.Layer):
    """Scaled dot products of queries and keys, masked; before the softmax.

    Args:
        num_heads: heads that hidden is split into.
    """

    def __init__(self, num_heads, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.num_heads = num_heads

    def call(self, inputs):
        """Scores in float32.

        Args:
            inputs: list of query [batch * seq, hidden], key (the same) and
                additive mask [batch, 1, 1, seq] float32.

        Returns:
            [batch, heads, seq, seq] float32.
        """
        query, key, mask = inputs
        seq = mask.shape[-1]
        if seq is None:
            seq = tf.shape(mask)[-1]
        # Scaling the query touches fewer numbers than scaling the scores.
        query *= 1.0 / math.sqrt(query.shape[-1] // self.num_heads)
        scores = tf.matmul(
            _split_heads(query, seq, self.num_heads),
            _split_heads(key, seq, self.num_heads),
            transpose_b=True,
        )
        return tf.cast(scores, tf.float32) + mask

    def get_config(self):
        return {**super().get_config(), "num_heads": self.num_heads}


@_register
class AttentionContext(keras.layers.Layer):
    """Softmax of the scores, dropout, and the weighted sum of the values.

    Args:
        dropout: rate on the probabilities.
    """

    def __init__(self, dropout=0.0, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.rate = dropout
        self.dropout = Dropout(
            dropout, name="dropout", dtype=self._dtype_policy
        )

    def build(self, input_shape):
        self.dropout.build(input_shape[0])
        super().build(input_shape)

    def call(self, inputs, training=None):
        """Maps scores and values to context vectors.

        Args:
            inputs: list of scores [batch, heads, seq, seq] float32 and value
                [batch * seq, hidden].
            training: whether to drop probabilities.

        Returns:
            [batch * seq, hidden].
        """
        scores, value = inputs
        num_heads, seq = scores.shape[1], scores.shape[-1]
        if seq is None:
            seq = tf.shape(scores)[-1]
        probabilities = tf.cast(tf.nn.softmax(scores), value.dtype)
        probabilities = self.dropout(probabilities, training=training)
        context = tf.matmul(probabilities, _split_heads(value, seq, num_heads))
        context = tf.transpose(context, [0, 2, 1, 3])
        return tf.reshape(context, [-1, value.shape[-1]])

    def get_config(self):
        return {**super().get_config(), "dropout": self.rate}


@_register
class FlattenTokens(keras.layers.Layer):
    """[batch, seq, hidden] -> [batch * seq, hidden].

    With 3-D inputs and a dynamic batch, TFLite turns Dense into float32.
    """

    def call(self, inputs):
        return tf.reshape(inputs, [-1, inputs.shape[-1]])


@_register
class UnflattenTokens(keras.layers.Layer):
    """Inverse of FlattenTokens, with a [batch, seq] tensor for the shape."""

    def __init__(self, **kwargs):
        super().__init__(autocast=False, **kwargs)

    def call(self, inputs):
        tokens, like = inputs
        seq = like.shape[1]
        if seq is None:
            seq = tf.shape(like)[1]
        return tf.reshape(tokens, [-1, seq, tokens.shape[-1]])


@_register
class FirstToken(keras.layers.Layer):
    """[batch, seq, hidden] -> [batch, hidden] of the first token, [CLS]."""

    def call(self, inputs):
        return inputs[:, 0, :]


@_register
class TakeLast(keras.layers.Layer):
    """[.., n] -> [..], the entry `index` of the last axis."""

    def __init__(self, index, **kwargs):
        super().__init__(**kwargs)
        self.index = index

    def call(self, inputs):
        return inputs[..., self.index]

    def get_config(self):
        return {**super().get_config(), "index": self.index}
