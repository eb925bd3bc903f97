"""The preparation end to end: content, determinism, restarts, errors."""

import collections
import filecmp
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import pytest
import tensorflow as tf

from tf_pof.data import documents
from tf_pof.data import pipeline
from tf_pof.data import records
from tf_pof.data import sample
from tf_pof.data import stages
from tf_pof.data import work
from tf_pof.data.examples import PairOptions
from tf_pof.data.tokenizer import WordPiece
from tf_pof.data.tokenizer_settings import TokenizerSettings


def _assert_same_folders(left, right):
    names = sorted(os.listdir(left))
    assert names == sorted(os.listdir(right)) and len(names) > 4
    match, mismatch, errors = filecmp.cmpfiles(left, right, names, False)
    assert (mismatch, errors) == ([], [])


def _examples(folder, split):
    for name, _, _ in records.read_meta(folder).shards(split):
        path = os.path.join(folder, name)
        for record in tf.data.TFRecordDataset(path, "GZIP").as_numpy_iterator():
            feature = tf.train.Example.FromString(record).features.feature
            yield (
                list(feature["token_ids"].int64_list.value),
                feature["segment_b_start"].int64_list.value[0],
                feature["next_sentence_label"].int64_list.value[0],
            )


def _document_strings(text_file):
    """Each document's token ids as a string to look segments up in."""
    tokenizer = WordPiece(sample.vocab_path())
    with open(text_file, encoding="utf-8") as file:
        texts = re.split(r"\n\n+", file.read())
    rows = tokenizer.tokenize_strings(texts).to_list()
    return [" " + " ".join(map(str, row)) + " " for row in rows]


def _find(segment, strings):
    needle = " " + " ".join(map(str, segment)) + " "
    return {i for i, string in enumerate(strings) if needle in string}


def test_the_vocabularys_settings_are_used_and_told(
    prepare, text_file, tmp_path
):
    folder = pathlib.Path(__file__).parent / "hf5" / "accents"
    output = tmp_path / "data"
    vocab = str(folder / "tokenizer.json")
    meta = prepare(text_file, output, vocab_file=vocab)
    assert meta.tokenizer_settings == TokenizerSettings(True, False)
    assert records.verify(str(output)) == meta
    # vocab.txt has the tokens of tokenizer.json.
    tokenizer = WordPiece(vocab)
    written = WordPiece(str(output / "vocab.txt"))
    assert written.vocabulary == tokenizer.vocabulary
    assert meta.vocab_size == len(tokenizer.vocabulary)


def test_segments_labels_and_splits_are_true_to_the_text(folder, text_file):
    strings = _document_strings(text_file)
    owners = {}
    labels = collections.Counter()
    for split in records.SPLITS:
        owners[split] = set()
        for ids, b_start, label in _examples(folder, split):
            assert len(ids) <= 64
            assert [ids[0], ids[b_start - 1], ids[-1]] == [101, 102, 102]
            a, b = ids[1 : b_start - 1], ids[b_start:-1]
            a_in, b_in = _find(a, strings), _find(b, strings)
            assert a_in and b_in
            if label == 0:
                assert a_in & b_in
            else:
                assert len(a_in) > 1 or a_in != b_in
            if len(a_in) == 1 and len(a) > 12:
                owners[split] |= a_in
            # Random segments do not leak from one split into the other.
            if len(b_in) == 1 and len(b) > 12:
                owners[split] |= b_in
            labels[split, label] += 1
    assert not owners["train"] & owners["validation"]
    assert len(owners["train"] | owners["validation"]) == len(strings)
    for split in records.SPLITS:
        total = labels[split, 0] + labels[split, 1]
        assert 0.4 < labels[split, 1] / total < 0.7


def test_all_text_is_used(folder, text_file):
    """A and B segments cover the documents but for trimmed tokens."""
    meta = records.read_meta(folder)
    tokens = sum(s.count(" ") - 1 for s in _document_strings(text_file))
    assert meta.statistics["tokens"] == tokens
    used = sum(
        len(ids) - 3
        for split in records.SPLITS
        for ids, _, _ in _examples(folder, split)
    )
    assert used > tokens


def test_examples_are_shuffled_over_all_shards(folder, text_file):
    strings = _document_strings(text_file)
    for name, count, _ in records.read_meta(folder).shards("train"):
        assert count > 100
        path = os.path.join(folder, name)
        owners = []
        for record in tf.data.TFRecordDataset(path, "GZIP").as_numpy_iterator():
            feature = tf.train.Example.FromString(record).features.feature
            ids = list(feature["token_ids"].int64_list.value)
            start = feature["segment_b_start"].int64_list.value[0]
            owners.append(min(_find(ids[1 : start - 1], strings)))
        assert len(set(owners)) > 25
        same = sum(a == b for a, b in zip(owners, owners[1:]))
        assert same < 0.2 * len(owners)


