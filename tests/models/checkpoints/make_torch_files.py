"""Makes torch_files/: weights of a tiny BERT as PyTorch itself writes them.

Run once in an environment of its own with PyTorch 2.13 and NumPy:

    python tests/models/checkpoints/make_torch_files.py

One-layer classifiers with 3 labels, in the ways in which state dicts differ:
plain.bin (float32, version metadata, buffers, a kernel stored transposed, a
bias that is a slice of a longer tensor, two names of one tensor), half.bin,
bfloat16.bin, double.bin, parameters.bin (nn.Parameter, protocol 4), two shards
with their index, legacy.bin (before 1.6) and script.bin (TorchScript).
expected.npz has the float32 values.
"""

import collections
import json
import os

import numpy as np
import torch

WIDTH, INNER, VOCABULARY, POSITIONS, LABELS = 8, 12, 20, 10, 3
FOLDER = os.path.join(os.path.dirname(__file__), "torch_files")


def shapes():
    yield "bert.embeddings.word_embeddings.weight", (VOCABULARY, WIDTH)
    yield "bert.embeddings.position_embeddings.weight", (POSITIONS, WIDTH)
    yield "bert.embeddings.token_type_embeddings.weight", (2, WIDTH)
    layer = "bert.encoder.layer.0"
    for name, (outputs, inputs) in {
        f"{layer}.attention.self.query": (WIDTH, WIDTH),
        f"{layer}.attention.self.key": (WIDTH, WIDTH),
        f"{layer}.attention.self.value": (WIDTH, WIDTH),
        f"{layer}.attention.output.dense": (WIDTH, WIDTH),
        f"{layer}.intermediate.dense": (INNER, WIDTH),
        f"{layer}.output.dense": (WIDTH, INNER),
        "bert.pooler.dense": (WIDTH, WIDTH),
        "classifier": (LABELS, WIDTH),
    }.items():
        yield f"{name}.weight", (outputs, inputs)
        yield f"{name}.bias", (outputs,)
    for name in (
        "bert.embeddings",
        f"{layer}.attention.output",
        f"{layer}.output",
    ):
        yield f"{name}.LayerNorm.weight", (WIDTH,)
        yield f"{name}.LayerNorm.bias", (WIDTH,)


def main():
    os.makedirs(FOLDER, exist_ok=True)
    rng = np.random.default_rng(0)
    # Sixteenths below 16 are exact in every dtype.
    values = {
        name: rng.integers(-64, 64, shape).astype(np.float32) / 16
        for name, shape in shapes()
    }
    np.savez_compressed(os.path.join(FOLDER, "expected.npz"), **values)

    def write(name, value, **options):
        torch.save(value, os.path.join(FOLDER, name), **options)

    plain = {name: torch.tensor(value) for name, value in values.items()}
    for name, dtype in (
        ("half.bin", torch.float16),
        ("bfloat16.bin", torch.bfloat16),
        ("double.bin", torch.float64),
    ):
        write(name, {k: v.to(dtype) for k, v in plain.items()})
    parameters = {k: torch.nn.Parameter(v) for k, v in plain.items()}
    write("parameters.bin", parameters, pickle_protocol=4)
    write("legacy.bin", plain, _use_new_zipfile_serialization=False)
    names = sorted(plain)
    halves = {"1.bin": names[::2], "2.bin": names[1::2]}
    for shard, part in halves.items():
        write(shard, {name: plain[name] for name in part})
    index = {name: shard for shard, part in halves.items() for name in part}
    with open(os.path.join(FOLDER, "index.json"), "w") as file:
        json.dump({"metadata": {}, "weight_map": index}, file, indent=1)

    odd = collections.OrderedDict(plain)
    odd._metadata = collections.OrderedDict({"": {"version": 1}})
    kernel = "bert.encoder.layer.0.intermediate.dense.weight"
    odd[kernel] = plain[kernel].T.contiguous().T
    bias = "bert.pooler.dense.bias"
    odd[bias] = torch.cat([torch.full((3,), 9.0), plain[bias]])[3:]
    odd["bert.embeddings.position_ids"] = torch.arange(POSITIONS)[None]
    # A second name of one tensor, as a tied decoder has it.
    table = odd["bert.embeddings.word_embeddings.weight"]
    odd["cls.predictions.decoder.weight"] = table
    write("plain.bin", odd)
    script = torch.jit.script(torch.nn.Linear(2, 2))
    torch.jit.save(script, os.path.join(FOLDER, "script.bin"))


if __name__ == "__main__":
    main()
