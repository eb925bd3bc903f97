"""Runs a .tflite in an interpreter of TFLite: one of the engines.

    interpreter_engine.py MODEL INPUTS OUTPUTS PACKAGE [xnnpack]

PACKAGE is ai-edge-litert, tf.lite, or tflite-runtime, which ended at 2.14.
Without xnnpack the built-in kernels compute everything.
"""

import importlib.metadata
import json
import sys

import numpy as np


def main(model, inputs, outputs, package, *options):
    if package == "tf.lite":
        import tensorflow as tf

        interpreter, version = tf.lite.Interpreter, tf.__version__
        resolvers = tf.lite.experimental.OpResolverType
    elif package == "tflite-runtime":
        from tflite_runtime import interpreter as runtime

        interpreter, resolvers = runtime.Interpreter, runtime.OpResolverType
        version = importlib.metadata.version(package)
    else:
        from ai_edge_litert import interpreter as litert

        interpreter, resolvers = litert.Interpreter, litert.OpResolverType
        version = importlib.metadata.version("ai-edge-litert")
    with open(inputs, encoding="utf-8") as file:
        given = json.load(file)
    loaded = interpreter(
        model,
        experimental_op_resolver_type=resolvers.AUTO
        if "xnnpack" in options
        else resolvers.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    runner = loaded.get_signature_runner(given["signature"])
    rows = {k: np.array(v, np.int32) for k, v in given["inputs"].items()}
    names = runner.get_input_details()
    batch = given["batch_size"]
    found = {}
    for i in range(0, len(rows["token_ids"]), batch):
        result = runner(**{k: rows[k][i : i + batch] for k in names})
        for name, value in result.items():
            found.setdefault(name, []).append(value.copy())
    found = {k: np.concatenate(v).tolist() for k, v in found.items()}
    with open(outputs, "w", encoding="utf-8") as file:
        json.dump({"version": version, "outputs": found}, file)


if __name__ == "__main__":
    main(*sys.argv[1:])
