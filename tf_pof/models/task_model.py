"""What `fit`, `evaluate` and `predict` take and give for models of tasks.

A model of `tf_pof.build` gives a dictionary. Labels may be given by the same
names ({"logits": labels}) or plain, as arrays or lists, with or without class
weights; and `predict` gives the logits alone, since the vectors of all tokens
of a data set do not fit into memory.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf
from tf_keras.src.engine import functional

from tf_pof._keras import keras
from tf_pof.models.layers import register_model


def logits_name(outputs) -> str | None:
    """The name of a model's only logits; None if it has none or several."""
    if not isinstance(outputs, Mapping):
        return None
    names = [name for name in outputs if name.endswith("logits")]
    return names[0] if len(names) == 1 else None


class TaskMixin:
    """Put it before keras.Model in the bases of a functional model."""

    def named_output(self):
        """The structure of tensors whose logits are learned."""
        return self.output

    def fit(self, x=None, y=None, *args, class_weight=None, **kwargs):
        """As keras.Model.fit; see the module for what labels may be."""
        if not isinstance(self.named_output(), Mapping):
            kwargs["class_weight"] = class_weight
            return super().fit(x, y, *args, **kwargs)
        x, y, weights = arrays(x, y, kwargs.pop("sample_weight", None))
        if kwargs.get("validation_data") is not None:
            kwargs["validation_data"] = _validation(kwargs["validation_data"])
        if class_weight is not None:
            name = logits_name(self.named_output())
            x, weights = weighed(x, y, weights, class_weight, name)
        return super().fit(x, y, *args, sample_weight=weights, **kwargs)

    def evaluate(self, x=None, y=None, *args, **kwargs):
        """As keras.Model.evaluate; see the module for what labels may be."""
        if not isinstance(self.named_output(), Mapping):
            return super().evaluate(x, y, *args, **kwargs)
        x, y, weights = arrays(x, y, kwargs.pop("sample_weight", None))
        return super().evaluate(x, y, *args, sample_weight=weights, **kwargs)


@register_model
class TaskModel(TaskMixin, functional.Functional):
    """The class of models that `tf_pof.build` and `tf_pof.load` give.

    `predict` gives the logits of a classifier or span model alone, a
    dictionary of float32: {"logits": [n, num_labels]}, or "start_logits" and
    "end_logits" [n, seq]. All outputs are those of
    `tf.keras.Model(model.input, model.output).predict`.
    """

    def predict_step(self, data):
        outputs = super().predict_step(data)
        if not isinstance(outputs, Mapping):
            return outputs
        if getattr(self, "head", None) not in ("classifier", "span"):
            return outputs
        return {k: v for k, v in outputs.items() if k.endswith("logits")}


def arrays(x, y, sample_weight):
    """Inputs, labels and weights with lists of numbers made arrays of.

    Keras takes lists for several inputs, or fails where dictionaries hold them.
    """
    return x, *(
        tf.nest.map_structure(np.asarray, _lists_as_leaves(value))
        if isinstance(value, (list, Mapping))
        else value
        for value in (y, sample_weight)
    )


def _lists_as_leaves(value):
    if isinstance(value, Mapping):
        return {k: _lists_as_leaves(v) for k, v in value.items()}
    return np.asarray(value) if isinstance(value, (list, tuple)) else value


def _validation(data):
    if not isinstance(data, tuple):
        return data
    x, y, weights = keras.utils.unpack_x_y_sample_weight(data)
    x, y, weights = arrays(x, y, weights)
    return (x, y) if weights is None else (x, y, weights)


def weighed(
    x, y, sample_weight, class_weight: Mapping[int, float], name: str | None
) -> tuple[Any, Any]:
    """Class weights as weights of samples, which Keras takes by name, too.

    Args:
        x: of fit: inputs, or a tf.data.Dataset of batches.
        y: labels, plain or {name: labels}; None beside a data set.
        sample_weight: of fit.
        class_weight: by the class's id.
        name: of the model's logits.

    Returns:
        x and the sample weights.

    Raises:
        ValueError: if the model has several logits, classes are missing, or
            the data are of a kind that cannot be weighed.
    """
    if name is None:
        raise ValueError(
            "class_weight needs a model with one kind of logits: use "
            "sample_weight."
        )
    if set(class_weight) != set(range(len(class_weight))):
        raise ValueError(
            f"class_weight must have a weight for each class from 0, not for "
            f"{sorted(class_weight)}."
        )
    table = np.array(
        [class_weight[i] for i in range(len(class_weight))], np.float32
    )
    if isinstance(x, tf.data.Dataset):

        def add(*batch):
            inputs, labels, given = keras.utils.unpack_x_y_sample_weight(batch)
            plain = labels[name] if isinstance(labels, dict) else labels
            weights = tf.gather(table, tf.reshape(plain, [-1]))
            weights = _product(weights, given, name)
            named = isinstance(labels, dict)
            return inputs, labels, {name: weights} if named else weights

        return x.map(add), None
    if y is None:
        raise ValueError(
            "class_weight needs labels beside the inputs, or a tf.data.Dataset."
        )
    named = isinstance(y, Mapping)
    plain = np.asarray(y[name] if named else y).reshape(-1)
    if plain.size and plain.max() >= len(table):
        raise ValueError(
            f"class_weight has {len(table)} weights, and there is a label "
            f"{plain.max()}."
        )
    weights = _product(table[plain], sample_weight, name)
    return x, {name: weights} if named else weights


def _product(weights, given, name):
    if isinstance(given, Mapping):
        given = given.get(name)
    return weights if given is None else weights * given
