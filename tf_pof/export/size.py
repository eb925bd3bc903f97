"""How large a .tflite is, and why: an honest count with all indices.

Kernels are the weights of FULLY_CONNECTEDs. The encoder's are those of layers
called layer_<n>_.. and of the pooler, the head's all others. A part's bytes
are its kernels as they are stored, with the indices, code tables and padding
of sparse ones, its biases (int32), and the float32 scales of both, one for
each output. Tables are the other int8 matrices: embeddings. What is left of
the file (operators, norms, names, metadata) is "rest".

Zipped is deflate at level 9, as an APK or a compressed download has it,
applied to each kernel and table by itself and to the rest.
"""

import concurrent.futures
import math
import os
import re
import zlib

from ai_edge_litert import schema_py_generated as schema
import numpy as np
import rich.console
import rich.table

from tf_pof.export import flatbuffer
from tf_pof.export.encodings import packed, packed_format

_ENCODER = re.compile(r"(?:^|[/;])(?:layer_\d+_\w+|pooler)(?:/|$)")
_FULLY_CONNECTED = schema.BuiltinOperator.FULLY_CONNECTED
_PARTS = ("encoder", "head", "embeddings")


def report(contents: bytes) -> dict:
    """Counts the bytes of a .tflite file, however it is encoded.

    Returns:
        What `json.dump` takes: "file" and each part ("encoder", "head",
        "embeddings", "rest") with "bytes" and, all but rest, "float32_bytes"
        (all constants as float32) and "int8_bytes" (stored densely), and the
        ratios to them; file and encoder with "zipped_bytes"; parts with
        "weights", "zeros" and "bits_per_weight", those of kernels or tables
        alone. "paper_ratio" is how Zafrir et al. 2021 count ("40x"): encoder
        kernels, zeros and int8, no indices. "tensors" has a row for each
        kernel and table. Ratios of what is not there are None.

    Raises:
        ValueError: if the file or its packed weights are corrupt.
    """
    model = flatbuffer.read(contents)
    rows, data = _rows(model)
    result = {"file": _file(model, contents, rows)}
    for part in _PARTS:
        own = [row for row in rows if row["part"] == part]
        result[part] = _part(own)
    encoder = result["encoder"]
    result["file"]["zipped_bytes"], encoder["zipped_bytes"] = _zip_sizes(
        contents, rows, data
    )
    rest = result["file"]["bytes"] - sum(result[x]["bytes"] for x in _PARTS)
    result["rest"] = {"bytes": rest}
    live = encoder["weights"] - encoder["zeros"]
    result["paper_ratio"] = _ratio(4 * encoder["weights"], live)
    result["tensors"] = rows
    return result


def _ratio(whole: float, part: float) -> float | None:
    return whole / part if part else None


def _zip_sizes(contents, rows, stored) -> tuple[int, int]:
    """Bytes of the file and of the encoder when zipped.

    Kernels and tables are zipped one by one, once for both, on all cores:
    level 9 takes a minute for the zeros of a BERT-Base.
    """
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        sizes = list(pool.map(_zipped, [data for data, _ in stored]))
    is_encoder = [row["part"] == "encoder" for row in rows]
    beside = [part for (_, part), x in zip(stored, is_encoder) if x]
    encoder = sum(size for size, x in zip(sizes, is_encoder) if x)
    rest = _without(contents, [data for data, _ in stored])
    return sum(sizes) + _zipped(rest), encoder + _zipped(b"".join(beside))


def _zipped(data) -> int:
    return len(zlib.compress(data, 9))


def _without(contents: bytes, parts) -> bytes:
    """What is left when views of `contents` are cut out of it."""
    whole = np.frombuffer(contents, np.uint8)
    left = np.ones(len(whole), bool)
    for part in parts:
        start = part.ctypes.data - whole.ctypes.data
        left[start : start + len(part)] = False
    return whole[left].tobytes()


