"""Runs a .tflite in ONNX Runtime, through tf2onnx: one of the engines.

    onnx_engine.py MODEL INPUTS OUTPUTS [stock]

tf2onnx 1.17 knows no GELU and would leave the operator as it is, which ONNX
Runtime refuses; here it is taught how. With "stock" it is not.
"""

import importlib.metadata
import json
import math
import sys

import numpy as np
import onnxruntime
from tf2onnx import convert, utils
from tf2onnx.handler import tf_op, tfl_op


def teach_gelu():
    """Registers TFL_GELU, as Erf or Tanh and multiplications."""

    @tfl_op("TFL_GELU", tf_op="Gelu")
    @tf_op("Gelu")
    class Gelu:
        @classmethod
        def version_9(cls, ctx, node, **kwargs):
            del cls, kwargs
            x, approximate = node.input[0], node.get_attr_value("approximate")
            shape, dtype = node.output_shapes[0], node.output_dtypes[0]

            def op(kind, *operands, **more):
                operands = [
                    ctx.make_const(
                        utils.make_name("gelu"), np.float32(value)
                    ).output[0]
                    if isinstance(value, float)
                    else value
                    for value in operands
                ]
                made = ctx.make_node(
                    kind, operands, shapes=[shape], dtypes=[dtype], **more
                )
                return made.output[0]

            if approximate:
                cube = op("Mul", op("Mul", op("Mul", x, x), x), 0.044715)
                inner = op("Mul", op("Add", x, cube), math.sqrt(2 / math.pi))
                bend = op("Tanh", inner)
            else:
                bend = op("Erf", op("Mul", x, math.sqrt(0.5)))
            half = op("Mul", x, 0.5)
            outputs = list(node.output)
            ctx.remove_node(node.name)
            op("Mul", half, op("Add", bend, 1.0), outputs=outputs)


def main(model, inputs, outputs, *options):
    with open(inputs, encoding="utf-8") as file:
        given = json.load(file)
    if "stock" not in options:
        teach_gelu()
    proto, _ = convert.from_tflite(model, opset=18)
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    rows = {k: np.array(v, np.int32) for k, v in given["inputs"].items()}
    batch = given["batch_size"]
    names = [output.name for output in session.get_outputs()]
    found = [[] for _ in names]
    for i in range(0, len(rows["token_ids"]), batch):
        feed = {
            port.name: next(rows[k] for k in rows if k in port.name)[
                i : i + batch
            ]
            for port in session.get_inputs()
        }
        for values, value in zip(found, session.run(names, feed)):
            values.append(value)
    versions = (
        importlib.metadata.version(name) for name in ("onnxruntime", "tf2onnx")
    )
    found = {str(i): np.concatenate(v).tolist() for i, v in enumerate(found)}
    with open(outputs, "w", encoding="utf-8") as file:
        json.dump({"version": " / ".join(versions), "outputs": found}, file)


if __name__ == "__main__":
    main(*sys.argv[1:])
