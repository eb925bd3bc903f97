"""Knowledge distillation: a `Distiller` with its own `train_step`."""

from tf_pof.distillation.distiller import Distiller

__all__ = ["Distiller"]
