"""What a fine-tuning run is told."""

import dataclasses
from typing import Annotated, Any, Literal

import pydantic

from tf_pof.quantization import QuantizationSchedule
from tf_pof.training.settings import BelowOne, Name, SomeSteps, Steps
from tf_pof.training.settings import TrainingSettings

# Options of a task that are paths.
_PATHS = (
    "raw_dir",
    "tfds_data_dir",
    "train_file",
    "validation_file",
    "test_file",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings(TrainingSettings):
    """What a run is; the flags of bin/finetune say what each field means."""

    # "name" and the arguments of `registry.create`.
    task: dict[str, Any]
    # 0 steps mean these epochs.
    train_steps: Steps = 0
    epochs: Annotated[float, pydantic.Field(ge=0, le=1e6)] = 3.0
    # Whether the steps were worked out from the epochs.
    by_epochs: bool = False
    # "epoch": after each pass over the training split but the last.
    evaluate_every: Steps | Literal["epoch"] = "epoch"
    # Whether the model of the best of these evaluations is kept too.
    keep_best: bool = True
    lock: bool = True
    freeze_embeddings: bool = False
    vocab: Name | None = None
    lowercase: bool | None = None
    group_by_length: bool = True
    # Quantization-aware training; None freezes ranges half-way.
    qat: bool = False
    qat_start_step: Steps = 0
    qat_freeze_step: SomeSteps | None = None
    qat_range_decay: BelowOne = 0.99

    def __post_init__(self):
        super().__post_init__()
        if not (self.train_steps or self.epochs):
            raise ValueError("The run has neither train_steps nor epochs.")

    def free_to_change(self):
        fixed = ["jit_compile"]
        if self.qat:
            # Ranges are of what is computed together.
            fixed += ["micro_batch_size", "strategy"]
        free = [n for n in super().free_to_change() if n not in fixed]
        return (*free, "keep_best")

    def may_grow(self):
        # Half of more steps would let ranges move again that have stayed.
        return not self.qat or self.qat_freeze_step is not None

    def paths(self):
        paths = {"vocab": self.vocab}
        paths |= {f"task.{name}": self.task.get(name) for name in _PATHS}
        given = {k: v for k, v in paths.items() if isinstance(v, str)}
        return super().paths() | given

    def identity(self):
        values = super().identity()
        if not self.qat:
            values = {k: v for k, v in values.items() if k[:3] != "qat"}
        # As given: how many they are is known once the data are read.
        if values.pop("by_epochs"):
            values["train_steps"] = 0
        return values

    def quantization_schedule(self) -> QuantizationSchedule | None:
        """When rounding begins and ranges stay; the steps must be known.

        Raises:
            ValueError: for steps out of order or not within the run.
        """
        if not self.qat:
            return None
        freeze_step = self.qat_freeze_step
        if freeze_step is None:
            freeze_step = max(self.qat_start_step, self.train_steps // 2, 1)
        if self.qat_start_step >= self.train_steps:
            raise ValueError(
                f"--qat_start_step={self.qat_start_step} is not within the "
                f"{self.train_steps} training steps: nothing would be rounded."
            )
        return QuantizationSchedule(self.qat_start_step, freeze_step)
