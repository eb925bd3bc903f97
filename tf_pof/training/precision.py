"""The precision that trains fastest here."""

import dataclasses
import re

import rich.console
import tensorflow as tf

from tf_pof.training.settings import TrainingSettings

# Instructions that multiply bfloat16. Without them each product is made of
# float32 ones and casts, which takes three times as long as float32 alone.
_INSTRUCTIONS = ("avx512_bf16", "amx_bf16")
_CPUINFO = "/proc/cpuinfo"
# Of NVIDIA's GPUs with bfloat16: Ampere and later.
_COMPUTE_CAPABILITY = (8, 0)


def decide(
    settings: TrainingSettings, console: rich.console.Console
) -> TrainingSettings:
    """Puts a policy in the place of the precision "auto", and says which.

    A run that goes on keeps the precision that it began with, also on another
    machine.

    Raises:
        OSError, ValueError: if the run's settings.json cannot be read.
    """
    if settings.precision != "auto":
        return settings
    noted = (settings.noted() or {}).get("precision")
    policy, why = fastest()
    if noted is not None:
        policy, why = noted, "as this run began"
    console.print(f"Precision: {policy}, {why}.")
    return dataclasses.replace(settings, precision=policy)


def fastest() -> tuple[str, str]:
    """A Keras policy, and why it is the fastest on this machine."""
    if tf.config.list_logical_devices("TPU"):
        return "mixed_bfloat16", "which TPUs multiply"
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        details = tf.config.experimental.get_device_details
        able = all(
            details(gpu).get("compute_capability", (0, 0))
            >= _COMPUTE_CAPABILITY
            for gpu in gpus
        )
        if able:
            return "mixed_bfloat16", "which the GPU multiplies"
        return "float32", "since the GPU does not multiply bfloat16"
    found = [name for name in _INSTRUCTIONS if name in cpu_flags()]
    if found:
        return "mixed_bfloat16", f"for the processor's {', '.join(found)}"
    return "float32", "since the processor has no instructions for bfloat16"


def cpu_flags() -> frozenset[str]:
    """Linux' names of what all of the processor's cores can do.

    Empty on other systems, and on processors that are not x86.
    """
    try:
        with open(_CPUINFO, encoding="utf-8", errors="replace") as file:
            lines = re.findall(r"^flags\s*:(.*)$", file.read(), re.M)
    except OSError:
        return frozenset()
    cores = [frozenset(line.split()) for line in lines]
    return frozenset.intersection(*cores) if cores else frozenset()
