"""Runs corrupt copies of a .tflite under the delegate; none may crash.

    python -m tests.runtime.mutants model.tflite library.so count seed

Each copy runs in a process of its own. Copies that crash LiteRT alone, or that
it is too slow for, do not count. Prints how many were refused and ran, and the
crashes.
"""

import os
import random
import signal
import sys

from ai_edge_litert import interpreter as litert
from ai_edge_litert import schema_py_generated as schema
import numpy as np

from tf_pof.export import flatbuffer
from tf_pof.export.encodings import packed

SECONDS = 20
NUMBERS = [0, 1, -1, 2, 3, 127, -129, 1 << 16, (1 << 31) - 1, -(1 << 31)]
SCALES = [0.0, -1.0, float("nan"), float("inf"), 1e-45, 1e30, 0.5]


def flip_bytes(contents, rng):
    """Anywhere: most are refused when the file is read."""
    changed = bytearray(contents)
    for _ in range(rng.choice([1, 3, 9])):
        changed[rng.randrange(len(changed))] = rng.randrange(256)
    return bytes(changed)


def change_fields(contents, rng):
    """A valid file of a model that makes no sense."""
    model = flatbuffer.read(contents)
    for _ in range(rng.choice([1, 1, 2])):
        graph = rng.choice(model.subgraphs)
        rng.choice([_tensor, _operator, _constant, _link])(model, graph, rng)
    return flatbuffer.write(model, contents)


def _tensor(model, graph, rng):
    tensor = rng.choice(graph.tensors)
    kind = rng.randrange(5)
    if kind == 0 and tensor.shape is not None and len(tensor.shape):
        tensor.shape = list(tensor.shape)
        tensor.shape[rng.randrange(len(tensor.shape))] = rng.choice(NUMBERS)
    elif kind == 1:
        tensor.type = rng.randrange(12)
    elif kind == 2 and tensor.shapeSignature is not None:
        tensor.shapeSignature = None
    elif kind == 3:
        tensor.buffer = rng.randrange(len(model.buffers))
    elif tensor.quantization and tensor.quantization.scale is not None:
        params = tensor.quantization
        params.scale = np.array(params.scale, np.float32)
        params.scale[rng.randrange(len(params.scale))] = rng.choice(SCALES)
        params.zeroPoint = np.array(params.zeroPoint, np.int64)
        if rng.random() < 0.3:
            params.zeroPoint[0] = rng.choice(NUMBERS)
        if rng.random() < 0.2:
            params.scale = params.scale[:1]
            params.zeroPoint = params.zeroPoint[:1]


def _operator(model, graph, rng):
    options = rng.choice(graph.operators).builtinOptions
    fields = [
        name
        for name, value in vars(options or object).items()
        if isinstance(value, (bool, int)) and not name.startswith("_")
    ]
    if fields:
        setattr(options, rng.choice(fields), rng.choice([0, 1, 3]))


def _constant(model, graph, rng):
    """Shapes, axes, permutations and packed weights, mostly."""
    buffers = [
        model.buffers[t.buffer]
        for t in graph.tensors
        if model.buffers[t.buffer].data is not None
        and t.type in (schema.TensorType.INT32, schema.TensorType.UINT8)
    ]
    if not buffers:
        return
    buffer = rng.choice(buffers)
    data = np.array(buffer.data, np.uint8)
    if len(data) < 64 and len(data) % 4 == 0:
        words = data.view(np.int32)
        words[rng.randrange(len(words))] = rng.choice(NUMBERS)
    else:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        if rng.random() < 0.3:
            data = data[: rng.randrange(len(data))]
    buffer.data = data


def _link(model, graph, rng):
    operator = rng.choice(graph.operators)
    tensors = operator.outputs if rng.random() < 0.2 else operator.inputs
    tensors[rng.randrange(len(tensors))] = rng.randrange(len(graph.tensors))


def run(contents, library):
    """Loads a model and calls each signature once, as a process does."""
    delegates = []
    if library:
        delegates.append(litert.load_delegate(library, {"threads": 2}))
    interpreter = litert.Interpreter(
        model_content=contents, experimental_delegates=delegates
    )
    for name in interpreter.get_signature_list():
        runner = interpreter.get_signature_runner(name)
        runner(
            **{
                key: np.ones(detail["shape"], detail["dtype"])
                for key, detail in runner.get_input_details().items()
            }
        )


def in_child(contents, library):
    """The signal that ended it, 0 if it ran, -1 if it was refused."""
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        signal.alarm(SECONDS)
        try:
            run(contents, library)
            os._exit(0)
        except BaseException:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else -status


def _dense(contents):
    """What LiteRT alone can run of it, where it is still packed."""
    try:
        return packed.unpack(contents)
    except Exception:
        return contents


def main(path, library, count, seed):
    with open(path, "rb") as file:
        contents = file.read()
    refused = ran = 0
    for i in range(int(seed), int(seed) + int(count)):
        rng = random.Random(i)
        change = change_fields if i % 4 else flip_bytes
        try:
            changed = change(contents, rng)
        except Exception:  # the object API packs no such numbers
            continue
        found = in_child(changed, library)
        refused += found < 0
        ran += found == 0
        if found > 0 and in_child(_dense(changed), "") <= 0:
            print(f"crash: seed {i}, signal {found}")
    print(f"{refused} were refused, {ran} ran")


if __name__ == "__main__":
    main(*sys.argv[1:])
