"""LiteRT's interpreter with tf_pof's delegate in it."""

import os
from typing import Any

from ai_edge_litert import interpreter as litert

from tf_pof.runtime import library, profile


class Interpreter(litert.Interpreter):
    """As `ai_edge_litert.interpreter.Interpreter`, sparse layers as such.

    What the delegate does not take runs in LiteRT as it would without.

    Args:
        model: path or contents of a .tflite. Of a path the file is mapped,
            not read: its weights take no memory twice.
        num_threads: that it computes with.
        **options: of `delegate`.

    Raises:
        FileNotFoundError: if there is no such file, or no delegate.
        ValueError: if the file cannot be loaded, or an option is wrong.
        TypeError: if there is no such option.
    """

    def __init__(
        self,
        model: str | os.PathLike | bytes,
        num_threads: int = 1,
        **options: Any,
    ):
        if isinstance(model, bytes):
            name, source = "The .tflite", {"model_content": model}
        else:
            name = os.fspath(model)
            source = {"model_path": name}
            if not os.path.isfile(name):
                raise FileNotFoundError(f"There is no file {name}.")
        delegate = library.for_interpreter(num_threads, options)
        try:
            super().__init__(
                **source,
                num_threads=num_threads,
                experimental_delegates=[delegate],
            )
        except (ValueError, RuntimeError) as error:
            raise ValueError(
                f"{name} cannot be loaded: {' '.join(str(error).split())}"
            ) from error
        self._delegate = delegate

    def profile(self) -> list[profile.Step]:
        """Where time went since the last time, with the option `profile`.

        Empty without it. Linear layers have a step each, in the order that
        they run.
        """
        return profile.take(self._delegate)
