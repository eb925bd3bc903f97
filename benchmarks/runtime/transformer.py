"""Times attention and layer norm against the ops that LiteRT runs for them.

    python -m benchmarks.runtime.transformer --sequence=128 --sequence=384

Prints the microseconds of both for a layer of BERT-Base (or other heads) on
one thread, medians of taking turns, and the largest difference of int8 outputs
in steps. LiteRT computes attention and layer norm in float32, from the graph
that bin/export_tflite writes.

With --beside_compiler builds of two compilers take turns instead, for each of
--isa, and embeddings, quantize and dequantize are timed as well.
"""

import ctypes
import statistics
import tempfile
import time

import flatbuffers
import numpy as np
from absl import app, flags
from ai_edge_litert import interpreter
from ai_edge_litert import schema_py_generated as schema

from benchmarks.runtime import library, turns

SEQUENCE = flags.DEFINE_multi_integer("sequence", [128], "Tokens.")
HEADS = flags.DEFINE_integer("heads", 12, "Attention heads.")
HEAD_SIZE = flags.DEFINE_integer("head_size", 64, "Channels of a head.")
ROUNDS = flags.DEFINE_integer("rounds", 25, "Times that engines take turns.")

BESIDE_COMPILER = flags.DEFINE_string(
    "beside_compiler",
    "",
    "A C++ compiler, to be compared to the default one instead of LiteRT.",
)
ISA = flags.DEFINE_list(
    "isa", ["best"], "Instruction sets, with --beside_compiler."
)

_OPS = schema.BuiltinOperator
_POINTER = ctypes.c_void_p
# Scale and zero point.
_INPUT, _CONTEXT, _NORM = (0.02, 3), (0.01, -5), (0.03, 4)


class _Quantization(ctypes.Structure):
    _fields_ = [("scale", ctypes.c_float), ("zero_point", ctypes.c_int32)]


class _Attention(ctypes.Structure):
    _fields_ = [
        ("num_heads", ctypes.c_int32),
        ("head_size", ctypes.c_int32),
        *((name, _Quantization) for name in ("query", "key", "value", "out")),
        ("score_scale", ctypes.c_float),
    ]


class _LayerNorm(ctypes.Structure):
    _fields_ = [
        ("channels", ctypes.c_int32),
        ("gamma", ctypes.c_void_p),
        ("beta", ctypes.c_void_p),
        ("epsilon", ctypes.c_float),
        ("x", _Quantization),
        ("x_multipliers", ctypes.c_void_p),
        ("output", _Quantization),
    ]


class _Table(ctypes.Structure):
    _fields_ = [
        ("rows", ctypes.c_int32),
        ("table", ctypes.c_void_p),
        ("quantization", _Quantization),
    ]


class Graph:
    """Writes a .tflite op by op; tensors are numbers."""

    def __init__(self):
        self._model = schema.ModelT()
        self._model.version = 3
        self._model.buffers = [schema.BufferT()]
        self._model.operatorCodes = []
        self._graph = schema.SubGraphT()
        self._graph.tensors, self._graph.operators = [], []
        self._model.subgraphs = [self._graph]

    def tensor(self, shape, quantization=None, data=None) -> int:
        """Float32, int8 when there is a quantization, or as constant `data`."""
        new = schema.TensorT()
        new.shape = np.array(shape, np.int32)
        new.type = schema.TensorType.FLOAT32
        if quantization:
            new.type = schema.TensorType.INT8
            new.quantization = schema.QuantizationParametersT()
            new.quantization.scale = np.float32([quantization[0]])
            new.quantization.zeroPoint = np.int64([quantization[1]])
        if data is not None:
            if data.dtype == np.int32:
                new.type = schema.TensorType.INT32
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(data.tobytes(), np.uint8)
            self._model.buffers.append(buffer)
            new.buffer = len(self._model.buffers) - 1
        self._graph.tensors.append(new)
        return len(self._graph.tensors) - 1

    def constant(self, data) -> int:
        return self.tensor(np.shape(data), data=np.asarray(data))

    def op(self, code, inputs, shape, quantization=None, **options) -> int:
        """Adds an op of one output, which it returns."""
        names = {
            _OPS.BATCH_MATMUL: "BatchMatMulOptions",
            _OPS.MEAN: "ReducerOptions",
            _OPS.SOFTMAX: "SoftmaxOptions",
        }
        known = [c.builtinCode for c in self._model.operatorCodes]
        if code not in known:
            new = schema.OperatorCodeT()
            new.builtinCode = code
            new.deprecatedBuiltinCode = min(code, 127)
            new.version = 1
            self._model.operatorCodes.append(new)
            known.append(code)
        op = schema.OperatorT()
        op.opcodeIndex = known.index(code)
        op.inputs = np.array(inputs, np.int32)
        output = self.tensor(shape, quantization)
        op.outputs = np.array([output], np.int32)
        if code in names:
            kind = names[code]
            op.builtinOptionsType = getattr(schema.BuiltinOptions, kind)
            op.builtinOptions = getattr(schema, f"{kind}T")()
            for name, value in options.items():
                setattr(op.builtinOptions, name, value)
        self._graph.operators.append(op)
        return output

    def load(self, inputs, outputs) -> interpreter.Interpreter:
        self._graph.inputs = np.array(inputs, np.int32)
        self._graph.outputs = np.array(outputs, np.int32)
        builder = flatbuffers.Builder(1024)
        builder.Finish(self._model.Pack(builder), b"TFL3")
        result = interpreter.Interpreter(
            model_content=bytes(builder.Output()), num_threads=1
        )
        result.allocate_tensors()
        return result


