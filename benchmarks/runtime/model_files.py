"""Random BERTs as .tflite, made once and kept: what models.py times.

    python -m benchmarks.runtime.model_files FOLDER bert_base_90_1x1_128 ..

A name says the model, the share of zeros in percent and their pattern, and the
tokens of its signature; bert_base_dynamic_128 is the rival, LiteRT's own best:
a dense float model that the converter quantizes to dynamic-range int8. All are
of one sequence and have BERT's vocabulary of 30,522 words.
"""

import os
import pathlib
import re
import subprocess
import sys
import tempfile

_MODULE = "benchmarks.runtime.model_files"
_NAME = re.compile(
    r"(?P<model>\w+?)_(?P<kind>dynamic|\d+_\d+[x:]\d+)_(?P<tokens>\d+)"
)


def path(folder: pathlib.Path, name: str) -> pathlib.Path:
    return folder / f"{name}.tflite"


def make(folder: pathlib.Path, names: list[str]) -> None:
    """Writes those files that the folder lacks, each in its own process."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        if not path(folder, name).exists():
            print(f"Making {name}.", file=sys.stderr, flush=True)
            command = [sys.executable, "-m", _MODULE, str(folder), name]
            subprocess.run(command, check=True)


def contents(name: str) -> bytes:
    """Of the file of a name."""
    model, kind, tokens = _NAME.fullmatch(name).groups()
    if kind == "dynamic":
        return _dynamic(model, int(tokens))
    from benchmarks import random_models
    from tf_pof.export import convert

    sparsity, pattern = kind.split("_")
    made = random_models.quantized(model, int(sparsity) / 100, pattern)
    return convert.convert(made, [int(tokens)], batch_size=1)


def _dynamic(model, tokens):
    """A dense float model, weights int8 and activations quantized by LiteRT."""
    import tensorflow as tf

    from tf_pof._keras import keras
    from tf_pof.models import bert
    from tf_pof.models.config import BertConfig

    keras.utils.set_random_seed(1)
    plain = bert.build(BertConfig.preset(model), "classifier", num_labels=2)

    @tf.function(
        input_signature=[
            {
                name: tf.TensorSpec([1, tokens], tf.int32, name=name)
                for name in plain.input
            }
        ]
    )
    def forward(inputs):
        return {"logits": plain(inputs, training=False)["logits"]}

    module = tf.Module()
    module.model, module.forward = plain, forward
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(module, folder, signatures=forward)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converted = converter.convert()
    _check(converted)
    return converted


def _check(converted):
    """Raises SystemExit if a layer stayed float: that would be no rival."""
    from ai_edge_litert import schema_py_generated as schema

    from tf_pof.export import flatbuffer

    model = flatbuffer.read(converted)
    graph = model.subgraphs[0]
    kinds = {schema.TensorType.INT8: 0, schema.TensorType.FLOAT32: 0}
    for op in graph.operators:
        code = model.operatorCodes[op.opcodeIndex]
        if code.builtinCode == schema.BuiltinOperator.FULLY_CONNECTED:
            weights = graph.tensors[op.inputs[1]]
            kinds[weights.type] += int(weights.shape[0]) > 2
    if kinds[schema.TensorType.FLOAT32]:
        raise SystemExit(f"FULLY_CONNECTED by type of weights: {kinds}")
    print(f"{kinds[schema.TensorType.INT8]} int8 layers.", file=sys.stderr)


def main(folder, *names):
    import tf_pof  # noqa: F401  (legacy Keras before TensorFlow)

    for name in names:
        target = path(pathlib.Path(folder), name)
        partial = target.with_suffix(".partial")
        partial.write_bytes(contents(name))
        os.replace(partial, target)


if __name__ == "__main__":
    main(*sys.argv[1:])
