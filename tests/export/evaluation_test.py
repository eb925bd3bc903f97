"""A .tflite is scored as a model folder is, out of what it says of itself."""

import io
import pathlib

import numpy as np
import pytest
import rich.console

from tests.export import exported, lite_files
from tests.tasks import tiny
from tf_pof.data.tokenizer import WordPiece
from tf_pof.data.tokenizer_settings import TokenizerSettings
from tf_pof.export import archive, encodings, evaluation, metadata


@pytest.fixture(scope="module")
def sst2():
    return exported.sst2()


@pytest.fixture
def write(sst2, tmp_path):
    """Writes the file of SST-2 with other details or vocabulary."""

    def write(vocab=sst2.vocab, **changes):
        described = metadata.details(sst2.model, [exported.LENGTH]) | changes
        path = tmp_path / "model.tflite"
        path.write_bytes(
            metadata.add(sst2.contents, metadata.About(), described, vocab)
        )
        return str(path)

    return write


def run(path, options, **changes):
    """Metrics, and what was printed."""
    console = rich.console.Console(file=io.StringIO(), width=200)
    metrics = evaluation.run(str(path), options, console, **changes)
    return metrics, console.file.getvalue()


def expected_classes(sst2, split="dev"):
    """By LiteRT alone, of the task's own file: (classes, labels)."""
    path = pathlib.Path(sst2.options["raw_dir"], "SST-2", f"{split}.tsv")
    rows = [line.split("\t") for line in path.read_text().splitlines()[1:]]
    texts = [row[0] if split == "dev" else row[1] for row in rows]
    inputs = WordPiece(sst2.vocab).encode(texts, exported.LENGTH)
    classes = exported.logits(sst2.contents, inputs).argmax(1)
    return classes, np.array([int(row[-1]) for row in rows if split == "dev"])


def test_metrics_are_of_what_the_file_computes(sst2, write):
    classes, labels = expected_classes(sst2)
    metrics, printed = run(write(), sst2.options)
    accuracy = np.mean(classes == labels)
    assert metrics == {"validation": {"accuracy": pytest.approx(accuracy)}}
    assert f"{accuracy:.4f}" in printed


def test_predictions_are_written_in_the_official_format(sst2, write, tmp_path):
    classes, _ = expected_classes(sst2, "test")
    run(write(), sst2.options, splits=["test"], output=str(tmp_path / "out"))
    lines = (tmp_path / "out" / "SST-2.tsv").read_text().splitlines()
    assert lines[1:] == [f"{i}\t{c}" for i, c in enumerate(classes)]


def test_classes_are_matched_by_the_names_in_the_file(sst2, write):
    classes, labels = expected_classes(sst2)
    metrics, _ = run(write(labels=["positive", "negative"]), sst2.options)
    accuracy = np.mean(1 - classes == labels)
    assert metrics["validation"]["accuracy"] == pytest.approx(accuracy)


def test_a_vocabulary_may_be_given(sst2, write):
    path = write(vocab=None)
    with pytest.raises(ValueError, match="has no vocab.txt: name .*--vocab"):
        run(path, sst2.options)
    metrics, _ = run(path, sst2.options, vocab=sst2.vocab)
    assert metrics == run(write(), sst2.options)[0]


@pytest.mark.parametrize(
    "told, expected",
    [
        ({"lowercase": False}, TokenizerSettings(False, False, True)),
        # The file of an older version.
        (
            {"lowercase": False, "strip_accents": None},
            TokenizerSettings(False, False, True),
        ),
        (
            {"strip_accents": False, "tokenize_chinese_chars": False},
            TokenizerSettings(True, False, False),
        ),
    ],
)
def test_tokenizer_is_as_the_file_says(sst2, tmp_path, write, told, expected):
    told = {"strip_accents": told.get("lowercase", True)} | told
    file = evaluation.ScoredFile(write(**told), tmp_path)
    assert file.tokenizer_settings == expected


def test_a_wrong_setting_of_the_tokenizer_is_named(sst2, tmp_path, write):
    with pytest.raises(ValueError, match="wrong 'strip_accents'"):
        evaluation.ScoredFile(write(strip_accents="no"), tmp_path)


def _truncated(contents):
    return contents[: len(contents) // 2]


def _flipped(contents):
    changed = bytearray(contents)
    changed[len(changed) // 3] ^= 8
    return bytes(changed)


@pytest.mark.parametrize(
    "change, what",
    [
        (lambda contents: b"not a model", "no .tflite file"),
        (lambda contents: b"", "no .tflite file"),
        (_truncated, "corrupt|cannot be loaded|no tf_pof.json"),
        (_flipped, "corrupt, or was changed"),
        (
            lambda contents: lite_files.make([np.ones((4, 8), np.int8)]),
            "is not a model of bin/export_tflite",
        ),
    ],
)
def test_other_files_are_told(sst2, tmp_path, change, what):
    path = tmp_path / "model.tflite"
    path.write_bytes(change(sst2.contents))
    with pytest.raises(ValueError, match=what) as error:
        run(path, sst2.options)
    assert "model.tflite" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_without_details_is_told(sst2, tmp_path):
    path = tmp_path / "model.tflite"
    path.write_bytes(sst2.contents[: archive.size_of_model(sst2.contents)])
    with pytest.raises(ValueError, match="no tf_pof.json, .*bin/export_tflite"):
        run(path, sst2.options)


def test_an_encoding_that_litert_cannot_read_is_told(sst2, tmp_path):
    bare = sst2.contents[: archive.size_of_model(sst2.contents)]
    path = tmp_path / "model.tflite"
    path.write_bytes(
        metadata.add(
            encodings.apply("packed", bare),
            metadata.About(),
            metadata.details(sst2.model, [exported.LENGTH], encoding="packed"),
        )
    )
    with pytest.raises(ValueError, match="model.tflite needs the operator"):
        run(path, sst2.options)


def test_a_missing_file_is_told(sst2, tmp_path):
    with pytest.raises(OSError, match="no file .*bin/export_tflite"):
        run(tmp_path / "none.tflite", sst2.options)


def test_a_model_of_another_task_is_refused(sst2, write, tmp_path):
    squad = tiny.write_squad(tmp_path)
    with pytest.raises(ValueError, match="classifier head of 2 outputs, but s"):
        run(write(), squad)
    with pytest.raises(ValueError, match="has no task head"):
        run(write(head=None), sst2.options)


def test_sequences_longer_than_the_file_are_refused(sst2, write, tmp_path):
    squad = tiny.write_squad(tmp_path) | {"sequence_length": 32}
    path = write(head="span")
    with pytest.raises(ValueError, match="24 positions.*--sequence_length"):
        run(path, squad)


def test_the_command_takes_a_file_and_fails_in_one_sentence(
    sst2, write, tmp_path
):
    good = write()
    bad = tmp_path / "bad.tflite"
    bad.write_bytes(_flipped(pathlib.Path(good).read_bytes()))
    commands = [
        tiny.Command(
            "evaluate",
            [*tiny.flags(sst2.options, model=model), *more],
            tmp_path / f"{i}.log",
        )
        for i, (model, *more) in enumerate(
            [(good,), (bad,), (good, "--precision=float32")]
        )
    ]
    assert [command.wait() for command in commands] == [0, 1, 2]
    assert "accuracy" in commands[0].printed
    for command, what in zip(commands[1:], ("checksum", "--precision")):
        lines = command.printed.strip().splitlines()
        assert len(lines) == 1 and what in lines[0]
