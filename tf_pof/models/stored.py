"""What a model folder says of its model, held against its own tensors.

config.json is Hugging Face's, with a section "tf_pof" of ours. Tools that
fine-tune such a folder write the section as they found it beside another head
and other labels, so it is believed only where the rest agrees with it.
"""

from collections.abc import Collection, Mapping
import dataclasses
import logging
import os
import re
from typing import Any, Literal

import numpy as np
import pydantic

from tf_pof import untrusted
from tf_pof.models.checkpoints import assign
from tf_pof.models.checkpoints import huggingface
from tf_pof.models.checkpoints import tensor_names
from tf_pof.models.config import BertConfig

_LOG = logging.getLogger(__name__)
# Of the section "tf_pof".
VERSION = 1

# Heads by what follows "Bert" or "DistilBert" in the name of a class.
_HEADS = {
    "Model": None,
    "ForPreTraining": "pretraining",
    "ForMaskedLM": "pretraining",
    "ForSequenceClassification": "classifier",
    "ForQuestionAnswering": "span",
}
_ARCHITECTURE = r"(?:TF|Flax)?(?:Distil)?Bert(\w+)"


class _SectionConfig(untrusted.Schema):
    """What Hugging Face's fields do not say of a BertConfig."""

    layer_norm_epsilon: float = 1e-12


class _Section(untrusted.Schema):
    version: int = pydantic.Field(ge=1)
    head: Literal["pretraining", "classifier", "span"] | None
    labels: list[str] | None = None
    config: _SectionConfig = _SectionConfig()


class _Fields(untrusted.Schema):
    """Fields of config.json, as far as they make a head."""

    architectures: list[str] | None = None
    problem_type: str | None = None
    id2label: dict[str, Any] | None = None
    transformers_version: Any = None
    tf_pof: _Section | None = None


@dataclasses.dataclass(frozen=True)
class Stored:
    """A model as its folder holds it.

    Attributes:
        config: with a pooler where one is stored.
        head: that is stored, None if there is none or only a foreign one.
        foreign_head: what the head is if it is none of ours, else None.
        num_labels: width of the classifier.
        is_named: whether config.json names the head, so that other heads'
            tensors have no meaning.
        is_ours: whether the section "tf_pof" is about this very model.
        is_rewritten: whether another tool has written the folder since.
    """

    config: BertConfig
    head: str | None
    foreign_head: str | None
    num_labels: int
    is_named: bool
    is_ours: bool
    is_rewritten: bool


