"""What every training run is told, and what it leaves in its folder."""

import dataclasses
import json
import os
from typing import Any

from tf_pof._keras import keras
from tf_pof.training import optimizer as optimizers


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """Of pre-training and fine-tuning; the commands' flags explain them."""

    model: str
    output: str
    batch_size: int
    learning_rate: float
    train_steps: int
    teacher: str | None = None
    micro_batch_size: int = 0
    learning_rate_schedule: str = "linear"
    warmup_fraction: float = 0.01
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    adam_beta_1: float = 0.9
    adam_beta_2: float = 0.999
    adam_epsilon: float = 1e-8
    dropout: float | None = None
    seed: int = 0
    hard_loss_weight: float = 1.0
    distillation_weight: float = 0.0
    temperature: float = 2.0
    hidden_loss_weight: float = 0.0
    attention_loss_weight: float = 0.0
    # A TF-MOT PruningSchedule and the arguments of `prune`; None: no pruning.
    schedule: Any = None
    pruning: dict[str, Any] | None = None
    ramp_end_step: int = 0
    precision: str = "float32"
    jit_compile: bool = False
    strategy: str = "default"
    checkpoint_every: int = 1000
    log_every: int = 50
    evaluate_every: int = 0

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
            "log_every",
            "evaluate_every",
        )

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

    def check_output(self) -> None:
        """Raises ValueError if the folder holds a run with other settings."""
        if not os.path.exists(self.path):
            return
        identity = self.identity()
        with open(self.path, encoding="utf-8") as file:
            noted = json.load(file)
        changed = [
            f"{k} {noted.get(k)!r} there, {identity.get(k)!r} now"
            for k in sorted(noted.keys() | identity.keys())
            if noted.get(k) != identity.get(k)
        ]
        if changed:
            raise ValueError(
                f"{self.output} holds a run with other settings "
                f"({'; '.join(changed)}): choose another --output, or delete "
                "it."
            )

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