def attention_graph(tokens: int, heads: int, size: int):
    """(interpreter, inputs, outputs) of attention over int8 rows."""
    graph = Graph()
    rows, split = (tokens, heads * size), (1, tokens, heads, size)
    each, scores = (1, heads, tokens, size), (1, heads, tokens, tokens)
    inputs = [graph.tensor(rows, _INPUT) for _ in range(3)]
    split_shape, rows_shape = (
        graph.constant(np.int32(shape)) for shape in (split, rows)
    )
    order = graph.constant(np.int32([0, 2, 1, 3]))

    def by_head(x):
        x = graph.op(_OPS.RESHAPE, [x, split_shape], split)
        return graph.op(_OPS.TRANSPOSE, [x, order], each)

    query, key, value = (graph.op(_OPS.DEQUANTIZE, [x], rows) for x in inputs)
    scale = graph.constant(np.float32(size**-0.5))
    query = graph.op(_OPS.MUL, [query, scale], rows)
    query, key, value = by_head(query), by_head(key), by_head(value)
    mask = graph.constant(np.zeros((1, 1, 1, tokens), np.float32))
    x = graph.op(_OPS.BATCH_MATMUL, [query, key], scores, adjY=True)
    x = graph.op(_OPS.ADD, [x, mask], scores)
    x = graph.op(_OPS.SOFTMAX, [x], scores, beta=1.0)
    x = graph.op(_OPS.BATCH_MATMUL, [x, value], each)
    x = graph.op(_OPS.QUANTIZE, [x], each, _CONTEXT)
    x = graph.op(_OPS.TRANSPOSE, [x, order], split, _CONTEXT)
    x = graph.op(_OPS.RESHAPE, [x, rows_shape], rows, _CONTEXT)
    return graph.load(inputs, [x]), inputs, [x]


def layer_norm_graph(tokens: int, gamma: np.ndarray, beta: np.ndarray):
    """The same of layer norm; inputs residual and x, outputs float and int8."""
    graph = Graph()
    rows, column = (tokens, len(gamma)), (tokens, 1)
    inputs = [graph.tensor(rows), graph.tensor(rows, _INPUT)]
    axis = graph.constant(np.int32([1]))
    x = graph.op(_OPS.DEQUANTIZE, inputs[1:], rows)
    x = graph.op(_OPS.ADD, [inputs[0], x], rows)
    mean = graph.op(_OPS.MEAN, [x, axis], column, keepDims=True)
    square = graph.op(_OPS.SQUARED_DIFFERENCE, [x, mean], rows)
    variance = graph.op(_OPS.MEAN, [square, axis], column, keepDims=True)
    epsilon = graph.constant(np.float32(1e-12))
    variance = graph.op(_OPS.ADD, [variance, epsilon], column)
    inverse = graph.op(_OPS.RSQRT, [variance], column)
    factor = graph.op(_OPS.MUL, [inverse, graph.constant(gamma)], rows)
    scaled = graph.op(_OPS.MUL, [x, factor], rows)
    shift = graph.op(_OPS.MUL, [mean, factor], rows)
    shift = graph.op(_OPS.SUB, [graph.constant(beta), shift], rows)
    y = graph.op(_OPS.ADD, [scaled, shift], rows)
    outputs = [y, graph.op(_OPS.QUANTIZE, [y], rows, _NORM)]
    return graph.load(inputs, outputs), inputs, outputs