def test_the_result_depends_on_seed_and_arguments_only(
    folder, text_file, tmp_path, prepare
):
    prepare(text_file, tmp_path / "again")
    _assert_same_folders(folder, tmp_path / "again")
    prepare(text_file, tmp_path / "other", seed=1)
    one = sorted(_examples(folder, "train"))
    assert one != sorted(_examples(str(tmp_path / "other"), "train"))


def test_two_workers_make_the_same_bytes_as_one(
    folder, text_file, tmp_path, prepare
):
    prepare(text_file, tmp_path / "two", num_workers=2)
    _assert_same_folders(folder, tmp_path / "two")


def test_runs_on_a_runner_named_by_beam_args(
    folder, text_file, tmp_path, prepare
):
    runner = "apache_beam.runners.direct.direct_runner.BundleBasedDirectRunner"
    prepare(text_file, tmp_path / "b", beam_args=[f"--runner={runner}"])
    _assert_same_folders(folder, tmp_path / "b")


def test_a_restart_goes_on_and_leaves_nothing_else(
    folder, text_file, tmp_path, prepare, monkeypatch
):
    output = tmp_path / "set"
    made = []
    original = stages.records.write_shard

    def full_disk(path, *arguments):
        made.append(path)
        if len(made) == 2:
            raise OSError(28, "No space left on device")
        original(path, *arguments)

    monkeypatch.setattr(stages.records, "write_shard", full_disk)
    with pytest.raises(OSError, match="No space left on device"):
        prepare(text_file, output)
    assert not output.exists()
    assert (tmp_path / "set.partial").exists()
    monkeypatch.undo()
    # What stage 1 has finished is not done again.
    monkeypatch.setattr(work, "write_part", _no_space)
    prepare(text_file, output)
    _assert_same_folders(folder, output)
    assert os.listdir(tmp_path) == ["set"]


def _no_space(*_):
    raise OSError(28, "No space left on device")


def test_what_another_preparation_left_is_not_used(
    folder, text_file, tmp_path, prepare, monkeypatch
):
    with monkeypatch.context() as patch:
        patch.setattr(work, "write_part", _no_space)
        with pytest.raises(OSError, match="No space"):
            prepare(text_file, tmp_path / "set", seed=7)
    prepare(text_file, tmp_path / "set")
    _assert_same_folders(folder, tmp_path / "set")


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_killed_at_any_moment_it_leaves_no_half_data_set(
    tmp_path, text_file, workers
):
    big = tmp_path / "big.txt"
    with open(text_file, encoding="utf-8") as file:
        text = file.read()
    big.write_text("\n\n".join(f"{i} {text}" for i in range(60)), "utf-8")
    command = [
        sys.executable, "-m", "tf_pof.cli.prepare_data", f"--input={big}",
        f"--num_workers={workers}",
    ]  # fmt: skip
    whole = tmp_path / "whole"
    subprocess.run([*command, f"--output={whole}"], check=True)
    output = tmp_path / "killed"
    for delay in (0, 0.7, 1.5):
        process = subprocess.Popen([*command, f"--output={output}"])
        while not (tmp_path / "killed.partial").exists():
            if process.poll() is not None:
                break
            time.sleep(0.05)
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not output.exists() or records.verify(str(output), deep=True)
        if output.exists():
            break
    if not output.exists():
        subprocess.run([*command, f"--output={output}"], check=True)
    _assert_same_folders(whole, output)
    assert not (tmp_path / "killed.partial").exists()


def _fails(tmp_path, prepare, text, message, **arguments):
    path = tmp_path / "in.txt"
    path.write_bytes(text)
    with pytest.raises(ValueError, match=message) as error:
        prepare(str(path), tmp_path / "out", **arguments)
    assert "\n" not in str(error.value)
    assert sorted(os.listdir(tmp_path)) == ["in.txt"]


def test_bad_input_is_one_sentence_and_leaves_nothing(tmp_path, prepare):
    _fails(tmp_path, prepare, b"fine\n\n\xff\xfe", "not UTF-8 at byte 6")
    _fails(tmp_path, prepare, b" \n\n \n", "holds no text")
    _fails(tmp_path, prepare, b"One. Document. Only.", "too few documents")


@pytest.mark.slow
def test_bad_input_of_a_worker_process_is_one_sentence(tmp_path, prepare):
    _fails(
        tmp_path, prepare, b"fine\n\n\xff\xfe", "in.txt is not UTF-8 at byte 6",
        num_workers=2,
    )  # fmt: skip


