"""Runs a .tflite of tf_pof in LiteRT (ai-edge-litert)."""

from collections.abc import Mapping, Sequence
import os

from ai_edge_litert import interpreter as litert
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils
import numpy as np

from tf_pof.export import archive, flatbuffer
from tf_pof.quiet import quiet

_INPUTS = {"token_ids", "padding_mask"}
# Outputs [batch, seq, ..]; the others are [batch, ..].
_PER_TOKEN = {"start_logits", "end_logits", "sequence_output"}


class LiteModel:
    """A .tflite, for batches and sequences of any size.

    Attributes:
        input_names, output_names: of the signatures.
        output_widths: last dimension of each output by name.
        sequence_lengths: ascending; one signature each.
        batch_size: that the file is made for; 0 if any.
        details: tf_pof.json of its metadata, or None.

    Args:
        model: path or contents of the file.
        num_threads: that it computes with.
        delegates: of `ai_edge_litert.interpreter.load_delegate`; XNNPACK takes
            what they leave.

    Raises:
        ValueError: if it is corrupt, no model of tf_pof, or needs another
            runtime.
        OSError: if it cannot be read.
    """

    def __init__(
        self,
        model: str | os.PathLike | bytes,
        num_threads: int = 1,
        delegates: Sequence[litert.Delegate] = (),
    ):
        name, source = "The .tflite", {"model_content": model}
        if not isinstance(model, bytes):
            # Mapped by LiteRT, so that weights are in memory once.
            name = os.fspath(model)
            source = {"model_path": name}
            model = archive.contents_of(model)
        try:
            contents = flatbuffer.read(model)
            self.details = archive.read_details(model)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
        if not delegates:
            _check_operators(contents, name)
        self._signatures = _signatures(contents, name)
        self.sequence_lengths = list(self._signatures)
        first, tensors = self._signatures[self.sequence_lengths[0]]
        self.input_names = sorted(_text(x.name) for x in first.inputs)
        self.output_names = sorted(_text(x.name) for x in first.outputs)
        self.output_widths = {
            _text(x.name): _shape(tensors[x.tensorIndex])[-1]
            for x in first.outputs
        }
        batch = _shape(tensors[first.inputs[0].tensorIndex])[0]
        self.batch_size = max(0, batch)
        try:
            with quiet():
                self._interpreter = litert.Interpreter(
                    **source,
                    num_threads=num_threads,
                    experimental_delegates=list(delegates) or None,
                )
                self._interpreter.allocate_tensors()
                self._runners = {
                    length: self._interpreter.get_signature_runner(
                        _text(signature.signatureKey)
                    )
                    for length, (signature, _) in self._signatures.items()
                }
        except (ValueError, RuntimeError) as error:
            raise ValueError(
                f"{name} cannot be loaded by LiteRT: "
                f"{' '.join(str(error).split())}"
            ) from error

    def __call__(
        self, inputs: Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """Computes a batch.

        The sequences are padded to the nearest signature's length, and what
        that adds to the outputs is cut off again.

        Args:
            inputs: integers [batch, seq] by name; names that the model lacks
                are ignored.

        Returns:
            float32 by name: "logits" [batch, num_labels], "start_logits" and
            "end_logits" [batch, seq], or the encoder's outputs.

        Raises:
            ValueError: if an input is missing, of another shape than the
                others, or longer than all signatures.
        """
        batch = self._batch(inputs)
        size, seq = batch["token_ids"].shape
        length = next((n for n in self.sequence_lengths if n >= seq), None)
        if length is None:
            raise ValueError(
                f"A sequence of {seq} tokens is longer than the "
                f"{self.sequence_lengths[-1]} that the .tflite was exported "
                "for: export it with larger --sequence_lengths."
            )
        step = self.batch_size or max(size, 1)
        parts = []
        for i in range(0, max(size, 1), step):
            rows = {
                name: _padded(value[i : i + step], step, length)
                for name, value in batch.items()
            }
            parts.append(self._run(length, rows))
        outputs = {}
        for name in self.output_names:
            values = np.concatenate([part[name] for part in parts])[:size]
            if name in _PER_TOKEN:
                values = values[:, :seq]
            outputs[name] = values
        return outputs

    def _run(self, length, rows):
        try:
            return self._runners[length](**rows)
        except (ValueError, RuntimeError) as error:
            raise ValueError(
                "LiteRT cannot compute the .tflite: "
                f"{' '.join(str(error).split())}"
            ) from error

    def _batch(self, inputs):
        missing = sorted(set(self.input_names) - set(inputs))
        if missing:
            raise ValueError(f"The .tflite needs the input {missing[0]!r}.")
        batch = {
            name: np.asarray(inputs[name], np.int32)
            for name in self.input_names
        }
        shapes = {value.shape for value in batch.values()}
        if len(shapes) != 1 or len(min(shapes)) != 2:
            raise ValueError(
                "The inputs must all be [batch, seq] of one size, not "
                + ", ".join(f"{k} {v.shape}" for k, v in batch.items())
                + "."
            )
        return batch


def _padded(values, rows, columns):
    """[.., ..] with zeros up to [rows, columns]; contiguous, as LiteRT asks."""
    result = np.zeros((rows, columns), np.int32)
    result[: values.shape[0], : values.shape[1]] = values
    return result


def _shape(tensor):
    """With -1 where it is dynamic."""
    signature = tensor.shapeSignature
    return list(tensor.shape if signature is None else signature)


def _text(name):
    """Of bytes that a corrupt file may have anything in."""
    return (name or b"").decode(errors="replace")


def _check_operators(contents, name):
    for code in contents.operatorCodes:
        found = flatbuffer_utils.get_builtin_code_from_operator_code(code)
        if found == schema.BuiltinOperator.CUSTOM:
            raise ValueError(
                f"{name} needs the operator {_text(code.customCode)}, which "
                "LiteRT does not have: run it with tf_pof's delegate, or "
                "export it anew with --encoding=dense."
            )


def _signatures(contents, name):
    """(signature, tensors of its subgraph) by sequence length, ascending."""
    found = {}
    for signature in contents.signatureDefs or ():
        inputs = {_text(entry.name): entry for entry in signature.inputs}
        if not _INPUTS <= inputs.keys():
            continue
        tensors = contents.subgraphs[signature.subgraphIndex].tensors
        shape = _shape(tensors[inputs["token_ids"].tensorIndex])
        if len(shape) == 2 and shape[1] > 0:
            found[int(shape[1])] = signature, tensors
    if not found:
        raise ValueError(
            f"{name} is not a model of bin/export_tflite: it has no signature "
            "with the inputs token_ids and padding_mask of a fixed length."
        )
    return dict(sorted(found.items()))
