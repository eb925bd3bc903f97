"""Times a .tflite in ONNX Runtime or OpenVINO, in an environment of theirs.

    beside_worker.py onnx|openvino MODEL TOKENS THREADS

Prints "ready", and then for each number that it reads the seconds of a call,
the mean of so many.
"""

import pathlib
import sys
import time

import numpy as np

_CONFORMANCE = pathlib.Path(__file__).parents[1] / "conformance"


def onnx(model, inputs, threads):
    import onnxruntime
    from tf2onnx import convert

    sys.path.insert(0, str(_CONFORMANCE))
    from onnx_engine import teach_gelu

    teach_gelu()
    proto, _ = convert.from_tflite(model, opset=18)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    feed = {port.name: inputs(port.name) for port in session.get_inputs()}
    return lambda: session.run(None, feed)


def openvino(model, inputs, threads):
    import openvino

    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
    }
    compiled = openvino.Core().compile_model(model, "CPU", settings)
    request = compiled.create_infer_request()
    feed = {port: inputs(port.any_name) for port in compiled.inputs}
    return lambda: request.infer(feed)


def main(engine, model, tokens, threads):
    def inputs(name):
        value = np.full((1, int(tokens)), "segment" not in name)
        return value.astype(np.int32)

    run = globals()[engine](model, inputs, int(threads))
    run()
    print("ready", flush=True)
    for line in sys.stdin:
        began = time.perf_counter()
        for _ in range(int(line)):
            run()
        print((time.perf_counter() - began) / int(line), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
