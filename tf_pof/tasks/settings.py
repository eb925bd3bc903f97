"""What a fine-tuning run is told."""

import dataclasses
from typing import Any

from tf_pof.quantization import QuantizationSchedule
from tf_pof.training.settings import TrainingSettings


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings(TrainingSettings):
    """What a run is; the flags of bin/finetune say what each field means."""

    # "name" and the arguments of `registry.create`.
    task: dict[str, Any]
    # 0 steps mean these epochs.
    train_steps: int = 0
    epochs: float = 3.0
    # Whether the steps were worked out from the epochs.
    by_epochs: bool = False
    lock: bool = True
    freeze_embeddings: bool = False
    vocab: str | None = None
    lowercase: bool | None = None
    group_by_length: bool = True
    # Quantization-aware training; None freezes ranges half-way.
    qat: bool = False
    qat_start_step: int = 0
    qat_freeze_step: int | None = None
    qat_range_decay: float = 0.99

    def free_to_change(self):
        fixed = ["jit_compile"]
        if self.qat:
            # Ranges are of what is computed together.
            fixed += ["micro_batch_size", "strategy"]
        return tuple(n for n in super().free_to_change() if n not in fixed)

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
