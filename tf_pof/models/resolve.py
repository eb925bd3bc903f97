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

# A run has the one, a model the other.
_TOLD = ("config.json", "settings.json")


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
    spec = _of_run(os.path.expanduser(spec))
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
        f"{spec!r} is neither a model folder, a keras-nlp preset folder or a "
        f"Google checkpoint prefix, nor a bundled model "
        f"({', '.join(folder.bundled()) or 'none here'}), nor a size "
        f"({', '.join(PRESETS)})."
    )


def _of_run(spec: str) -> str:
    """The model of a run's output; anything else as it is."""
    there = [n for n in _TOLD if os.path.exists(os.path.join(spec, n))]
    if there != ["settings.json"]:
        return spec
    model = os.path.join(spec, "model")
    if not os.path.isdir(model):
        raise ValueError(
            f"{spec} is a run without a model yet: let it end, by the command "
            "that began it."
        )
    return model
