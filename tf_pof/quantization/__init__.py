"""Quantization-aware training: int8 weights and activations."""

from tf_pof.quantization.layers import Phase
from tf_pof.quantization.quantize import QuantizedModel, calibrate, quantize
from tf_pof.quantization.schedule import QuantizationSchedule

__all__ = [
    "Phase",
    "QuantizationSchedule",
    "QuantizedModel",
    "calibrate",
    "quantize",
]
