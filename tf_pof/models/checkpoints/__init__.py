"""Foreign checkpoints in and out: Hugging Face, Google, keras-nlp."""

import os
import re

# As Hugging Face's hub has them: "google/bert_uncased_L-2_H-128_A-2" or one of
# its oldest, which have no owner.
_HUB_NAME = r"[\w-][\w.-]*/[\w-][\w.-]*|(distil)?bert-[\w.-]+"


def not_here(name: str) -> str | None:
    """The sentence on a name that is no path here but may be the hub's.

    Args:
        name: what a user gave in place of a path.

    Returns:
        None if it is a path, or no name that the hub could have.
    """
    if os.path.lexists(name) or not re.fullmatch(_HUB_NAME, name):
        return None
    return (
        f"There is no {name} here; if it is a name of Hugging Face's hub, "
        f"download it first (hf download {name} --local-dir DIR) and give "
        "DIR, since nothing is fetched by name."
    )


def kind_of(path: str) -> str | None:
    """ "keras_nlp", "huggingface", "google", or None if it is none of them.

    Args:
        path: a folder, or a Google checkpoint prefix.

    Raises:
        ValueError: if a folder holds several Google checkpoints, and nothing
            says which is meant.
    """
    # Imported here: the table of names needs no TensorFlow, these do.
    from tf_pof.models.checkpoints import google
    from tf_pof.models.checkpoints import huggingface
    from tf_pof.models.checkpoints import keras_nlp

    if keras_nlp.is_preset(path):
        return "keras_nlp"
    if huggingface.is_folder(path):
        return "huggingface"
    return "google" if google.find(path) else None


def load_into(model, path: str) -> tuple[str, ...]:
    """Assigns a checkpoint of any kind to a model built beforehand.

    Heads and pooler that the checkpoint lacks keep their random values, which
    is logged; those that the model lacks are not used.

    Args:
        model: of `tf_pof.models.bert.build`.
        path: a Hugging Face folder (or ours), a keras-nlp preset folder, or a
            Google checkpoint prefix or folder.

    Returns:
        Our paths of the tensors that kept their random values.

    Raises:
        ValueError: if there is no checkpoint, or naming the tensor that is
            missing, extra or misshapen.
    """
    from tf_pof.models.checkpoints import assign
    from tf_pof.models.checkpoints import google
    from tf_pof.models.checkpoints import huggingface
    from tf_pof.models.checkpoints import keras_nlp

    kind = kind_of(path)
    if kind == "keras_nlp":
        return keras_nlp.load_into(model, path)
    if kind == "huggingface":
        return huggingface.load_into(model, path, assign.HEADS, assign.HEADS)
    if kind == "google":
        return google.load_into(model, path)
    raise ValueError(
        f"{path} is no checkpoint: expected a Hugging Face folder, a keras-nlp "
        "preset folder, or a Google checkpoint prefix."
    )