class Description:
    """The config.json of a folder.

    Raises:
        ValueError: in one sentence, if it is missing, or a field is missing
            or wrong.
        OSError: if it cannot be read.
    """

    def __init__(self, folder: str):
        self._path = os.path.join(folder, huggingface.CONFIG)
        contents = huggingface.read_config(folder)
        self._fields = untrusted.fit(contents, _Fields, self._path)
        section = self._fields.tf_pof
        if section is not None and section.version > VERSION:
            raise ValueError(
                f"{self._path} was written by a newer tf_pof (version "
                f"{section.version}, this one reads {VERSION}): update tf_pof."
            )
        try:
            self.config = BertConfig.from_hf(contents)
        except ValueError as error:
            raise ValueError(f"{self._path}: {error}") from None

    def held_against(
        self, tensors: Mapping[str, np.ndarray], source: str
    ) -> Stored:
        """What the folder holds.

        It takes memory for the tensors that are there, not for those that
        config.json tells of.

        Args:
            tensors: by name, see `huggingface.read_tensors`.
            source: the file that they come from, for messages.

        Raises:
            ValueError: naming a tensor that is missing, or of another shape
                than config.json says.
        """
        config, section = self.config, self._fields.tf_pof
        fmt = tensor_names.hf_format(config)
        assign.check_sizes(config, fmt, tensors, source)
        groups = assign.stored_groups(config, fmt, tensors)
        head, foreign_head = self._head(groups), None
        if head not in (None, *assign.HEAD_GROUPS):
            head, foreign_head = None, head
        num_labels = 2
        if head == "classifier":
            row = tensor_names.table(config)["classifier/kernel"]
            shape = np.shape(tensors.get(getattr(row, fmt)))
            named = len(self._fields.id2label or ()) or 2
            num_labels = shape[0] if len(shape) == 2 else named
            foreign_head = self._foreign_problem(num_labels)
            head = None if foreign_head else head
        is_ours = (
            section is not None and not foreign_head and section.head == head
        )
        if section is not None and not is_ours:
            _LOG.warning(
                "%s: the section tf_pof is about another model and not used.",
                self._path,
            )
        if config.family == "bert":
            config = dataclasses.replace(config, pooler="pooler" in groups)
        elif is_ours:
            # Hugging Face's DistilBERT has a fixed one.
            config = dataclasses.replace(
                config, layer_norm_epsilon=section.config.layer_norm_epsilon
            )
        return Stored(
            config,
            head,
            foreign_head,
            num_labels,
            bool(self._fields.architectures),
            is_ours,
            self._fields.transformers_version is not None,
        )

    def labels(self, stored: Stored) -> tuple[str, ...] | None:
        """Names of the classes of the stored classifier, by id.

        Raises:
            ValueError: if they are not one text of its own for every id.
        """
        if self._fields.id2label:
            return _ordered(
                self._fields.id2label, stored.num_labels, self._path
            )
        own = self._fields.tf_pof.labels if stored.is_ours else None
        if own is None or len(own) != stored.num_labels:
            return None
        return tuple(own)

    def _head(self, groups: Collection[str]) -> str | None:
        """One of our heads, or the name of a class that has another one."""
        if self._fields.architectures:
            name = self._fields.architectures[0]
            known = re.fullmatch(_ARCHITECTURE, name)
            if known and known[1] in _HEADS:
                return _HEADS[known[1]]
            return f"that of the class {name[:60]!r}"
        section = self._fields.tf_pof
        if section and assign.HEAD_GROUPS.get(section.head) in groups:
            return section.head
        return assign.stored_head(groups)

    def _foreign_problem(self, num_labels: int) -> str | None:
        """What a classifier is if not one class of several, or a score."""
        problem = self._fields.problem_type
        if problem in (None, "single_label_classification") or (
            problem == "regression" and num_labels == 1
        ):
            return None
        return f"a classifier of problem_type {problem[:60]!r}"


def _ordered(
    id2label: Mapping[str, Any], count: int, where: str
) -> tuple[str, ...]:
    """The names of ids 0 to count - 1.

    The order in the file means nothing: some tools sort the ids as texts.
    """
    names = {}
    for key, name in id2label.items():
        if not re.fullmatch(r"[0-9]{1,9}", key):
            raise ValueError(
                f"{where}: id2label has the key {key[:40]!r}, but ids are "
                "whole numbers."
            )
        if not isinstance(name, str):
            raise ValueError(
                f"{where}: id2label has {name!r:.40} for id {key}, but names "
                "are texts."
            )
        if int(key) in names:
            raise ValueError(f"{where}: id2label has id {int(key)} twice.")
        names[int(key)] = name
    if names.keys() != set(range(count)):
        raise ValueError(
            f"{where}: id2label must name the ids 0 to {count - 1} of the "
            f"classifier's {count} outputs, but names {_listed(names)}."
        )
    repeated = [n for n in names.values() if [*names.values()].count(n) > 1]
    if repeated:
        raise ValueError(
            f"{where}: id2label has several ids named {repeated[0][:40]!r}, "
            "so that answers could not be told apart."
        )
    return tuple(names[i] for i in range(count))


def _listed(ids: Collection[int]) -> str:
    shown = [str(i) for i in sorted(ids)[:12]]
    return ", ".join(shown + ["..."] * (len(ids) > 12))