def medians(*runs) -> list[float]:
    """Microseconds of each, taking turns."""
    times = [[] for _ in runs]
    for _ in range(ROUNDS.value):
        for run, mine in zip(runs, times, strict=True):
            run()
            start = time.thread_time()
            for _ in range(5):
                run()
            mine.append((time.thread_time() - start) / 5 * 1e6)
    return [statistics.median(mine) for mine in times]


def beside(libs, loop, name: str, function: str, arguments, output) -> str:
    """A line of the table of compilers; `function` writes to `output`."""
    calls = [getattr(lib.functions, function) for lib in libs]
    cells = []
    for isa in ISA.value:
        for lib in libs:
            if lib.functions.TfPofTransformerIsa(isa.encode()) != 0:
                raise SystemExit(f"This processor has no {isa}.")
        calls[1](*arguments)
        other = output.copy()
        calls[0](*arguments)
        if not np.array_equal(output, other):
            raise SystemExit(f"Compilers change what {function} gives.")
        runs = [loop(call, arguments) for call in calls]
        cells.append(turns.cell([turns.compare(*runs)]))
    return f"| {name} | {' | '.join(cells)} |"


def compare(
    libs, loop, name: str, loaded, data, function: str, arguments, output
) -> str:
    """A line of the table; `function` writes int8 rows to `output`."""
    if len(libs) == 2:
        return beside(libs, loop, name, function, arguments, output)
    ours = getattr(libs[0].functions, function)
    litert, inputs, outputs = loaded()
    for tensor, value in zip(inputs, data, strict=True):
        litert.set_tensor(tensor, value)
    # Without the wrapper's checks, which take long.
    theirs, mine = medians(
        litert._interpreter.Invoke, lambda: ours(*arguments)
    )
    expected = litert.get_tensor(outputs[-1]).astype(int)
    steps = np.abs(expected - output).max()
    return (
        f"{name:24s} {theirs:10.1f} {mine:10.1f} {theirs / mine:8.1f}x"
        f" {steps:6d}"
    )


def _pointers(*arrays: np.ndarray) -> list[ctypes.c_void_p]:
    return [ctypes.c_void_p(array.ctypes.data) for array in arrays]


def time_attention(libs, loop, tokens: int, rng) -> str:
    heads, size = HEADS.value, HEAD_SIZE.value
    rows = list(
        rng.integers(-128, 128, (3, tokens, heads * size), dtype=np.int8)
    )
    params = _Attention(
        heads, size, _INPUT, _INPUT, _INPUT, _CONTEXT, size**-0.5
    )
    bytes_needed = libs[0].functions.TfPofAttentionWorkspace(
        ctypes.byref(params), tokens, 1
    )
    mask, workspace = np.zeros(tokens, "f4"), np.empty(bytes_needed, np.int8)
    output = np.empty_like(rows[0])
    arguments = [_POINTER(ctypes.addressof(params)), 1, tokens]
    arguments += _pointers(*rows, mask, output, workspace) + [None]
    return compare(
        libs,
        loop,
        f"attention, {tokens} tokens",
        lambda: attention_graph(tokens, heads, size),
        rows,
        "TfPofAttentionRun",
        arguments,
        output,
    )


