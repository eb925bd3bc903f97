"""The `Distiller` of each head, with the losses of its tasks."""

from tf_pof._keras import keras

import tensorflow as tf

from tf_pof.distillation import Distiller
from tf_pof.tasks.task import Task

# Far below any logit, finite in every precision.
_MASKED = -1e4


class SpanDistiller(Distiller):
    """Distills start and end logits over tokens, leaving padding out.

    So loss and divergence do not depend on how far a batch is padded.
    """

    def run(self, x, training):
        is_token = tf.cast(x["padding_mask"], tf.bool)

        def mask(outputs):
            if outputs is None:
                return None
            masked = {
                name: tf.where(is_token, value, tf.cast(_MASKED, value.dtype))
                for name, value in outputs.items()
                if name.endswith("logits")
            }
            return {**outputs, **masked}

        return tuple(map(mask, super().run(x, training)))


def make(
    task: Task,
    student: keras.Model,
    teacher: keras.Model | None,
    optimizer: keras.optimizers.Optimizer,
    jit_compile: bool = False,
    **weights,
) -> Distiller:
    """A compiled distiller for a task.

    Start and end logits weigh .5 each; scores are trained by squared error,
    classes by cross-entropy.

    Args:
        task: what is learned.
        student, teacher: models with the task's head.
        optimizer: of the student.
        jit_compile: whether XLA compiles the step.
        **weights: of `Distiller`.
    """
    cross_entropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    if task.head == "span":
        distiller = SpanDistiller(student, teacher, **weights)
        names = ("start_logits", "end_logits")
        loss = dict.fromkeys(names, cross_entropy)
        loss_weights = dict.fromkeys(names, 0.5)
    else:
        distiller = Distiller(student, teacher, **weights)
        loss, loss_weights = cross_entropy, None
        if task.is_regression:
            loss = keras.losses.MeanSquaredError()
    distiller.compile(
        optimizer, loss, loss_weights=loss_weights, jit_compile=jit_compile
    )
    return distiller