def _file(model, contents, rows) -> dict:
    dense = sum(row["weights"] - row["bytes"] for row in rows)
    values = _constants(model)
    return _with_ratios(
        {
            "bytes": len(contents),
            "float32_bytes": 4 * values,
            "int8_bytes": len(contents) + dense,
        }
    )


def _with_ratios(entry: dict) -> dict:
    for name in ("float32", "int8"):
        ratio = _ratio(entry[f"{name}_bytes"], entry["bytes"])
        entry[f"ratio_to_{name}"] = ratio
    return entry


def _constants(model) -> int:
    """Numbers in all constants, each buffer counted once."""
    counts = {}
    for subgraph in model.subgraphs:
        made = {
            operator.outputs[0]: operator
            for operator in subgraph.operators
            if packed.is_packed(model, operator)
        }
        for index, tensor in enumerate(subgraph.tensors):
            if index in made:
                source = subgraph.tensors[made[index].inputs[0]]
                counts[source.buffer] = math.prod(tensor.shape)
            elif model.buffers[tensor.buffer].data is not None:
                count = math.prod([] if tensor.shape is None else tensor.shape)
                counts.setdefault(tensor.buffer, count)
    return sum(counts.values())


def _part(rows) -> dict:
    weights = sum(row["weights"] for row in rows)
    data = sum(row["bytes"] for row in rows)
    beside = sum(row["bias_bytes"] + row["scale_bytes"] for row in rows)
    biases = sum(row["bias_bytes"] for row in rows)
    return {
        "weights": weights,
        "zeros": sum(row["zeros"] for row in rows),
        "bits_per_weight": _ratio(8 * data, weights),
        **_with_ratios(
            {
                "bytes": data + beside,
                "float32_bytes": 4 * weights + biases,
                "int8_bytes": weights + beside,
            }
        ),
    }


def _rows(model) -> tuple[list[dict], list[tuple[np.ndarray, bytes]]]:
    """A row for each kernel and table; its data, and what stands beside."""
    rows, stored, seen = [], [], set()
    for subgraph in model.subgraphs:
        sources = {}
        for operator in subgraph.operators:
            if packed.is_packed(model, operator):
                sources[operator.outputs[0]] = operator.inputs[0]
                continue
            for index, bias, part in _matrices(model, subgraph, operator):
                tensor = subgraph.tensors[index]
                source = subgraph.tensors[sources.get(index, index)]
                buffer = model.buffers[source.buffer]
                if buffer.data is None or source.buffer in seen:
                    continue
                seen.add(source.buffer)
                row, beside = _row(model, tensor, source, bias, part)
                rows.append(row)
                stored.append((buffer.data, beside))
    return rows, stored


def _matrices(model, subgraph, operator):
    """Yields index, bias and part of an operator's kernel or tables."""
    inputs = list(operator.inputs)
    if flatbuffer.is_operator(model, operator, _FULLY_CONNECTED):
        bias = None
        if len(inputs) > 2 and inputs[2] >= 0:
            bias = subgraph.tensors[inputs[2]]
        name = subgraph.tensors[inputs[1]].name.decode()
        yield inputs[1], bias, "encoder" if _ENCODER.search(name) else "head"
        return
    for index in inputs:
        tensor = subgraph.tensors[index]
        is_matrix = tensor.shape is not None and len(tensor.shape) == 2
        if index >= 0 and is_matrix and tensor.type == schema.TensorType.INT8:
            yield index, None, "embeddings"


