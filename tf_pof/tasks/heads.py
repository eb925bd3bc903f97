"""Trained heads whose classes are another task's, or in another order."""

import re

from absl import logging

from tf_pof._keras import keras

from tf_pof.tasks import text_files
from tf_pof.tasks.task import Task

_CLASSIFIER = "classifier"


def put_in_order(model: keras.Model, task: Task, name: str) -> None:
    """Gives a trained classifier's outputs the order of the task's labels.

    Args:
        model: with the task's head; its labels become the task's.
        task: that it computes from now on.
        name: of the model, for messages.

    Raises:
        ValueError: if it tells other classes apart.
    """
    order = task.class_order(getattr(model, "labels", None), name)
    if order is not None:
        classifier = model.get_layer(_CLASSIFIER)
        kernel, bias = classifier.get_weights()
        classifier.set_weights([kernel[:, order], bias[order]])
    model.labels = task.labels


def adapt(model: keras.Model, task: Task, name: str) -> None:
    """Like `put_in_order`, of a model that is to be trained on the task.

    A head that tells other classes apart is of no use: it gets new weights,
    as if it were not there, which is logged as a warning.
    """
    if not is_trained(model):
        model.labels = task.labels
        return
    try:
        put_in_order(model, task, name)
    except ValueError:
        logging.warning(
            "%s tells %s apart but the task %s: its head gets new weights.",
            name,
            text_files.listed(model.labels),
            text_files.listed(task.labels),
        )
        classifier = model.get_layer(_CLASSIFIER)
        config = classifier.kernel_initializer.get_config()
        draw = type(classifier.kernel_initializer).from_config(config)
        kernel, bias = classifier.kernel, classifier.bias
        kernel.assign(draw(kernel.shape, kernel.dtype))
        bias.assign(bias * 0)
        model.new_weights = (*model.new_weights, kernel.name, bias.name)
        model.labels = task.labels


def is_trained(model: keras.Model) -> bool:
    """Whether a model has a classifier that is not new."""
    new = getattr(model, "new_weights", ())
    return model.head == "classifier" and not any(
        re.match(rf"{_CLASSIFIER}/", weight) for weight in new
    )