def test_a_single_document_is_enough_without_random_segments(
    tmp_path, prepare
):
    path = tmp_path / "in.txt"
    path.write_text("A sentence of some words. " * 50)
    meta = prepare(
        str(path), tmp_path / "out", options=PairOptions(64, 0.1, 1.0),
        num_shards=1,
    )  # fmt: skip
    assert meta.num_train + meta.num_validation > 3
    assert meta.statistics["random_next"] == 0


def _sentences(count, words=12):
    """Sentences of so many words, each with words of its own."""
    return " ".join(
        "A" + " ".join(f"w{i}x{j}" for j in range(words)) + "."
        for i in range(count)
    )


@pytest.mark.parametrize(
    "text",
    [
        _sentences(300),  # one document
        "\n\n".join([_sentences(150), "B" + _sentences(150)]),
        "\n\n".join([_sentences(400), "Few words.", "Or even less of them."]),
        "\n\n".join(f"Number {i} says {_sentences(1)}" for i in range(12)),
        "word and word " * 2000,  # no end of a sentence
    ],
)
def test_few_or_long_documents_give_both_splits_and_both_labels(
    tmp_path, prepare, text
):
    path = tmp_path / "in.txt"
    path.write_text(text)
    output = str(tmp_path / "out")
    # .2 of the documents or tokens.
    meta = prepare(str(path), output, num_shards=2, seed=1)
    records.verify(output, deep=True)
    assert meta.num_train > 3 and meta.num_validation > 0
    tokens = {
        split: sum(len(ids) for ids, _, _ in _examples(output, split))
        for split in records.SPLITS
    }
    share = tokens["validation"] / sum(tokens.values())
    assert 0.05 < share < 0.45
    assert {label for _, _, label in _examples(output, "train")} == {0, 1}


def test_a_split_chosen_anew_does_not_depend_on_pieces_or_restarts(
    tmp_path, prepare, monkeypatch
):
    path = tmp_path / "in.txt"
    path.write_text(_sentences(100))
    whole, again = tmp_path / "whole", tmp_path / "again"
    arguments = {"num_shards": 2, "piece_bytes": 1000}
    meta = prepare(str(path), whole, **arguments)
    assert meta.statistics["cut_documents"] == 1
    with monkeypatch.context() as patch:
        patch.setattr(stages.records, "write_shard", _no_space)
        with pytest.raises(OSError, match="No space"):
            prepare(str(path), again, **arguments)
    assert any("-again" in name for name in os.listdir(f"{again}.partial"))
    prepare(str(path), again, **arguments)
    _assert_same_folders(whole, again)
    prepare(str(path), again, num_workers=2, overwrite=True, **arguments)
    _assert_same_folders(whole, again)


def test_refuses_to_replace_unless_told(tmp_path, prepare, text_file):
    output = tmp_path / "out"
    prepare(text_file, output)
    with pytest.raises(ValueError, match="exists: add --overwrite"):
        prepare(text_file, output)
    meta = prepare(text_file, output, overwrite=True, seed=3)
    assert records.read_meta(str(output)) == meta and meta.seed == 3
    assert os.listdir(tmp_path) == ["out"]


def test_never_deletes_a_folder_that_is_no_data_set(
    tmp_path, prepare, text_file
):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ValueError, match="does not delete"):
        prepare(text_file, tmp_path, overwrite=True)
    assert os.listdir(tmp_path) == ["thesis.tex"]
    with pytest.raises(ValueError, match="is no folder"):
        prepare(text_file, tmp_path / "thesis.tex", overwrite=True)


@pytest.mark.parametrize("fraction", [-0.1, 1.0])
def test_refuses_a_validation_fraction_out_of_range(
    tmp_path, text_file, fraction
):
    with pytest.raises(ValueError, match="validation fraction"):
        pipeline.prepare(
            documents.plan_files([text_file]), str(tmp_path / "o"),
            sample.vocab_path(), validation_fraction=fraction,
        )  # fmt: skip


def test_reports_progress_of_both_stages(tmp_path, text_file, prepare):
    seen = []
    prepare(text_file, tmp_path / "o", progress=lambda *a: seen.append(a))
    final = {stage: (done, total) for stage, done, total in seen}
    size = os.path.getsize(text_file)
    assert final == {"Reading text": (size, size), "Writing shards": (4, 4)}


def test_blocks_join_a_small_rest(monkeypatch):
    monkeypatch.setattr(stages, "BLOCK_CHARACTERS", 10)

    def sizes(*texts):
        return [len(block) for block in stages._blocks(texts)]

    assert sizes(*["aaaaa"] * 6) == [2, 2, 2]
    assert sizes(*["aaaaa"] * 7) == [2, 2, 3]
    assert sizes(*["aaaaa"] * 4, "aaa", "a") == [2, 4]
    assert sizes(*["aaaaa"] * 4, "aaa", "aa") == [2, 2, 2]
    assert sizes("a", "a", "a") == [3]
    assert sizes() == []