def time_layer_norm(libs, loop, tokens: int, rng) -> str:
    channels = HEADS.value * HEAD_SIZE.value
    gamma, beta = rng.uniform(0.5, 2, (2, channels)).astype("f4")
    residual = rng.normal(0, 1, (tokens, channels)).astype("f4")
    x = rng.integers(-128, 128, (tokens, channels), dtype=np.int8)
    params = _LayerNorm(
        channels, *_pointers(gamma, beta), 1e-12, _INPUT, None, _NORM
    )
    floats, output = np.empty_like(residual), np.empty_like(x)
    arguments = [_POINTER(ctypes.addressof(params)), tokens]
    arguments += _pointers(residual, x) + [None]
    arguments += _pointers(floats, output) + [None]
    return compare(
        libs,
        loop,
        f"layer norm, {tokens} tokens",
        lambda: layer_norm_graph(tokens, gamma, beta),
        [residual, x],
        "TfPofLayerNormRun",
        arguments,
        output,
    )


def time_embeddings(libs, loop, tokens: int, rng) -> str:
    """Of words, positions and one type, as BERT's."""
    channels = HEADS.value * HEAD_SIZE.value
    sizes = (1000, tokens, 2)
    rows = [
        rng.integers(-128, 128, (size, channels), dtype=np.int8)
        for size in sizes
    ]
    tables = (_Table * 3)(
        *((len(x), p, _INPUT) for x, p in zip(rows, _pointers(*rows)))
    )
    words = rng.integers(0, 1000, tokens, dtype=np.int32)
    types = np.zeros(tokens, np.int32)
    ids = (_POINTER * 3)(words.ctypes.data, None, types.ctypes.data)
    gamma, beta = rng.uniform(0.5, 2, (2, channels)).astype("f4")
    norm = _LayerNorm(
        channels, *_pointers(gamma, beta), 1e-12, _INPUT, None, _NORM
    )
    floats = np.empty((tokens, channels), np.float32)
    output = np.empty((tokens, channels), np.int8)
    arguments = [_POINTER(ctypes.addressof(x)) for x in (tables, ids)]
    arguments += [3, tokens, tokens, _POINTER(ctypes.addressof(norm))]
    arguments += _pointers(floats, output) + [None]
    name = f"embeddings, {tokens} tokens"
    return beside(libs, loop, name, "TfPofEmbeddingsRun", arguments, output)


def _time_conversion(libs, loop, function: str, data, output) -> str:
    # As structs of 8 bytes are passed.
    quantization = np.array([_INPUT], [("scale", "f4"), ("zero", "i4")])
    packed = ctypes.c_long(int(quantization.view(np.int64)[0]))
    inputs, outputs = _pointers(data, output)
    arguments = [inputs, ctypes.c_size_t(data.size), packed, outputs]
    name = f"{function[5:].lower()}, {len(data)} tokens"
    return beside(libs, loop, name, function, arguments, output)


def time_quantize(libs, loop, tokens: int, rng) -> str:
    shape = tokens, HEADS.value * HEAD_SIZE.value
    floats = rng.normal(0, 1, shape).astype("f4")
    output = np.empty(shape, np.int8)
    return _time_conversion(libs, loop, "TfPofQuantize", floats, output)


def time_dequantize(libs, loop, tokens: int, rng) -> str:
    shape = tokens, HEADS.value * HEAD_SIZE.value
    values = rng.integers(-128, 128, shape, dtype=np.int8)
    output = np.empty(shape, np.float32)
    return _time_conversion(libs, loop, "TfPofDequantize", values, output)


def main(argv):
    del argv
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        libs = [library.Library(library.build(folder))]
        loop = None
        measures = [time_attention, time_layer_norm]
        if BESIDE_COMPILER.value:
            other = library.build(f"{folder}/beside", BESIDE_COMPILER.value)
            libs.append(library.Library(other))
            loop = turns.loop(folder)
            measures += [time_embeddings, time_quantize, time_dequantize]
            print(f"us, and the time of {BESIDE_COMPILER.value}\n")
            print("| | " + " | ".join(ISA.value) + " |")
            print("|---" * (1 + len(ISA.value)) + "|")
        else:
            print(f"{'':24s} {'LiteRT us':>10s}    here us    ratio  steps")
        for lib in libs:
            lib.functions.TfPofAttentionWorkspace.restype = ctypes.c_size_t
        for measure in measures:
            for tokens in SEQUENCE.value:
                print(measure(libs, loop, tokens, rng), flush=True)


if __name__ == "__main__":
    app.run(main)
