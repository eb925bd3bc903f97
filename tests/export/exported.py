"""A small quantized model of SST-2, its .tflite, and data to compare them."""

import functools
import pathlib
import tempfile
import types

import tf_pof

import numpy as np

from tests.tasks import tiny
from tf_pof import quantization
from tf_pof.data.tokenizer import WordPiece
from tf_pof.export import convert, metadata, parity

LENGTH = 24
LABELS = ("negative", "positive")


@functools.cache
def sst2() -> types.SimpleNamespace:
    """Made once: read it only.

    Attributes of the result: `model` (quantized), `contents` (of the .tflite
    with metadata), `data` (of parity), `options` (of the task), `vocab`.
    """
    folder = pathlib.Path(tempfile.mkdtemp())
    vocab = tiny.write_vocabulary(folder / "vocab.txt")
    options = tiny.write_sst2(folder / "glue")
    plain = tf_pof.load(
        tiny.save_model(
            folder / "model",
            vocab,
            head="classifier",
            labels=LABELS,
            num_layers=2,
        )
    )
    rng = np.random.default_rng(0)
    for variable in plain.trainable_variables:
        if "bias" in variable.name:
            variable.assign(0.1 * rng.normal(size=variable.shape))
    # Every other output, in whole blocks of 1x16.
    kernel = plain.get_layer("layer_1_intermediate").kernel
    assert kernel.shape[0] % 16 == 0
    kernel.assign(kernel.numpy() * (np.arange(kernel.shape[1]) % 2))
    model = quantization.quantize(plain)
    data = parity.task_data(model, "model", options)
    rows = np.arange(len(data.features))
    quantization.calibrate(model, [data.features.inputs(rows, LENGTH)])
    contents = convert.convert(model, [LENGTH])
    contents = metadata.add(
        contents, metadata.About(), metadata.details(model, [LENGTH]), vocab
    )
    return types.SimpleNamespace(
        model=model,
        contents=contents,
        data=data,
        options=options,
        vocab=vocab,
    )


def logits(contents: bytes, inputs: dict) -> np.ndarray:
    """Of the file, by LiteRT alone, one example at a time."""
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(model_content=contents).get_signature_runner()
    return np.concatenate(
        [
            runner(**{k: v[i : i + 1] for k, v in inputs.items()})["logits"]
            for i in range(len(inputs["token_ids"]))
        ]
    )


def encode(text: str) -> dict:
    """Inputs of the model, [1, LENGTH], of one text."""
    return WordPiece(sst2().vocab).encode([text], LENGTH)
