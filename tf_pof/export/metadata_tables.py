"""The flatbuffer tables of TFLite's metadata, schema 1.1.0, for writing.

The packages that ship the schema's own classes pin libraries that clash with
TensorFlow's. Follows tflite-support's metadata_schema.fbs: an attribute's
place in a class is its field's id there, and fields not needed here are left
out by `None`.
"""

import dataclasses
from typing import Any, ClassVar

import flatbuffers

IDENTIFIER = b"M001"
# AssociatedFileType.
DESCRIPTIONS, TENSOR_AXIS_LABELS, VOCABULARY = 1, 2, 5


class Union:
    """A member of a union: two fields, its number there and the table.

    Args:
        number: of the table's type.
        table: of that type.
    """

    def __init__(self, number: int, table: "Table"):
        self.number, self.table = number, table


class Table:
    """A table: its dataclass fields, in the schema's order."""

    # Bytes of those fields that are enums.
    enums: ClassVar[tuple[str, ...]] = ()

    def write(self, builder: flatbuffers.Builder) -> int:
        """Writes what it refers to, then itself; returns its offset."""
        slots = []
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name in self.enums:
                slots.append((value, True))
            elif isinstance(value, Union):
                slots.append((value.number, True))
                slots.append((_offset(builder, value.table), False))
            else:
                slots.append((_offset(builder, value), False))
        builder.StartObject(len(slots))
        for slot, (value, is_enum) in enumerate(slots):
            if is_enum:
                builder.PrependInt8Slot(slot, value, 0)
            else:
                builder.PrependUOffsetTRelativeSlot(slot, value, 0)
        return builder.EndObject()


def _offset(builder: flatbuffers.Builder, value: Any) -> int:
    """Writes a string, a table or a list of tables; 0 for nothing."""
    if not value:
        return 0
    if isinstance(value, str):
        return builder.CreateString(value)
    if isinstance(value, Table):
        return value.write(builder)
    offsets = [_offset(builder, item) for item in value]
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return builder.EndVector()


@dataclasses.dataclass
class AssociatedFile(Table):
    """A file in the archive behind the model."""

    name: str
    description: str
    type: int
    enums = ("type",)


@dataclasses.dataclass
class FeatureProperties(Table):
    """Of a tensor that is neither an image nor a box."""


@dataclasses.dataclass
class Content(Table):
    """What a tensor holds: ids of features or scores."""

    content_properties: Union = dataclasses.field(
        default_factory=lambda: Union(1, FeatureProperties())
    )


@dataclasses.dataclass
class BertTokenizerOptions(Table):
    """WordPiece, as of tf.text.BertTokenizer."""

    vocab_file: list[AssociatedFile]


@dataclasses.dataclass
class ProcessUnit(Table):
    """What is done before or after the model."""

    options: Union


def bert_tokenizer(vocab_file: AssociatedFile) -> ProcessUnit:
    """The unit that makes a BERT's inputs of texts."""
    return ProcessUnit(Union(4, BertTokenizerOptions([vocab_file])))


@dataclasses.dataclass
class TensorMetadata(Table):
    """An input or output."""

    name: str
    description: str
    dimension_names: list[str] | None = None
    content: Content = dataclasses.field(default_factory=Content)
    process_units: None = None
    stats: None = None
    associated_files: list[AssociatedFile] | None = None


@dataclasses.dataclass
class SubGraphMetadata(Table):
    """A subgraph; tensors in its order."""

    name: str
    description: str
    input_tensor_metadata: list[TensorMetadata]
    output_tensor_metadata: list[TensorMetadata]
    associated_files: None = None
    input_process_units: list[ProcessUnit] | None = None


@dataclasses.dataclass
class ModelMetadata(Table):
    """All of it."""

    name: str
    description: str
    version: str
    subgraph_metadata: list[SubGraphMetadata]
    author: str
    license: str
    associated_files: list[AssociatedFile]
    min_parser_version: str

    def to_bytes(self) -> bytes:
        """The flatbuffer."""
        builder = flatbuffers.Builder(1024)
        builder.Finish(self.write(builder), file_identifier=IDENTIFIER)
        return bytes(builder.Output())
