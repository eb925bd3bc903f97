"""Converts a quantized model to TFLite: every Dense one int8 FULLY_CONNECTED.

Only builtin operators come out. With several sequence lengths a file has a
subgraph for each; they share one copy of the weights.
"""

from collections.abc import Callable, Sequence
import gc
import tempfile

from tf_pof._keras import keras

import tensorflow as tf

from tf_pof.export import cleanup, flatbuffer, graph, verify
from tf_pof.quiet import quiet

DEFAULT_SEQUENCE_LENGTH = 128


def convert(
    model: keras.Model,
    sequence_lengths: Sequence[int] = (DEFAULT_SEQUENCE_LENGTH,),
    batch_size: int = 0,
    progress: Callable[[str], None] = lambda step: None,
) -> bytes:
    """The .tflite of a model, dense: int8 with its zeros stored.

    Inputs are int32 "token_ids", "segment_ids" (if the model has them) and
    "padding_mask" [batch, seq], outputs float32 with the names of the model's
    logits (see `graph.output_names`), in one signature for each length.

    Kernels and tables are the integers of `quantization.fake_quant`, [out, in];
    layer norm, softmax, tanh and the products of attention are float32, and
    GELU a table of 256 entries, between int8 tensors.

    Args:
        model: a QuantizedModel with ranges.
        sequence_lengths: tokens of a sequence, ascending. One gives the
            signature "serving_default", more give "seq_64", "seq_128" ..
        batch_size: sequences of a batch; 0 leaves it dynamic.
        progress: called with what is done next.

    Returns:
        The file without metadata.

    Raises:
        ValueError: if the model cannot be exported (see
            `graph.inference_functions`), or a layer has not become what it
            should, with its name.
    """
    progress("Putting the weights on the int8 grid")
    with tempfile.TemporaryDirectory(prefix="tf_pof_export_") as folder:
        with quiet():
            _save(model, sequence_lengths, batch_size, folder)
        # Large models: what the clone held is needed by the converter.
        gc.collect()
        progress("Converting to TFLite")
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        with quiet():
            converted = _run(converter)
    progress("Verifying the file")
    contents = flatbuffer.read(converted)
    cleanup.clean(contents)
    verify.verify(contents, model)
    return flatbuffer.write(contents)


def _save(model, sequence_lengths, batch_size, folder):
    """Writes the functions, in which variables are shared and not copied."""
    module, functions = graph.inference_functions(
        model, sequence_lengths, batch_size
    )
    tf.saved_model.save(module, folder, signatures=functions)


def _run(converter):
    try:
        return converter.convert()
    except Exception as error:  # The converter raises several kinds.
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(
            f"TFLite's converter does not take the model: {first}"
        ) from error
