"""Hugging Face's names of tensors, freed from what other tools leave in them.

The rule, in this order:

1. Segments that wrappers of modules add ("module", "_orig_mod" and the like)
   are dropped wherever they stand, and "0.auto_model", "auto_model" and
   "model" at the beginning, repeatedly: no tensor of a BERT has them.
2. The older "gamma" and "beta" of layer norms become "weight" and "bias".
3. If no name begins with "bert" or "distilbert", as in files of the bare
   encoder, those of the encoder and the pooler get it.
4. Buffers are no weights: position_ids and token_type_ids of the embeddings,
   and the weights of losses, whose module's name contains "loss" or
   "criterion". They are left out.
5. An MLM decoder's bias is "cls.predictions.bias", whichever name it has.
"""

from collections.abc import Iterable
import logging
import re

_LOG = logging.getLogger(__name__)

_WRAPPERS = re.compile(
    r"(?:^|(?<=\.))(?:module|_orig_mod|_fsdp_wrapped_module"
    r"|_checkpoint_wrapped_module)\."
)
_LEADING = re.compile(r"^(?:(?:0\.)?auto_model\.|model\.)+")
_BARE = re.compile(r"^(?=(?:embeddings|encoder|transformer|pooler)\.)")
_BUFFERS = re.compile(r"(?:^|\.)embeddings\.(?:position_ids|token_type_ids)$")
_LOSSES = re.compile(
    r"(?:^|\.)\w*(?:loss|criterion)\w*\.(?:\w+\.)*(?:weight|pos_weight)$",
    re.IGNORECASE,
)
_DECODER_BIAS = "cls.predictions.decoder.bias"


def plain(names: Iterable[str], source: str) -> dict[str, str]:
    """Hugging Face's names of tensors, by the names that a file has.

    What was dropped or left out beyond the buffers of Hugging Face's own is
    logged in one warning.

    Args:
        names: of the file's tensors.
        source: path of the file, for messages.

    Returns:
        The plain name of each; buffers are left out.

    Raises:
        ValueError: if two tensors have the same plain name.
    """
    found, wrapped, losses = {}, [], []
    for name in names:
        bare = _LEADING.sub("", _WRAPPERS.sub("", name))
        if _BUFFERS.search(bare):
            continue
        if _LOSSES.search(bare):
            losses.append(name)
            continue
        if bare != name:
            wrapped.append(name)
        bare = re.sub(r"\.gamma$", ".weight", bare)
        found[name] = re.sub(r"\.beta$", ".bias", bare)
    if not any(re.match(r"(distil)?bert\.", name) for name in found.values()):
        distil = any(n.startswith("transformer.") for n in found.values())
        prefix = "distilbert." if distil else "bert."
        found = {
            name: _BARE.sub(prefix, bare) for name, bare in found.items()
        }
    if "cls.predictions.bias" not in found.values():
        found = {
            name: bare.replace(_DECODER_BIAS, "cls.predictions.bias")
            for name, bare in found.items()
        }
    owners = {}
    for name, bare in found.items():
        if bare in owners:
            raise ValueError(
                f"{source} holds the tensor {bare!r} twice, as "
                f"{owners[bare]!r} and {name!r}."
            )
        owners[bare] = name
    _warn(source, wrapped, found, losses)
    return found


def _warn(source, wrapped, found, losses):
    parts = []
    if wrapped:
        parts.append(
            f"{len(wrapped)} names lost what a wrapper put into them "
            f"({wrapped[0]} is read as {found[wrapped[0]]})"
        )
    if losses:
        parts.append(f"weights of losses are left out ({', '.join(losses)})")
    if parts:
        _LOG.warning("%s: %s.", source, "; ".join(parts))
