"""Hidden-state and attention losses (TinyBERT, Jiao et al. 2020)."""

import tensorflow as tf

from tf_pof._keras import keras
from tf_pof.distillation.sums import ordered_sum
from tf_pof.models.bert import with_internals


class InternalLosses:
    """Mean squared errors between a student's and a teacher's internals.

    Student layer i of n is paired with teacher layer i * m / n of m (TinyBERT's
    uniform map), the embeddings with the embeddings.

    Args:
        student: model made by `tf_pof.build`, perhaps pruned.
        teacher: the same; its depth is a multiple of the student's.
        terms: set of "hidden" and "attention".

    Attributes:
        projections: Dense layers, one a hidden state, from the student's width
            to the teacher's; none where the widths agree.

    Raises:
        ValueError: where the two models cannot be paired.
    """

    def __init__(self, student, teacher, terms):
        self.terms = terms
        for role, model in (("student", student), ("teacher", teacher)):
            if getattr(model, "config", None) is None:
                raise ValueError(
                    f"Hidden-state and attention losses read the {role}'s "
                    "layers: use a model made by tf_pof.build or tf_pof.load."
                )
        ours, theirs = student.config, teacher.config
        if theirs.num_layers % ours.num_layers:
            raise ValueError(
                f"The teacher's {theirs.num_layers} layers cannot be paired "
                f"evenly with the student's {ours.num_layers}: hidden-state "
                "and attention losses need a multiple."
            )
        if "attention" in terms and ours.num_heads != theirs.num_heads:
            raise ValueError(
                f"The attention loss needs equal numbers of heads, but the "
                f"student has {ours.num_heads} and the teacher "
                f"{theirs.num_heads}."
            )
        self.stride = theirs.num_layers // ours.num_layers
        self.student = with_internals(student)
        self.teacher = with_internals(teacher)
        self.projections = []
        if "hidden" in terms and ours.hidden_dim != theirs.hidden_dim:
            self.projections = [
                keras.layers.Dense(
                    theirs.hidden_dim, use_bias=False, name=f"projection_{i}"
                )
                for i in range(ours.num_layers + 1)
            ]
            for layer in self.projections:
                layer.build([None, None, ours.hidden_dim])

    def normalizer(self, x) -> tf.Tensor:
        """Number of tokens that are not padding, scalar float32."""
        return tf.cast(tf.reduce_sum(x["padding_mask"]), tf.float32)

    def __call__(self, x, training):
        return (
            self.student(x, training=training),
            self.teacher(x, training=False),
        )

    def losses(self, x, student, teacher, num_tokens):
        """The terms, as dict of scalar float32.

        Args:
            x: inputs; "padding_mask" [batch, seq] is read.
            student, teacher: outputs of `__call__`.
            num_tokens: of the global batch, scalar float32.
        """
        mask = tf.cast(x["padding_mask"], tf.float32)
        result = {}
        if "hidden" in self.terms:
            ours, theirs = student["hidden_states"], teacher["hidden_states"]
            if self.projections:
                ours = [p(h) for p, h in zip(self.projections, ours)]
            errors = [
                mask * _mean_square(a - b)
                for a, b in zip(ours, theirs[:: self.stride])
            ]
            result["hidden"] = ordered_sum(
                [tf.reduce_sum(e) for e in errors]
            ) / (num_tokens * len(errors))
        if "attention" in self.terms:
            theirs = teacher["attention_scores"][self.stride - 1 :: self.stride]
            pairs = list(zip(student["attention_scores"], theirs))
            # Scores of padding keys are about -1e9 in both: leave them out.
            keys = mask[:, None, None, :]
            lengths = tf.maximum(tf.reduce_sum(mask, -1, keepdims=True), 1.0)
            total = ordered_sum(
                [
                    tf.reduce_sum(
                        mask
                        * tf.reduce_mean(
                            tf.reduce_sum(keys * tf.square(a - b), -1), 1
                        )
                        / lengths
                    )
                    for a, b in pairs
                ]
            )
            result["attention"] = total / (num_tokens * len(pairs))
        return result


def _mean_square(difference):
    return tf.reduce_mean(tf.square(tf.cast(difference, tf.float32)), -1)
