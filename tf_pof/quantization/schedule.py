"""When a quantized model begins to round, and when its ranges stay."""

from tf_pof._keras import keras

from tf_pof.quantization.layers import Phase
from tf_pof.quantization.quantize import QuantizedModel


class QuantizationSchedule(keras.callbacks.Callback):
    """Sets the phase of a quantized model before every batch of fit.

    Before optimizer step t, counted from 0 by `optimizer.iterations` so that a
    resumed training is in the phase it was in: below `start_step` ranges are
    observed and nothing is rounded, from `freeze_step` on the ranges stay. With
    steps_per_execution > 1 a phase begins with the next execution.

    Example:
        model = tf_pof.quantize(model)
        model.compile(keras.optimizers.Adam(1e-5), loss)
        model.fit(train_ds, callbacks=[QuantizationSchedule(freeze_step=500)])

    Args:
        start_step: first step that rounds.
        freeze_step: first step with ranges that stay, >= start_step and >= 1;
            None for no such step.

    Raises:
        ValueError: for steps in another order.
    """

    def __init__(self, start_step: int = 0, freeze_step: int | None = None):
        super().__init__()
        if start_step < 0:
            raise ValueError(f"start_step must be >= 0, got {start_step}.")
        if freeze_step is not None and freeze_step < max(start_step, 1):
            raise ValueError(
                f"Ranges cannot stay from step {freeze_step} on if rounding "
                f"begins at step {start_step}: freeze_step must be "
                f"{max(start_step, 1)} or later."
            )
        self.start_step, self.freeze_step = start_step, freeze_step

    def phase_at(self, step: int) -> Phase:
        """The phase that optimizer step `step` is taken in."""
        if step < self.start_step:
            return Phase.OBSERVE
        if self.freeze_step is not None and step >= self.freeze_step:
            return Phase.FROZEN
        return Phase.QUANTIZE

    def set_model(self, model):
        super().set_model(model)
        found = [
            layer
            for layer in model._flatten_layers()
            if isinstance(layer, QuantizedModel)
        ]
        if not found:
            raise ValueError(
                f"{model.name} has no quantized model in it: make one by "
                "tf_pof.quantize."
            )
        self._quantized = found[0]

    def on_train_batch_begin(self, batch, logs=None):
        phase = self.phase_at(int(self.model.optimizer.iterations.numpy()))
        if phase is self._quantized.phase:
            return
        if phase is Phase.FROZEN:
            # Else replicas would go on with ranges of their own for good.
            self._quantized.synchronize()
        self._quantized.phase = phase

    def on_train_end(self, logs=None):
        self._quantized.synchronize()
