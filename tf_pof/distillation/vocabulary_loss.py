"""Losses over vocabulary-sized logits that never exist all at once.

A student-pruning step needs the Kullback-Leibler divergence between two
30,522-way distributions at every token. Written plainly that is several
[tokens, vocabulary] float32 tensors; here the decoder, the loss and its
gradient are worked out chunk by chunk in the forward pass (the gradient of a
sum needs no upstream value but a scale), so nothing is stored or recomputed.
"""

from typing import NamedTuple

import tensorflow as tf


class Decoder(NamedTuple):
    """What maps hidden states to logits: `hidden @ kernel^T + bias`."""

    hidden: tf.Tensor  # [rows, hidden_dim]
    kernel: tf.Tensor  # [vocabulary, hidden_dim]
    bias: tf.Tensor  # [vocabulary]

    def cast(self, dtype) -> "Decoder":
        return Decoder(*(tf.cast(t, dtype) for t in self))


def chunked_loss(
    student: Decoder,
    teacher: Decoder | None = None,
    labels=None,
    hard_scale=None,
    distillation_scale=None,
    weights: tuple[float, float] = (1.0, 1.0),
    temperature: float = 2.0,
    chunk_size: int = 512,
    num_rows=None,
    compute_dtype=tf.float32,
    gradient: bool = True,
):
    """Cross-entropy and distillation losses over a tied decoder.

    hard = sum_i hard_scale_i CE(student_i, labels_i)
    distillation =
        sum_i distillation_scale_i T^2 KL(teacher_i^(1/T) || student_i^(1/T))
    loss = weights[0] * hard + weights[1] * distillation

    (Hinton et al. 2015; Zafrir et al. 2021, section 3.2.)

    Args:
        student: hidden [rows, hidden_dim], kernel [vocabulary, hidden_dim],
            bias [vocabulary].
        teacher: the same for the teacher, of any hidden_dim, or None.
        labels: [rows] int32, or None for no cross-entropy.
        hard_scale: [rows] float32, needed with labels.
        distillation_scale: [rows] float32, needed with teacher.
        weights: of the two sums in the loss.
        temperature: softens both distributions.
        chunk_size: rows whose logits exist at the same time.
        num_rows: scalar int32; rows from here on are not looked at (they must
            have scale 0). All by default.
        compute_dtype: of the products; softmax, losses and the sums of the
            gradients are float32.
        gradient: False when no gradient will be asked for.

    Returns:
        loss: scalar float32, differentiable in the student's tensors only.
        sums: dict of scalar float32 without gradient: "hard" and
            "distillation" (the two sums above), "correct" (sum of
            [hard_scale > 0] over rows whose largest logit is the label).
    """
    rows = student.hidden.shape[0]
    if rows is None:
        rows = tf.shape(student.hidden)[0]
    else:
        chunk_size = min(chunk_size, rows)
    num_chunks = -(-rows // chunk_size)
    padding = num_chunks * chunk_size - rows
    limit = rows if num_rows is None else num_rows
    trip_count = tf.minimum(-(-limit // chunk_size), num_chunks)
    if teacher is not None:
        teacher = teacher.cast(compute_dtype)
    per_row = [labels, hard_scale, distillation_scale]
    per_row.append(None if teacher is None else teacher.hidden)
    per_row = [None if t is None else _pad(t, padding) for t in per_row]

    def run(hidden, kernel, bias):
        hidden = _pad(hidden, padding)

        def body(i, sums, d_hidden, d_kernel, d_bias):
            def rows_of(t):
                if t is None:
                    return None
                start = [i * chunk_size] + [0] * (t.shape.rank - 1)
                return tf.slice(t, start, [chunk_size] + t.shape[1:].as_list())

            chunk = Decoder(rows_of(hidden), kernel, bias)
            label, hard, soft, teacher_hidden = map(rows_of, per_row)
            other = None
            if teacher is not None:
                other = teacher._replace(hidden=teacher_hidden)
            new, d_logits, scale = _chunk(
                chunk, other, label, hard, soft, weights, temperature
            )
            sums = [a + b for a, b in zip(sums, new)]
            if gradient:
                # The scale goes to the thin side, not to [chunk, vocabulary],
                # relative to its largest so that float16 holds it.
                unit = tf.maximum(tf.reduce_max(scale), 1e-30)
                relative = tf.cast(scale / unit, compute_dtype)[:, None]
                d_logits = tf.cast(d_logits, compute_dtype)
                d_chunk = scale[:, None] * tf.cast(
                    tf.matmul(d_logits, kernel), tf.float32
                )
                d_kernel += unit * tf.cast(
                    tf.matmul(
                        d_logits, relative * chunk.hidden, transpose_a=True
                    ),
                    tf.float32,
                )
                d_bias += unit * tf.cast(
                    tf.matmul(d_logits, relative, transpose_a=True)[:, 0],
                    tf.float32,
                )
                d_hidden = d_hidden.write(i, d_chunk)
            return i + 1, sums, d_hidden, d_kernel, d_bias

        zeros = tf.zeros if gradient else lambda shape: tf.zeros([0])
        _, sums, d_hidden, d_kernel, d_bias = tf.while_loop(
            lambda i, *_: i < trip_count,
            body,
            (
                tf.constant(0),
                [tf.constant(0.0)] * 3,
                tf.TensorArray(
                    tf.float32,
                    size=num_chunks,
                    element_shape=[chunk_size, hidden.shape[1]],
                ),
                zeros(kernel.shape),
                zeros(bias.shape),
            ),
            parallel_iterations=1,
            maximum_iterations=num_chunks,
        )
        if gradient:
            d_hidden = tf.reshape(d_hidden.stack(), tf.shape(hidden))[:rows]
        return sums, (d_hidden, d_kernel, d_bias)

    @tf.custom_gradient
    def loss_of(hidden, kernel, bias):
        # Cast in here, so that the gradient is not rounded on its way out.
        decoder = Decoder(hidden, kernel, bias).cast(compute_dtype)
        sums, grads = run(*decoder)

        def backward(d_loss, *unused):
            del unused  # The sums are for reading only.
            if not gradient:
                raise ValueError("chunked_loss was called for no gradient.")
            return [
                tf.cast(d_loss * g, t.dtype)
                for g, t in zip(grads, (hidden, kernel, bias))
            ]

        loss = weights[0] * sums[0] + weights[1] * sums[1]
        return (loss, *sums), backward

    loss, hard, soft, correct = loss_of(*student)
    sums = {"hard": hard, "distillation": soft, "correct": correct}
    return loss, {k: tf.stop_gradient(v) for k, v in sums.items()}


def _pad(tensor, rows):
    if isinstance(rows, int) and rows == 0:
        return tensor
    return tf.pad(tensor, [[0, rows]] + [[0, 0]] * (tensor.shape.rank - 1))


def _logits(decoder, temperature):
    """[chunk, vocabulary] float32 logits divided by the temperature."""
    # Dividing the thin side saves a pass over the logits.
    scale = tf.cast(1.0 / temperature, decoder.hidden.dtype)
    logits = tf.matmul(
        decoder.hidden * scale, decoder.kernel, transpose_b=True
    )
    return tf.cast(logits + decoder.bias * scale, tf.float32)


def _softmax(logits):
    """Softmax [chunk, vocabulary] and log-sum-exp [chunk] of logits."""
    # The largest probability is exp(max - lse), and never underflows. (TF's
    # fused SoftmaxCrossEntropyWithLogits is ten times slower on CPUs.)
    probabilities = tf.nn.softmax(logits)
    largest = tf.reduce_max(probabilities, -1)
    return probabilities, tf.reduce_max(logits, -1) - tf.math.log(largest)


def _chunk(
    student, teacher, labels, hard_scale, soft_scale, weights, temperature
):
    """Losses of one chunk and their gradient.

    Returns:
        sums: (hard, soft, correct) scalars.
        d_logits: [chunk, vocabulary] float32, short of the factor
        scale: [chunk] float32.
    """
    hard = soft = correct = tf.constant(0.0)
    logits = _logits(student, 1.0 if teacher is None else temperature)
    if teacher is not None:
        teacher_logits = _logits(teacher, temperature)
        target, teacher_lse = _softmax(teacher_logits)
        probabilities, lse = _softmax(logits)
        divergence = lse - teacher_lse + tf.reduce_sum(
            target * (teacher_logits - logits), -1
        )
        soft = tf.reduce_sum(soft_scale * divergence) * temperature**2
        d_logits = probabilities - target
        scale = weights[1] * temperature * soft_scale
    if labels is not None:
        if teacher is not None:
            logits *= temperature
        probabilities, lse = _softmax(logits)
        at_label = tf.gather(logits, labels, batch_dims=1)
        hard = tf.reduce_sum(hard_scale * (lse - at_label))
        hit = tf.equal(tf.argmax(logits, -1, labels.dtype), labels)
        correct = tf.reduce_sum(tf.cast(hit & (hard_scale > 0), tf.float32))
        d_hard = probabilities - tf.one_hot(labels, logits.shape[-1])
        hard_scale = weights[0] * hard_scale
        if teacher is None:
            d_logits, scale = d_hard, hard_scale
        else:
            # One gradient of both, relative to their joint scale.
            joint = tf.maximum(scale + hard_scale, 1e-30)
            d_logits *= (scale / joint)[:, None]
            d_logits += (hard_scale / joint)[:, None] * d_hard
            scale = joint
    return (hard, soft, correct), d_logits, scale
