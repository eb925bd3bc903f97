"""Quantization-aware training: int8 weights and activations."""

from tf_pof.quantization.layers import Phase
from tf_pof.quantization.quantize import QuantizedModel, calibrate, quantize

__all__ = ["Phase", "QuantizedModel", "calibrate", "quantize"]
