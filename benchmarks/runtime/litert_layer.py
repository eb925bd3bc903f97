"""One int8 FULLY_CONNECTED layer in LiteRT, the baseline of the kernels."""

import flatbuffers
import numpy as np
from ai_edge_litert import interpreter
from ai_edge_litert import schema_py_generated as schema


def model(
    weights: np.ndarray,
    bias: np.ndarray,
    scales: dict[str, tuple],
    num_tokens: int,
) -> bytes:
    """A .tflite of one layer.

    Args:
        weights: [outputs, inputs] int8.
        bias: [outputs] int32.
        scales: (scale, zero point) of "input" and "output", and "weights":
            ([outputs] float32,).
        num_tokens: rows of the input.
    """
    outputs, inputs = weights.shape
    types = schema.TensorType
    result = schema.ModelT()
    result.version = 3
    result.buffers = [schema.BufferT()]
    graph = schema.SubGraphT()
    graph.tensors = []

    def tensor(shape, kind, scale, zero_point, data=None):
        buffer = schema.BufferT()
        if data is not None:
            buffer.data = np.frombuffer(data.tobytes(), np.uint8)
        result.buffers.append(buffer)
        quantization = schema.QuantizationParametersT()
        quantization.scale = np.atleast_1d(np.float32(scale))
        quantization.zeroPoint = np.full(
            quantization.scale.shape, zero_point, np.int64
        )
        new = schema.TensorT()
        new.shape = np.array(shape, np.int32)
        new.type = kind
        new.buffer = len(result.buffers) - 1
        new.quantization = quantization
        graph.tensors.append(new)

    (channels,) = scales["weights"]
    tensor([num_tokens, inputs], types.INT8, *scales["input"])
    tensor([outputs, inputs], types.INT8, channels, 0, weights)
    tensor([outputs], types.INT32, channels * scales["input"][0], 0, bias)
    tensor([num_tokens, outputs], types.INT8, *scales["output"])
    graph.inputs = np.array([0], np.int32)
    graph.outputs = np.array([3], np.int32)

    code = schema.OperatorCodeT()
    code.builtinCode = schema.BuiltinOperator.FULLY_CONNECTED
    code.deprecatedBuiltinCode = code.builtinCode
    code.version = 4
    result.operatorCodes = [code]
    op = schema.OperatorT()
    op.inputs = np.array([0, 1, 2], np.int32)
    op.outputs = np.array([3], np.int32)
    op.builtinOptionsType = schema.BuiltinOptions.FullyConnectedOptions
    op.builtinOptions = schema.FullyConnectedOptionsT()
    graph.operators = [op]
    result.subgraphs = [graph]
    builder = flatbuffers.Builder(1024)
    builder.Finish(result.Pack(builder), b"TFL3")
    return bytes(builder.Output())


class LiteRtLayer:
    """Runs a layer with LiteRT's XNNPACK."""

    def __init__(self, *args, num_threads: int = 1, **kwargs):
        self._interpreter = interpreter.Interpreter(
            model_content=model(*args, **kwargs), num_threads=num_threads
        )
        self._interpreter.allocate_tensors()
        # Without the wrapper's checks, which take longer than a small layer.
        self.run = self._interpreter._interpreter.Invoke

    def __call__(self, inputs: np.ndarray) -> np.ndarray:
        self._interpreter.set_tensor(0, inputs)
        self.run()
        return self._interpreter.get_tensor(3)