def _row(model, tensor, source, bias, part) -> tuple[dict, bytes]:
    data = bytes(model.buffers[source.buffer].data)
    weights = math.prod(tensor.shape)
    encoding = "dense"
    indices = b""
    if source is not tensor:
        encoding = "packed"
        nonzeros = packed_format.header(data).nonzeros
    else:
        # A weight of several bytes is zero if all of them are.
        size = max(1, len(data) // weights)
        values = np.frombuffer(data, np.uint8)
        if tensor.sparsity is not None:
            encoding, size = "tflite_1x16", 1
            indices = _indices(tensor.sparsity)
        values = values[: len(values) // size * size].reshape(-1, size)
        nonzeros = np.count_nonzero(values.any(1))
    scales = _scales(tensor)
    biases = b""
    if bias is not None and model.buffers[bias.buffer].data is not None:
        biases = bytes(model.buffers[bias.buffer].data)
        scales += _scales(bias)
    row = {
        "name": tensor.name.decode(),
        "part": part,
        "encoding": encoding,
        "shape": [int(size) for size in tensor.shape],
        "weights": weights,
        "zeros": weights - int(nonzeros),
        "bytes": len(data) + len(indices),
        "bits_per_weight": 8 * (len(data) + len(indices)) / weights,
        "bias_bytes": len(biases),
        "scale_bytes": len(scales),
    }
    return row, indices + biases + scales


def _indices(sparsity) -> bytes:
    """The index vectors of a sparse tensor."""
    vectors = []
    for dimension in sparsity.dimMetadata:
        for vector in (dimension.arraySegments, dimension.arrayIndices):
            if vector is not None:
                vectors.append(_bytes(vector))
    return b"".join(vectors)


def _bytes(vector) -> bytes:
    width = {
        schema.Uint8VectorT: np.uint8,
        schema.Uint16VectorT: np.uint16,
        schema.Int32VectorT: np.int32,
    }
    return np.asarray(vector.values, width[type(vector)]).tobytes()


def _scales(tensor) -> bytes:
    quantization = tensor.quantization
    if quantization is None or quantization.scale is None:
        return b""
    return np.asarray(quantization.scale, np.float32).tobytes()


def show(
    result: dict,
    console: rich.console.Console | None = None,
    tensors: bool = True,
) -> None:
    """Prints a report as tables.

    Args:
        result: of `report`.
        console: standard output if not given.
        tensors: print a row for each kernel and table too.
    """
    console = console or rich.console.Console()
    # What fits 80 columns, as logs have.
    table = rich.table.Table(title="Size, and bits per weight")
    table.add_column("")
    for heading in ("bytes", "zipped", "zeros", "bits", "to float32"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("to int8", justify="right", no_wrap=True)
    for part in ("file", *_PARTS, "rest"):
        entry = result[part]
        table.add_row(
            part,
            f"{entry['bytes']:,}",
            _text(entry.get("zipped_bytes"), ","),
            _zeros(entry),
            _text(entry.get("bits_per_weight"), ".3f"),
            _text(entry.get("ratio_to_float32"), ".1f", "x"),
            _text(entry.get("ratio_to_int8"), ".1f", "x"),
        )
    console.print(table)
    if result["paper_ratio"]:
        honest = result["encoder"]["ratio_to_float32"]
        console.print(
            f"Encoder to float32: {honest:.1f}x with all indices, biases and "
            f"scales; as the paper counts, zeros and int8 alone, "
            f"{result['paper_ratio']:.1f}x."
        )
    if tensors:
        console.print(_tensor_table(result["tensors"]))


def _tensor_table(rows) -> rich.table.Table:
    table = rich.table.Table(title="Kernels and tables")
    table.add_column("name")
    table.add_column("encoding")
    for heading in ("shape", "zeros", "bytes", "bits/weight"):
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(
            row["name"],
            row["encoding"],
            " x ".join(map(str, row["shape"])),
            _zeros(row),
            f"{row['bytes']:,}",
            f"{row['bits_per_weight']:.3f}",
        )
    return table


def _text(value, form: str, unit: str = "") -> str:
    return "" if value is None else f"{value:{form}}{unit}"


def _zeros(entry) -> str:
    share = _ratio(entry.get("zeros", 0), entry.get("weights", 0))
    return _text(share, ".1%")
