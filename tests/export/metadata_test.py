"""Metadata is read here as TFLite's tools do: by vtables, and by zipfile."""

import io
import json
import zipfile

from flatbuffers import encode, number_types, packer, table
import pytest

from tests.export import converted
from tests.tasks import tiny
from tf_pof.data.tokenizer_settings import TokenizerSettings
from tf_pof.export import archive, flatbuffer, metadata


class Reader:
    """A table of a flatbuffer; fields by their ids in metadata_schema.fbs."""

    def __init__(self, data, position):
        self._table = table.Table(data, position)

    def _at(self, field):
        offset = self._table.Offset(4 + 2 * field)
        return offset and offset + self._table.Pos

    def string(self, field):
        place = self._at(field)
        return self._table.String(place).decode() if place else None

    def byte(self, field):
        flags = number_types.Int8Flags
        return self._table.GetSlot(4 + 2 * field, 0, flags)

    def table(self, field):
        return Reader(
            self._table.Bytes, self._table.Indirect(self._at(field))
        )

    def tables(self, field):
        offset = self._table.Offset(4 + 2 * field)
        if not offset:
            return []
        start = self._table.Vector(offset)
        return [
            Reader(self._table.Bytes, self._table.Indirect(start + 4 * i))
            for i in range(self._table.VectorLen(offset))
        ]


def read(contents):
    """(model's table, model) of a .tflite."""
    model = flatbuffer.read(contents)
    (entry,) = [x for x in model.metadata if x.name == b"TFLITE_METADATA"]
    data = bytearray(model.buffers[entry.buffer].data)
    assert data[4:8] == b"M001"
    position = encode.Get(packer.uoffset, data, 0)
    return Reader(data, position), model


ABOUT = metadata.About("Reviews", "Us", "Apache-2.0")
PROVENANCE = {
    "sparsity": 0.9,
    "tensors": {"layer_0_query/kernel": {}},
    "provenance": {"teacher": "/home/me/runs/teacher"},
    "quantization": {
        "task": {"name": "sst2", "raw_dir": "/data/glue", "sequence_length": 12}
    },
}


@pytest.fixture(scope="module")
def described(tmp_path_factory):
    """A file with all there is."""
    made = converted.make("classifier")
    vocab = tiny.write_vocabulary(tmp_path_factory.mktemp("v") / "words")
    details = metadata.details(
        made.model, (8, 12), 0, "dense", PROVENANCE
    )
    details["labels"] = ["no", "maybe", "yes"]
    return metadata.add(made.contents, ABOUT, details, vocab), details, vocab


def test_the_table_says_what_the_model_is(described):
    root, model = read(described[0])
    assert root.string(0) == "Reviews"
    assert root.string(4) == "Us"
    assert root.string(5) == "Apache-2.0"
    # BertTokenizerOptions came with 1.1.0.
    assert root.string(7) == "1.1.0"
    told = root.string(1)
    for words in ("BERT of 2 layers", "8, 12 tokens", "90.0%", "on sst2"):
        assert words in told
    names = [(f.string(0), f.byte(2)) for f in root.tables(6)]
    # DESCRIPTIONS and VOCABULARY.
    assert names == [("tf_pof.json", 1), ("vocab.txt", 5)]


def test_tensors_are_in_the_order_of_the_subgraphs(described):
    root, model = read(described[0])
    names = {
        "token_ids": "ids",
        "padding_mask": "mask",
        "segment_ids": "segment_ids",
    }
    assert len(root.tables(3)) == len(model.subgraphs) == 2
    for told, subgraph in zip(root.tables(3), model.subgraphs):
        assert [t.string(0) for t in told.tables(2)] == [
            names[subgraph.tensors[i].name.decode()] for i in subgraph.inputs
        ]
        (output,) = told.tables(3)
        assert output.string(0) == "probability"
        # TENSOR_AXIS_LABELS.
        (labels,) = output.tables(6)
        assert (labels.string(0), labels.byte(2)) == ("labels.txt", 2)
        (unit,) = told.tables(5)
        # BertTokenizerOptions is the union's fourth.
        assert unit.byte(0) == 4
        (vocabulary,) = unit.table(1).tables(0)
        assert (vocabulary.string(0), vocabulary.byte(2)) == ("vocab.txt", 5)
        assert "lower-cased" in vocabulary.string(1)
        for tensor in told.tables(2):
            # FeatureProperties is the union's first.
            assert tensor.table(3).byte(0) == 1


def test_files_are_in_the_archive_uncompressed(described):
    contents, details, vocab = described
    with zipfile.ZipFile(io.BytesIO(contents)) as opened:
        assert opened.testzip() is None
        for entry in opened.infolist():
            # The Task Library maps them.
            assert entry.compress_type == zipfile.ZIP_STORED
        with open(vocab, "rb") as file:
            assert opened.read("vocab.txt") == file.read()
        assert opened.read("labels.txt") == b"no\nmaybe\nyes\n"
        told = json.loads(opened.read("tf_pof.json"))
    assert told.pop("crc32")
    assert told == json.loads(json.dumps(details))
    assert told["task"] == {"name": "sst2", "sequence_length": 12}
    assert told["config"]["num_layers"] == 2
    assert (told["lowercase"], told["max_sequence_length"]) == (True, 12)
    # What was where on the author's machine is nobody's business.
    assert "/home" not in json.dumps(told) and "/data" not in json.dumps(told)
    assert told["provenance"]["provenance"] == {"teacher": "teacher"}
    assert archive.read_details(contents)["labels"] == ["no", "maybe", "yes"]


def test_the_tokenizer_is_described():
    model = converted.make("classifier").model
    told = {"lowercase": True, "strip_accents": True}
    assert told.items() <= metadata.details(model, [12]).items()
    settings = TokenizerSettings(False, True, False)
    before, model.tokenizer_settings = model.tokenizer_settings, settings
    try:
        found = metadata.details(model, [12])
    finally:
        model.tokenizer_settings = before
    assert settings.to_dict().items() <= found.items()


def test_adding_again_replaces(described):
    contents, details, vocab = described
    assert metadata.add(contents, ABOUT, details, vocab) == contents
    bare = metadata.add(contents, ABOUT, {**details, "labels": None})
    assert set(archive.read(bare)) == {"tf_pof.json"}
    root, _ = read(bare)
    assert root.string(7) == "1.0.0"
    assert not root.tables(3)[0].tables(5)


def test_files_without_metadata_have_none():
    contents = converted.make("distilbert").contents
    assert archive.read(contents) == {}
    assert archive.read_details(contents) is None


def test_json_of_others_is_refused(described):
    contents = converted.make("distilbert").contents
    target = io.BytesIO(contents)
    target.seek(len(contents))
    with zipfile.ZipFile(target, "a") as opened:
        opened.writestr("tf_pof.json", "[1")
    with pytest.raises(ValueError, match="corrupt: its tf_pof.json"):
        archive.read_details(target.getvalue())
