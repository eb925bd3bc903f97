"""What a .tflite says of itself, as TFLite's metadata tools read it.

A flatbuffer in the model's "TFLITE_METADATA" entry describes model, inputs and
outputs; vocabulary, labels and tf_pof.json stand in a zip archive behind it, so
that `unzip model.tflite` gives them. Tensors are called as in TFLite's Task
Library, whose BERT classes look for "ids", "mask" and "segment_ids".
"""

from collections.abc import Mapping, Sequence
import dataclasses
import io
import json
import pathlib
import zipfile
import zlib

from ai_edge_litert import schema_py_generated as schema
import numpy as np

from tf_pof._keras import keras
from tf_pof.data import tokenizer_files
from tf_pof.data.tokenizer_settings import TokenizerSettings
from tf_pof.export import flatbuffer, graph
from tf_pof.export import metadata_tables as tables
from tf_pof.export.archive import DETAILS, LABELS, VOCABULARY

_ENTRY = b"TFLITE_METADATA"
_VERSION = 1
_INPUTS = {
    "token_ids": ("ids", "Ids of the tokens in vocab.txt, 0 beyond the text."),
    "segment_ids": ("segment_ids", "0 in the first text, 1 in the second."),
    "padding_mask": ("mask", "1 for a token, 0 for padding."),
}
# BertNLClassifier of the Task Library crashes on a file without this name; it
# hands the values on as they are.
_CLASSIFIED = "probability"
_OUTPUTS = {
    "logits": "A score for each label, before the softmax.",
    "start_logits": "For each token the score of an answer's beginning.",
    "end_logits": "For each token the score of an answer's end.",
    "sequence_output": "The encoder's vector of each token.",
    "pooled_output": "The pooler's vector of the sequence.",
}


@dataclasses.dataclass(frozen=True)
class About:
    """What the user says of a model.

    Attributes:
        name: of the model.
        author: who made it.
        license: that it is under.
    """

    name: str = "BERT"
    author: str = ""
    license: str = ""


def details(
    model: keras.Model,
    sequence_lengths: Sequence[int],
    batch_size: int = 0,
    encoding: str = "dense",
    provenance: Mapping | None = None,
) -> dict:
    """The contents of tf_pof.json: what a program must know to use a model.

    Args:
        model: a QuantizedModel.
        sequence_lengths: of the signatures.
        batch_size: 0 if any.
        encoding: of the weights.
        provenance: how the model was made, for JSON; by default what
            sparsity.json said of it.
    """
    if provenance is None:
        provenance = dict(getattr(model, "sparsity", None) or {})
    labels = getattr(model, "labels", None)
    return {
        "version": _VERSION,
        "head": model.head,
        "num_labels": model.num_labels,
        "labels": None if labels is None else list(labels),
        **_tokenizer(model).to_dict(),
        "config": dataclasses.asdict(model.config),
        "inputs": sorted(model.input),
        "outputs": graph.output_names(model),
        "sequence_lengths": list(sequence_lengths),
        "max_sequence_length": max(sequence_lengths),
        "batch_size": batch_size,
        "encoding": encoding,
        "task": _task(provenance),
        "provenance": _without_paths(
            {k: v for k, v in provenance.items() if k != "tensors"}
        ),
    }


def _tokenizer(model) -> TokenizerSettings:
    if model.tokenizer_settings is None and model.vocab_file:
        return tokenizer_files.settings_of(model.vocab_file)
    return model.tokenizer_settings or TokenizerSettings()


def add(
    contents: bytes,
    about: About,
    described: Mapping,
    vocab_file: str | None = None,
) -> bytes:
    """A .tflite with its metadata and files; what was there is replaced.

    Args:
        contents: of the .tflite.
        about: name, author and license.
        described: of `details`.
        vocab_file: path of the vocabulary; None leaves it out.

    Raises:
        OSError: if the vocabulary cannot be read.
        ValueError: if it is none.
    """
    files = {}
    if vocab_file:
        files[VOCABULARY] = tokenizer_files.vocab_txt(vocab_file)
    if described["labels"]:
        files[LABELS] = ("\n".join(described["labels"]) + "\n").encode()
    model = flatbuffer.read(contents)
    _set_entry(model, _tables(model, about, described, files).to_bytes())
    result = flatbuffer.write(model)
    # Of the flatbuffer: single wrong bytes in weights are seen by nobody else.
    described = {**described, "crc32": zlib.crc32(result)}
    files[DETAILS] = (json.dumps(described, indent=1) + "\n").encode()
    return result + _archive(files, len(result))


