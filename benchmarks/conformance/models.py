"""Quantized models to run everywhere, and texts to run them on."""

import numpy as np

from benchmarks import random_models
import tf_pof
from tf_pof import quantization
from tf_pof._keras import keras
from tf_pof.data import documents, sample
from tf_pof.data.tokenizer import WordPiece
from tf_pof.data.tokenizer_settings import TokenizerSettings
from tf_pof.models import bert
from tf_pof.models.config import BertConfig

_TRAINING = 192


def texts(first: int, count: int) -> list[str]:
    """Paragraphs of the bundled sample, by turns of prose and of facts."""
    sides = []
    for path in sample.text_paths():
        (piece,) = documents.plan_files([path])
        side = []
        for text in documents.read_piece(piece, "blank_line"):
            side += [line for line in text.splitlines() if len(line) > 60]
            if len(side) >= first + count:
                break
        sides.append(side)
    pairs = list(zip(*sides))[first // 2 :]
    return [text for pair in pairs for text in pair][:count]


def inputs(vocab_file: str, first: int, count: int, length: int) -> dict:
    """Inputs of a model for `texts`."""
    return WordPiece(vocab_file).encode(texts(first, count), length)


def bundled(length: int, pattern: str | None = None):
    """minilm_l6_90, with a head that tells prose from facts.

    Half of its blocks of a pattern, if one is given, are made zero first.

    The head is fitted to the pooled output by ridge regression and ranges are
    calibrated: no training, but logits that mean something. A random head
    would show little but noise.
    """
    keras.utils.set_random_seed(0)
    plain = tf_pof.load("minilm_l6_90", head="classifier", num_labels=2)
    if pattern:
        random_models.prune(plain, 0.5, pattern)
    batches = _batches(plain.vocab_file, length)
    pooled = np.concatenate(
        [
            plain(batch, training=False)["pooled_output"].numpy()
            for batch in batches
        ]
    ).astype(np.float64)
    mean = pooled.mean(0)
    centred = pooled - mean
    wanted = np.tile([[1.0, -1.0], [-1.0, 1.0]], (_TRAINING // 2, 1))
    gram = centred.T @ centred + 0.1 * np.trace(centred.T @ centred) / len(
        mean
    ) * np.eye(len(mean))
    kernel = np.linalg.solve(gram, centred.T @ wanted)
    plain.get_layer("classifier").set_weights([kernel, -mean @ kernel])
    return quantization.calibrate(quantization.quantize(plain), batches)


def tiny(length: int):
    """A random model of two small layers."""
    keras.utils.set_random_seed(0)
    vocab_file = sample.vocab_path()
    plain = bert.build(
        BertConfig(
            vocabulary_size=len(WordPiece(vocab_file).vocabulary),
            num_layers=2,
            num_heads=2,
            hidden_dim=32,
            intermediate_dim=64,
            max_sequence_length=length,
            initializer_range=0.2,
        ),
        "classifier",
        3,
    )
    plain.vocab_file = vocab_file
    plain.tokenizer_settings = TokenizerSettings(lowercase=True)
    rng = np.random.default_rng(0)
    for variable in plain.trainable_variables:
        if "bias" in variable.name:
            variable.assign(0.05 * rng.normal(size=variable.shape))
    batches = _batches(vocab_file, length)
    return quantization.calibrate(quantization.quantize(plain), batches)


def _batches(vocab_file, length):
    found = inputs(vocab_file, 0, _TRAINING, length)
    return [
        {k: v[i : i + 32] for k, v in found.items()}
        for i in range(0, _TRAINING, 32)
    ]


def held_out(vocab_file: str, count: int, length: int) -> dict:
    """Inputs that no model here was made with."""
    return inputs(vocab_file, _TRAINING, count, length)
