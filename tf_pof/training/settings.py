"""What every training run is told, and whether it makes sense."""

import dataclasses
import functools
import json
import os
import typing
from typing import Annotated, Any, Literal

import pydantic

from tf_pof._keras import keras
from tf_pof import untrusted
from tf_pof.pruning.patterns import Pattern
from tf_pof.training import optimizer as optimizers
from tf_pof.training import strategy as strategies

# Types with their bounds. What lies beyond them is a slip: no batch of a
# million examples fits, and no block is larger than a kernel.
Name = Annotated[str, pydantic.Field(pattern=r"\S")]
Steps = Annotated[int, pydantic.Field(ge=0, lt=2**31)]
SomeSteps = Annotated[int, pydantic.Field(ge=1, lt=2**31)]
Weight = Annotated[float, pydantic.Field(ge=0)]
Positive = Annotated[float, pydantic.Field(gt=0)]
Share = Annotated[float, pydantic.Field(ge=0, le=1)]
BelowOne = Annotated[float, pydantic.Field(ge=0, lt=1)]
_LARGEST_BATCH = 2**20
_LARGEST_UNIT = 2**16


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """Of pre-training and fine-tuning; the commands' flags explain them.

    Raises:
        ValueError: naming the argument that is out of its bounds.
    """

    model: Name
    output: Name
    batch_size: Annotated[int, pydantic.Field(ge=1, le=_LARGEST_BATCH)]
    learning_rate: Weight
    train_steps: SomeSteps
    teacher: Name | None = None
    micro_batch_size: Annotated[
        int, pydantic.Field(ge=0, le=_LARGEST_BATCH)
    ] = 0
    learning_rate_schedule: str = "linear"
    warmup_fraction: Share = 0.01
    weight_decay: Weight = 0.01
    clip_norm: Weight = 1.0
    adam_beta_1: BelowOne = 0.9
    adam_beta_2: BelowOne = 0.999
    adam_epsilon: Positive = 1e-8
    dropout: BelowOne | None = None
    seed: Annotated[int, pydantic.Field(ge=0, lt=2**32)] = 0
    hard_loss_weight: Weight = 1.0
    distillation_weight: Weight = 0.0
    temperature: Positive = 2.0
    hidden_loss_weight: Weight = 0.0
    attention_loss_weight: Weight = 0.0
    # A TF-MOT PruningSchedule and the arguments of `prune`; None: no pruning.
    schedule: Any = None
    pruning: dict[str, Any] | None = None
    ramp_end_step: Steps = 0
    # See `PruningMixin`.
    mask_update: Literal["before_step", "after_step"] = "before_step"
    # A Keras policy; "auto" is decided by `precision.decide`.
    precision: Literal[
        "auto", "float32", "mixed_bfloat16", "mixed_float16"
    ] = "float32"
    jit_compile: bool = False
    strategy: Literal[strategies.NAMES] = "default"
    checkpoint_every: SomeSteps = 1000
    keep_checkpoints: bool = False
    log_every: SomeSteps = 50
    evaluate_every: Steps = 0

    def __post_init__(self):
        fields = dataclasses.fields(self)
        values = {field.name: getattr(self, field.name) for field in fields}
        untrusted.fit(values, _schema(type(self)), "The run")
        weights = {"hard_loss_weight": self.hard_loss_weight}
        if self.teacher:
            for term in ("distillation", "hidden_loss", "attention_loss"):
                name = f"{term}_weight"
                weights[name] = getattr(self, name)
        if not any(weights.values()):
            raise ValueError(
                f"There is nothing to learn: {' and '.join(weights)} "
                f"{'are' if len(weights) > 1 else 'is'} 0."
            )
        pattern = Pattern.parse((self.pruning or {}).get("pattern", "1x1"))
        if max(pattern.rows, pattern.columns, pattern.m) > _LARGEST_UNIT:
            raise ValueError(
                f"pattern {pattern} prunes more together than any kernel has: "
                "choose a smaller one, such as 4x1."
            )

    def free_to_change(self) -> tuple[str, ...]:
        """Names of what a resumed run need not share.

        They change where and how fast a run computes, not what.
        """
        return (
            "output",
            "strategy",
            "micro_batch_size",
            "jit_compile",
            "checkpoint_every",
            "keep_checkpoints",
            "log_every",
            "evaluate_every",
        )

    def may_grow(self) -> bool:
        """Whether a run can go on beyond the steps it was planned for."""
        return True

    def paths(self) -> dict[str, str]:
        """Settings that are paths, or may be, by their names."""
        paths = {"model": self.model, "teacher": self.teacher}
        return {k: v for k, v in paths.items() if v is not None}

    def identity(self) -> dict[str, Any]:
        """The settings that a resumed run must share, ready for JSON."""
        values = dataclasses.asdict(dataclasses.replace(self, schedule=None))
        for name in self.free_to_change():
            del values[name]
        values["schedule"] = self.schedule and self.schedule.get_config()
        return json.loads(json.dumps(values))

    @property
    def path(self) -> str:
        """Of the file that keeps the identity."""
        return os.path.join(self.output, "settings.json")

    def noted(self) -> dict[str, Any] | None:
        """What that file has: the identity, and more; None without one.

        A run of an older version is told in today's words.

        Raises:
            ValueError: if it is no JSON object.
            OSError: if it cannot be read.
        """
        if not os.path.exists(self.path):
            return None
        noted = untrusted.read_json(self.path)
        if isinstance(noted, dict) and "mask_update" not in noted:
            noted["mask_update"] = "before_step"
            if noted.get("learning_rate_schedule") == "rewind":
                noted["learning_rate_schedule"] = "flat_then_linear"
        return noted

    def model_overrides(self) -> dict[str, float]:
        """Fields of BertConfig that the run sets."""
        if self.dropout is None:
            return {}
        return {"dropout": self.dropout, "attention_dropout": self.dropout}

    def distillation(self) -> dict[str, Any]:
        """Arguments of `Distiller`."""
        return {
            "hard_loss_weight": self.hard_loss_weight,
            "distillation_weight": self.distillation_weight,
            "temperature": self.temperature,
            "hidden_loss_weight": self.hidden_loss_weight,
            "attention_loss_weight": self.attention_loss_weight,
            "micro_batch_size": self.micro_batch_size,
            "mask_update": self.mask_update,
        }

    def optimizer(self) -> keras.optimizers.Optimizer:
        """AdamW with the learning rate of the run."""
        optimizer = optimizers.adamw(
            optimizers.learning_rate_schedule(
                self.learning_rate_schedule,
                self.learning_rate,
                self.train_steps,
                round(self.warmup_fraction * self.train_steps),
                self.ramp_end_step,
                getattr(self.schedule, "begin_step", 0),
                getattr(self.schedule, "frequency", 1),
            ),
            weight_decay=self.weight_decay,
            clip_norm=self.clip_norm,
            beta_1=self.adam_beta_1,
            beta_2=self.adam_beta_2,
            epsilon=self.adam_epsilon,
        )
        if self.precision == "mixed_float16":
            return keras.mixed_precision.LossScaleOptimizer(optimizer)
        return optimizer


@functools.cache
def _schema(kind) -> type[untrusted.Schema]:
    """The types of a class of settings, bounds included."""
    hints = typing.get_type_hints(kind, include_extras=True)
    fields = {f.name: (hints[f.name], ...) for f in dataclasses.fields(kind)}
    return pydantic.create_model(
        kind.__name__, __base__=untrusted.Schema, **fields
    )
