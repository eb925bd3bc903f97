"""From what a user writes after --model to a model."""

import os

from tf_pof._keras import keras
from tf_pof.models import bert
from tf_pof.models import checkpoints
from tf_pof.models import folder
from tf_pof.models.checkpoints import google
from tf_pof.models.checkpoints import keras_nlp
from tf_pof.models.config import PRESETS
from tf_pof.models.config import BertConfig


def locate(spec: str) -> str:
    """The model that a spec means, a path or a name: of a run, its model.

    Args:
        spec: as of `resolve`, or the output of a training command.
    """
    spec = os.path.expanduser(spec)
    model = os.path.join(spec, "model")
    return model if _is_run(spec) and os.path.isdir(model) else spec


def _is_run(path) -> bool:
    # A folder with a model of its own has settings of another tool.
    return os.path.exists(
        os.path.join(path, "settings.json")
    ) and not os.path.exists(os.path.join(path, "config.json"))


def resolve(spec: str, head: str | None = "auto", **arguments) -> keras.Model:
    """Builds or loads the model that `spec` means.

    Args:
        spec: a folder or checkpoint prefix (ours, Hugging Face's, a keras-nlp
            preset, Google's), the output of a finished run, the name of a
            bundled model, or a size such as "bert_tiny", which gives random
            weights. What exists as a path wins.
        head: as in `bert.build`; "auto" is the stored head, or None.
        **arguments: of `bert.build`, such as sequence_length or dropout.

    Raises:
        ValueError: in one sentence, if the spec means nothing or its contents
            do not fit.
    """
    spec = locate(spec)
    if _is_run(spec):
        raise ValueError(
            f"{spec} is a run that has no model yet: let its command go on to "
            "the end."
        )
    kind = checkpoints.kind_of(spec)
    if kind == "keras_nlp":
        return keras_nlp.load(spec, head, **arguments)
    if kind == "google":
        return google.load(spec, head, **arguments)
    # A folder that is no model says best what it lacks.
    if os.path.isdir(spec) or spec in folder.bundled():
        return folder.load(spec, head, **arguments)
    if spec in PRESETS and not os.path.exists(spec):
        model = bert.build(
            BertConfig.preset(spec),
            None if head == "auto" else head,
            **arguments,
        )
        model.new_weights = tuple(w.name for w in model.weights)
        return model
    raise ValueError(
        checkpoints.not_here(spec)
        or f"{spec!r} is neither a model folder, a keras-nlp preset folder or "
        f"a Google checkpoint prefix, nor a bundled model "
        f"({', '.join(folder.bundled()) or 'none here'}), nor a size "
        f"({', '.join(PRESETS)})."
    )
