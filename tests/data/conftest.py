"""A small data set, prepared once from the bundled sample."""

import lzma

import pytest

from tf_pof.data import documents
from tf_pof.data import pipeline
from tf_pof.data import sample
from tf_pof.data.examples import PairOptions


@pytest.fixture(scope="session")
def text_file(tmp_path_factory):
    """200 KB of the sample, some 45 documents."""
    with lzma.open(sample.text_paths()[1], "rt", encoding="utf-8") as file:
        text = file.read(200_000)
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text(text.rpartition("\n\n")[0], "utf-8")
    return str(path)


def prepare(text_file, output, piece_bytes=50_000, **arguments):
    arguments.setdefault("num_workers", 1)
    arguments.setdefault("num_shards", 3)
    arguments.setdefault("options", PairOptions(64))
    arguments.setdefault("vocab_file", sample.vocab_path())
    return pipeline.prepare(
        documents.plan_files([text_file], piece_bytes),
        str(output),
        validation_fraction=0.2,
        **arguments,
    )


@pytest.fixture(scope="session", name="prepare")
def prepare_fixture():
    return prepare


@pytest.fixture(scope="session")
def folder(text_file, tmp_path_factory):
    """The data set: read it only."""
    output = tmp_path_factory.mktemp("data") / "set"
    prepare(text_file, output)
    return str(output)


@pytest.fixture(scope="session")
def whole_word_folder(text_file, tmp_path_factory):
    output = tmp_path_factory.mktemp("data") / "whole"
    prepare(text_file, output, whole_word_masking=True)
    return str(output)
