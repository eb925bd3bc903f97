"""Sums of three and more tensors in an order that no thread decides.

TensorFlow's AddN adds its inputs onto the first one whose memory nobody else
reads any more. Which one that is depends on how far other threads have come,
so that a + b + c is (a + b) + c in one step and (c + b) + a in the next, which
is another float. Sums of two are the same either way.

Keras' and TensorFlow's gradients are full of AddN: a layer's input that three
others read, or a table that is embedding and decoder. What is here adds in
pairs. TensorFlow's graph optimizer joins pairs to an AddN again unless
`strategy.fix_order_of_sums` says that it must not.
"""

from collections.abc import Callable, Sequence

import tensorflow as tf

_BIAS_ADD = "TfPofBiasAdd"


@tf.RegisterGradient(_BIAS_ADD)
def _bias_add_gradient(op, gradient):
    """The gradient of BiasAdd, with a bias' sum that is not rounded."""
    layout = op.get_attr("data_format")
    if gradient.dtype not in (tf.bfloat16, tf.float16) or layout != b"NHWC":
        return gradient, tf.raw_ops.BiasAddGrad(
            out_backprop=gradient, data_format=layout
        )
    # TensorFlow's BiasAddGrad adds one row after the other in bfloat16: over
    # 2,048 tokens it is 5 % off, over 16,384 it is 16 %. Its reduce_sum adds
    # bfloat16 in float32 and is no slower; float16 it must be told to.
    axes = list(range(gradient.shape.rank - 1))
    if gradient.dtype == tf.bfloat16:
        return gradient, tf.reduce_sum(gradient, axes)
    total = tf.reduce_sum(tf.cast(gradient, tf.float32), axes)
    return gradient, tf.cast(total, gradient.dtype)


def ordered_sum(tensors: Sequence[tf.Tensor]) -> tf.Tensor:
    """The sum of tensors of one shape, added from the first to the last."""
    total, *others = tensors
    for tensor in others:
        total += tensor
    return total


def ordered_gradients(forward: Callable, variables: Sequence[tf.Variable]):
    """Gradients whose terms are added in pairs, and exactly for biases.

    Args:
        forward: returns a scalar loss and anything else. It must read the
            variables.
        variables: that the loss is differentiated by.

    Returns:
        gradients: dense tensors like the variables, 0 where the loss does not
            depend on one.
        more: what `forward` returned besides the loss.
    """
    zero = tf.UnconnectedGradients.ZERO
    if tf.executing_eagerly():  # run_eagerly: one operation at a time.
        with tf.GradientTape() as tape:
            loss, more = forward()
        gradients = tape.gradient(loss, variables, unconnected_gradients=zero)
    else:
        graph = tf.compat.v1.get_default_graph()
        with graph.gradient_override_map({"BiasAdd": _BIAS_ADD}):
            loss, more = forward()
        # The only public way to gradients that are added in pairs.
        gradients = tf.gradients(
            loss,
            variables,
            aggregation_method=tf.AggregationMethod.EXPERIMENTAL_TREE,
            unconnected_gradients=zero,
        )
    # Dense, because a tied decoder's are: one kind for all sums.
    return [tf.convert_to_tensor(g) for g in gradients], more
