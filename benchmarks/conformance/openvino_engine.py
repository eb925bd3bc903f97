"""Runs a .tflite in OpenVINO, which reads the format: one of the engines.

    openvino_engine.py MODEL INPUTS OUTPUTS

OpenVINO reads the first signature alone, and names outputs by tensors: the
logits come under their places.
"""

import importlib.metadata
import json
import sys

import numpy as np
import openvino


def main(model, inputs, outputs):
    with open(inputs, encoding="utf-8") as file:
        given = json.load(file)
    # Whatever the processor has, so that all machines compute alike.
    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(model, "CPU", settings)
    rows = {k: np.array(v, np.int32) for k, v in given["inputs"].items()}
    batch = given["batch_size"]
    found = [[] for _ in compiled.outputs]
    for i in range(0, len(rows["token_ids"]), batch):
        feed = {
            port: next(rows[k] for k in rows if k in port.any_name)[
                i : i + batch
            ]
            for port in compiled.inputs
        }
        result = compiled(feed)
        for port, values in zip(compiled.outputs, found):
            values.append(result[port].copy())
    version = importlib.metadata.version("openvino")
    found = {str(i): np.concatenate(v).tolist() for i, v in enumerate(found)}
    with open(outputs, "w", encoding="utf-8") as file:
        json.dump({"version": version, "outputs": found}, file)


if __name__ == "__main__":
    main(*sys.argv[1:])
