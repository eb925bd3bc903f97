"""Small .tflite files of int8 FULLY_CONNECTEDs, made without a converter."""

from ai_edge_litert import schema_py_generated as schema
import numpy as np

from tf_pof.export import flatbuffer

INPUT_SCALE, INPUT_ZERO = 0.02, 3
OUTPUT_SCALE, OUTPUT_ZERO = 0.5, -4


def quantization(scale, zero_point=0, axis=0):
    scale = np.atleast_1d(np.asarray(scale, np.float32))
    return schema.QuantizationParametersT(
        scale=scale,
        zeroPoint=np.full(len(scale), zero_point, np.int64),
        quantizedDimension=axis,
    )


def make(matrices, tokens=(4,), names=None, table=None, hybrid=False):
    """A .tflite file with one subgraph for each number of tokens.

    Each multiplies its input "x", int8 [tokens, in], by every matrix in turn;
    all outputs are outputs of the subgraph, "y0", "y1" ..

    Args:
        matrices: int8 [out, in], all with the same `in`.
        tokens: of each subgraph.
        names: of the layers.
        table: int8 [rows, width], looked up by "ids" int32 [tokens], if given.
        hybrid: inputs and outputs are float32.
    """
    names = names or [f"layer_{i}_query" for i in range(len(matrices))]
    model = schema.ModelT(version=3, description="test")
    model.buffers = [schema.BufferT()]
    model.subgraphs, model.signatureDefs = [], []
    model.operatorCodes = [
        schema.OperatorCodeT(deprecatedBuiltinCode=code, builtinCode=code)
        for code in (
            schema.BuiltinOperator.FULLY_CONNECTED,
            schema.BuiltinOperator.GATHER,
        )
    ]
    model.operatorCodes[0].version = 3 if hybrid else 4
    model.operatorCodes[1].version = 2

    def buffer(values):
        data = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
        model.buffers.append(schema.BufferT(data=data))
        return len(model.buffers) - 1

    weights = [buffer(matrix) for matrix in matrices]
    biases = [
        buffer(bias(m).astype(np.float32) if hybrid else bias(m))
        for m in matrices
    ]
    table_buffer = buffer(table) if table is not None else None
    kinds = schema.TensorType
    activation = kinds.FLOAT32 if hybrid else kinds.INT8
    for count in tokens:
        graph = schema.SubGraphT(name=f"tokens_{count}", tensors=[])
        graph.operators, graph.inputs, graph.outputs = [], [], []
        model.subgraphs.append(graph)

        def tensor(name, shape, kind, buffer=0, quantization=None):
            graph.tensors.append(
                schema.TensorT(
                    name=name,
                    shape=list(shape),
                    type=kind,
                    buffer=buffer,
                    quantization=quantization,
                    hasRank=True,
                )
            )
            return len(graph.tensors) - 1

        width = matrices[0].shape[1]
        x = tensor(
            "x",
            [count, width],
            activation,
            quantization=None
            if hybrid
            else quantization(INPUT_SCALE, INPUT_ZERO),
        )
        graph.inputs.append(x)
        for i, (matrix, name) in enumerate(zip(matrices, names)):
            w = tensor(
                f"{name}/kernel",
                matrix.shape,
                kinds.INT8,
                weights[i],
                quantization(scales(matrix)),
            )
            b = tensor(
                f"{name}/bias",
                [len(matrix)],
                kinds.FLOAT32 if hybrid else kinds.INT32,
                biases[i],
                None if hybrid else quantization(INPUT_SCALE * scales(matrix)),
            )
            y = tensor(
                f"y{i}",
                [count, len(matrix)],
                activation,
                quantization=None
                if hybrid
                else quantization(OUTPUT_SCALE, OUTPUT_ZERO),
            )
            graph.operators.append(
                schema.OperatorT(
                    opcodeIndex=0,
                    inputs=[x, w, b],
                    outputs=[y],
                    builtinOptionsType=(
                        schema.BuiltinOptions.FullyConnectedOptions
                    ),
                    builtinOptions=schema.FullyConnectedOptionsT(),
                )
            )
            graph.outputs.append(y)
        if table is not None:
            ids = tensor("ids", [count], kinds.INT32)
            t = tensor(
                "token_embedding/embeddings",
                table.shape,
                kinds.INT8,
                table_buffer,
                quantization(0.01),
            )
            z = tensor(
                "z",
                [count, table.shape[1]],
                kinds.INT8,
                quantization=quantization(0.01),
            )
            graph.operators.append(
                schema.OperatorT(
                    opcodeIndex=1,
                    inputs=[t, ids],
                    outputs=[z],
                    builtinOptionsType=schema.BuiltinOptions.GatherOptions,
                    builtinOptions=schema.GatherOptionsT(),
                )
            )
            graph.inputs.append(ids)
            graph.outputs.append(z)
    return flatbuffer.write(model)


def scales(matrix):
    """Per-channel scales, all different."""
    return np.linspace(0.01, 0.03, len(matrix), dtype=np.float32)


def bias(matrix):
    return (np.arange(len(matrix)) % 7 * 50 - 100).astype(np.int32)


def multiply(x, matrix):
    """What a FULLY_CONNECTED of `make` gives: int8 [tokens, out], float64."""
    sums = (x.astype(np.int64) - INPUT_ZERO) @ matrix.astype(np.int64).T
    real = (sums + bias(matrix)) * (INPUT_SCALE * scales(matrix))
    return np.clip(np.round(real / OUTPUT_SCALE) + OUTPUT_ZERO, -128, 127)
