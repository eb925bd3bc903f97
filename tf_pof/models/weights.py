"""Reading and assigning a model's weights by path.

A path is "<layer name>/<weight name>", for example "layer_0_query/kernel" or
"token_embedding/output_bias".
"""

from collections.abc import Iterator, Mapping

from tf_pof._keras import keras  # isort: skip  (before TensorFlow)

import numpy as np
import tensorflow as tf


def inner(layer: keras.layers.Layer) -> keras.layers.Layer:
    """The layer itself, or the one inside a pruning or quantizing wrapper."""
    return getattr(layer, "layer", layer)


def variables(model: keras.Model) -> dict[str, tf.Variable]:
    """The weights of all layers by path.

    Masks, counters and ranges of activations are not weights.
    """
    found = {}
    for layer in model.layers:
        if getattr(layer, "is_quantizer", False):
            continue
        for variable in inner(layer).weights:
            short_name = variable.name.split("/")[-1].split(":")[0]
            found[f"{inner(layer).name}/{short_name}"] = variable
    return found


def effective_kernel(layer: keras.layers.Layer) -> np.ndarray:
    """The kernel that the forward pass uses: kernel * mask when wrapped.

    Args:
        layer: a Dense, or a wrapper with `.layer` and `.pruning_vars`, a list
            of (weight, mask, threshold).
    """
    kernel = inner(layer).kernel
    for weight, mask, _ in getattr(layer, "pruning_vars", ()):
        if weight is kernel:
            # where, not a product: no -0.0, and no NaN behind the mask.
            return np.where(mask.numpy() != 0, kernel.numpy(), 0).astype(
                kernel.dtype.as_numpy_dtype
            )
    return kernel.numpy()


def effective(model: keras.Model) -> Iterator[tuple[str, np.ndarray]]:
    """Yields (path, float32 array), masks applied."""
    kernels = {
        f"{inner(layer).name}/kernel": layer
        for layer in model.layers
        if getattr(layer, "pruning_vars", None)
    }
    for path, variable in variables(model).items():
        if path in kernels:
            yield path, effective_kernel(kernels[path]).astype(np.float32)
        else:
            yield path, variable.numpy().astype(np.float32)


def sparsity_now(model: keras.Model, stored: Mapping) -> dict:
    """The contents of sparsity.json with the zeros that a model has today.

    Args:
        model: whose kernels `stored` tells of.
        stored: "tensors" maps paths to dicts that hold "zeros" and
            "sparsity"; the top level holds their totals. What does not is
            returned as it is.
    """
    result = dict(stored)
    if not {"tensors", "zeros", "size"} <= result.keys():
        return result
    result["tensors"] = tensors = dict(stored["tensors"])
    for path, value in effective(model):
        if path in tensors:
            zeros = value.size - int(np.count_nonzero(value))
            share = zeros / value.size
            tensors[path] = {**tensors[path], "zeros": zeros, "sparsity": share}
    result["zeros"] = sum(tensor["zeros"] for tensor in tensors.values())
    result["sparsity"] = result["zeros"] / stored["size"]
    return result
