"""Runs a .tflite in an interpreter of TFLite: one of the engines.

    interpreter_engine.py MODEL INPUTS OUTPUTS PACKAGE [xnnpack] [delegate]

PACKAGE is ai-edge-litert, tf.lite, or tflite-runtime, which ended at 2.14.
Without xnnpack built-in kernels compute everything. With delegate tf_pof's
runs, which TF_POF_DELEGATE names, and it is an error if it takes nothing.
"""

import importlib.metadata
import json
import os
import sys

import numpy as np


def main(model, inputs, outputs, package, *options):
    if package == "tf.lite":
        import tensorflow as tf

        interpreter, version = tf.lite.Interpreter, tf.__version__
        resolvers = tf.lite.experimental.OpResolverType
        load_delegate = tf.lite.experimental.load_delegate
    elif package == "tflite-runtime":
        from tflite_runtime import interpreter as runtime

        interpreter, resolvers = runtime.Interpreter, runtime.OpResolverType
        load_delegate = runtime.load_delegate
        version = importlib.metadata.version(package)
    else:
        from ai_edge_litert import interpreter as litert

        interpreter, resolvers = litert.Interpreter, litert.OpResolverType
        load_delegate = litert.load_delegate
        version = importlib.metadata.version("ai-edge-litert")
    delegates = []
    if "delegate" in options:
        path = os.environ["TF_POF_DELEGATE"]
        delegates.append(load_delegate(path, {"min_sparsity": "0"}))
    with open(inputs, encoding="utf-8") as file:
        given = json.load(file)
    loaded = interpreter(
        model,
        experimental_delegates=delegates,
        experimental_op_resolver_type=resolvers.AUTO
        if "xnnpack" in options
        else resolvers.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    taken = {details["op_name"] for details in loaded._get_ops_details()}
    if delegates and "DELEGATE" not in taken:
        raise RuntimeError("the delegate takes nothing")
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