def _archive(files, offset):
    """A zip archive that begins `offset` bytes into its file."""
    target = io.BytesIO()
    # zipfile counts from where it begins to write.
    target.seek(offset)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for name, data in files.items():
            # Stored, as the Task Library maps them; of no date, so that equal
            # models are equal files.
            archive.writestr(zipfile.ZipInfo(name), data)
    return target.getvalue()[offset:]


def _set_entry(model, data):
    found = [x for x in model.metadata or [] if x.name == _ENTRY]
    if not found:
        found = [schema.MetadataT()]
        found[0].name, found[0].buffer = _ENTRY, len(model.buffers)
        model.buffers.append(schema.BufferT())
        model.metadata = [*(model.metadata or []), *found]
    model.buffers[found[0].buffer].data = np.frombuffer(data, np.uint8)


def _tables(model, about, described, files):
    vocabulary = tables.AssociatedFile(
        VOCABULARY,
        "Vocabulary of the WordPiece tokenizer, of "
        + ("lower-cased" if described["lowercase"] else "cased")
        + " text.",
        tables.VOCABULARY,
    )
    labels = tables.AssociatedFile(
        LABELS, "Names of the classes.", tables.TENSOR_AXIS_LABELS
    )
    own = tables.AssociatedFile(
        DETAILS, "What tf_pof's runtime reads.", tables.DESCRIPTIONS
    )
    has_vocabulary = VOCABULARY in files

    def tensor(subgraph, index):
        name = subgraph.tensors[index].name.decode()
        if name in _INPUTS:
            return tables.TensorMetadata(*_INPUTS[name])
        shown = [labels] if name == "logits" and LABELS in files else None
        called = name
        if name == "logits" and described["head"] == "classifier":
            called = _CLASSIFIED
        return tables.TensorMetadata(
            called, _OUTPUTS.get(name, ""), associated_files=shown
        )

    return tables.ModelMetadata(
        name=about.name,
        description=describe(described),
        version=str(described["version"]),
        subgraph_metadata=[
            tables.SubGraphMetadata(
                (subgraph.name or b"").decode(),
                "Inputs int32, outputs float32.",
                [tensor(subgraph, i) for i in subgraph.inputs],
                [tensor(subgraph, i) for i in subgraph.outputs],
                input_process_units=[tables.bert_tokenizer(vocabulary)]
                if has_vocabulary
                else None,
            )
            for subgraph in model.subgraphs
        ],
        author=about.author,
        license=about.license,
        associated_files=[own] + [vocabulary] * has_vocabulary,
        # Tokenizers are of 1.1.0.
        min_parser_version="1.1.0" if has_vocabulary else "1.0.0",
    )


def describe(described: Mapping) -> str:
    """A paragraph for people: what the model is, and how it was made."""
    config, provenance = described["config"], described["provenance"]
    kind = "DistilBERT" if not config["num_segments"] else "BERT"
    lengths = ", ".join(str(n) for n in described["sequence_lengths"])
    sentences = [
        f"{kind} of {config['num_layers']} layers and hidden size "
        f"{config['hidden_dim']}, head: {described['head'] or 'none'}.",
        f"Sequences of {lengths} tokens.",
        "Quantized to int8 (quantization-aware training as of Q8BERT).",
    ]
    if provenance.get("sparsity"):
        sentences.append(
            f"Pruned: {provenance['sparsity']:.1%} of the weights in encoder "
            "and pooler are zero."
        )
    if described["task"].get("name"):
        sentences.append(f"Fine-tuned on {described['task']['name']}.")
    return " ".join(sentences)


# Options of a task that a program needs which runs its model.
_TASK_OPTIONS = (
    "name",
    "sequence_length",
    "doc_stride",
    "max_query_length",
    "n_best_size",
    "max_answer_length",
    "null_score_diff_threshold",
)


def _task(provenance):
    trained = provenance.get("quantization") or provenance.get("fine_tuning")
    task = (trained or {}).get("task") or {}
    return {k: task[k] for k in _TASK_OPTIONS if task.get(k) is not None}


def _without_paths(value):
    """For publication: names of files and folders, not where they were."""
    if isinstance(value, Mapping):
        return {k: _without_paths(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_paths(v) for v in value]
    if isinstance(value, str) and "/" in value:
        return pathlib.PurePath(value).name
    return value
