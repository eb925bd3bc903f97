"""What is not ours is kept, whatever happens; what is ours is whole."""

import functools
import os
import pathlib

import pytest
import tensorflow as tf

from tf_pof import files
from tf_pof.data import folders
from tf_pof.data import pipeline
from tf_pof.data import records
from tf_pof.data import stages
from tf_pof.data import storage
from tf_pof.data import work


class Killed(BaseException):
    """Stands for a SIGKILL: nothing handles it."""


@pytest.fixture
def short_text(text_file, tmp_path):
    """Some 4 KB of text, in a folder of its own."""
    text = pathlib.Path(text_file).read_text("utf-8")[:4000]
    (tmp_path / "in").mkdir()
    path = tmp_path / "in" / "text.txt"
    path.write_text(text, "utf-8")
    return str(path)


@pytest.fixture
def place(tmp_path):
    (tmp_path / "place").mkdir()
    return tmp_path / "place"


def _contents(folder):
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in pathlib.Path(folder).rglob("*")
        if path.is_file() and "tfrecord" not in path.name
        and path.name not in ("meta.json", "vocab.txt")
    }  # fmt: skip


def _interrupted(prepare, *arguments, **more):
    """Leaves a work folder in which stage 1 is finished."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stages.records, "write_shard", _no_space)
        with pytest.raises(OSError, match="No space"):
            prepare(*arguments, **more)


def _no_space(*_):
    raise OSError(28, "No space left on device")


def test_folders_of_others_beside_the_output_are_kept(
    place, prepare, short_text
):
    for name in "set.partial", "set.partial.1", "set.old":
        (place / name).mkdir()
        (place / name / "mine.txt").write_text(name)
    before = _contents(place)
    _interrupted(prepare, short_text, place / "set")
    assert (place / "set.partial.2" / "fingerprint.json").exists()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(work, "write_part", _no_space)
        # What stage 1 has finished is found there, too.
        prepare(short_text, place / "set")
    prepare(short_text, place / "set", seed=3, overwrite=True)
    assert _contents(place) == before
    assert sorted(os.listdir(place)) == [
        "set", "set.old", "set.partial", "set.partial.1"
    ]  # fmt: skip


def test_files_of_others_in_a_work_folder_are_kept(place, prepare, short_text):
    _interrupted(prepare, short_text, place / "set", seed=5)
    mine = {"notes.txt": "a", "result/readme.md": "b", "piece-1.json": "c"}
    for name, text in mine.items():
        (place / "set.partial" / name).write_text(text)
    (place / "set.partial" / "part-000000-000099").mkdir()
    prepare(short_text, place / "set")
    assert _contents(place / "set.partial") == {
        "notes.txt": "a", "result/readme.md": "b", "piece-1.json": "c"
    }  # fmt: skip
    assert (place / "set.partial" / "part-000000-000099").is_dir()
    records.verify(str(place / "set"), deep=True)


def test_a_link_in_place_of_the_work_folder_is_not_followed(
    place, prepare, short_text, tmp_path
):
    (tmp_path / "theirs").mkdir()
    mark = tmp_path / "theirs" / "fingerprint.json"
    mark.write_text('{"sha256": "%s"}' % ("0" * 64))
    (tmp_path / "theirs" / "error.json").write_text("mine")
    (place / "set.partial").symlink_to(tmp_path / "theirs")
    prepare(short_text, place / "set")
    assert sorted(os.listdir(tmp_path / "theirs")) == [
        "error.json", "fingerprint.json"
    ]  # fmt: skip


def test_overwriting_keeps_what_others_have_put_there(
    place, prepare, short_text
):
    prepare(short_text, place / "set", num_shards=4)
    (place / "set" / "notes.txt").write_text("mine")
    (place / "set" / "sub").mkdir()
    (place / "set" / "sub" / "more.txt").write_text("mine too")
    stray = place / "set" / "train-00000-of-00009.tfrecord.gz"
    stray.write_text("not of this data set")
    prepare(short_text, place / "set", num_shards=1, overwrite=True)
    assert _contents(place / "set") == {
        "notes.txt": "mine", "sub/more.txt": "mine too"
    }  # fmt: skip
    assert stray.read_text() == "not of this data set"
    meta = records.verify(str(place / "set"), deep=True)
    assert meta.train_shards == ["train-00000-of-00001.tfrecord.gz"]
    assert len(os.listdir(place / "set")) == 7
    assert os.listdir(place) == ["set"]


def _kill_at(patch, number):
    """Kills at operation `number` on files; returns how many there were."""
    done = []

    def counted(function):
        def call(*arguments, **more):
            if len(done) == number:
                raise Killed
            done.append(function)
            return function(*arguments, **more)

        return call

    patch.setattr(folders.os, "rename", counted(os.rename))
    patch.setattr(folders.os, "rmdir", counted(os.rmdir))
    patch.setattr(tf.io.gfile, "remove", counted(tf.io.gfile.remove))
    patch.setattr(tf.io.gfile, "rename", counted(tf.io.gfile.rename))
    return done


@pytest.mark.parametrize("remote", [False, True])
def test_killed_while_files_are_renamed_nothing_is_lost(
    place, prepare, short_text, remote, monkeypatch
):
    """At every rename and removal of replacing a data set by another."""
    monkeypatch.setattr(
        pipeline, "WordPiece", functools.cache(pipeline.WordPiece)
    )
    output = f"ram://killed/{place.parent.name}" if remote else str(place / "s")
    prepare(short_text, output, num_shards=2)
    notes = os.path.join(output, "notes.txt")
    with tf.io.gfile.GFile(notes, "w") as file:
        file.write("mine")
    shards, number = 2, 0
    while True:
        shards = 3 - shards
        with pytest.MonkeyPatch.context() as patch:
            done = _kill_at(patch, number)
            try:
                prepare(
                    short_text, output, num_shards=shards, overwrite=True
                )
                break
            except Killed:
                number += 1
        if not remote:
            # The older one comes back to whoever comes next, or the new one
            # has taken its place.
            folders.settle(output)
            assert len(records.verify(output, deep=True).train_shards) < 3
        meta = prepare(
            short_text, output, num_shards=shards, overwrite=True
        )
        assert records.verify(output, deep=True) == meta
        assert len(meta.train_shards) == shards
        assert storage.read_bytes(notes) == b"mine"
        names = {name.rstrip("/") for name in tf.io.gfile.listdir(output)}
        # "ram://" lists by the beginning of names.
        assert names - {".partial"} == {
            "notes.txt", "vocab.txt", "meta.json",
            *meta.train_shards, *meta.validation_shards,
        }  # fmt: skip
        assert not tf.io.gfile.exists(output + ".partial")
    assert number == len(done) > 8


def test_a_remote_output_is_made_and_replaced(prepare, short_text, tmp_path):
    output = f"ram://made/{tmp_path.name}/"
    meta = prepare(short_text, output)
    with pytest.raises(ValueError, match="exists: add --overwrite"):
        prepare(short_text, output)
    assert records.verify(output.rstrip("/"), deep=True) == meta
    again = prepare(short_text, output, overwrite=True, seed=1)
    assert records.read_meta(output.rstrip("/")) == again != meta


@pytest.mark.parametrize(
    "name, contents",
    [
        ("piece-000000.json", None),
        ("piece-000000.json", b"[]"),
        ("piece-000000.json", b"\x00\xff"),
        ("piece-000000.json", b'{"number": -1, "parts": 5}'),
        ("part-000000-000000", None),
        ("part-000000-000000", b"half"),
        ("error.json", b"{"),
    ],
)
def test_what_is_damaged_in_a_work_folder_is_made_again(
    place, prepare, short_text, name, contents
):
    _interrupted(prepare, short_text, place / "set", num_shards=1)
    path = place / "set.partial" / name
    if contents is None:
        path.unlink()
    else:
        path.write_bytes(contents)
    meta = prepare(short_text, place / "set", num_shards=1)
    assert records.verify(str(place / "set"), deep=True) == meta
    assert os.listdir(place) == ["set"]


@pytest.mark.parametrize("contents", [b"", b"{", b"[1]", b'{"sha256": 5}'])
def test_a_folder_with_a_damaged_mark_is_anothers(
    place, prepare, short_text, contents
):
    _interrupted(prepare, short_text, place / "set")
    (place / "set.partial" / "fingerprint.json").write_bytes(contents)
    before = sorted(os.listdir(place / "set.partial"))
    prepare(short_text, place / "set")
    assert sorted(os.listdir(place / "set.partial")) == before


def test_a_part_of_the_right_size_and_wrong_bytes_is_one_sentence(
    place, prepare, short_text
):
    _interrupted(prepare, short_text, place / "set", num_shards=1)
    for name in os.listdir(place / "set.partial"):
        path = place / "set.partial" / name
        if name.startswith(("part-", "again-")):
            path.write_bytes(b"\x93NUMPY" + b"x" * (path.stat().st_size - 6))
    with pytest.raises(OSError, match="is damaged: remove the folder"):
        prepare(short_text, place / "set", num_shards=1)


def test_one_output_has_one_writer(place, prepare, short_text):
    with files.only_writer(str(place / "set")):
        with pytest.raises(OSError, match=r"Another process \(pid .* since"):
            prepare(short_text, place / "set")
    prepare(short_text, place / "set")
    assert os.listdir(place) == ["set"]


@pytest.mark.parametrize("change", ["touch", "size"])
def test_an_input_that_changed_since_a_kill_is_read_again(
    place, prepare, short_text, change
):
    _interrupted(prepare, short_text, place / "set")
    status = os.stat(short_text)
    if change == "size":
        with open(short_text, "a", encoding="utf-8") as file:
            file.write(" Some more of it.")
        os.utime(short_text, ns=(status.st_atime_ns, status.st_mtime_ns))
    else:
        os.utime(short_text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(work, "write_part", _no_space)
        with pytest.raises(OSError, match="No space"):
            prepare(short_text, place / "set")


def test_an_input_that_changes_while_it_is_read_is_named(
    place, prepare, short_text, monkeypatch
):
    original = stages.records.write_shard

    def append(*arguments):
        with open(short_text, "a", encoding="utf-8") as file:
            file.write("More.")
        original(*arguments)

    monkeypatch.setattr(stages.records, "write_shard", append)
    with pytest.raises(ValueError, match="text.txt changed while it was read"):
        prepare(short_text, place / "set")
    assert os.listdir(place) == []


@pytest.mark.parametrize("name", ["o[1]", "a *", "ü ?"])
def test_any_name_of_an_output_will_do(place, prepare, short_text, name):
    prepare(short_text, place / name)
    prepare(short_text, place / name, seed=1, overwrite=True)
    records.verify(str(place / name), deep=True)
    assert os.listdir(place) == [name]


@pytest.mark.parametrize("output", ["", " ", "/", "/proc"])
def test_outputs_where_nothing_can_be_made_are_named(
    prepare, short_text, output
):
    with pytest.raises((ValueError, OSError), match="(The o|O)utput"):
        prepare(short_text, output)


def test_seeds_and_shards_out_of_range_are_refused(place, prepare, short_text):
    for arguments, message in (
        ({"seed": -1}, "at least 0 and below 2"),
        ({"seed": 2**63}, "at least 0 and below 2"),
        ({"num_shards": 0}, "choose from 1 to 4"),
        ({"num_shards": 100_000}, "choose from 1 to 4, one for each KB"),
    ):
        with pytest.raises(ValueError, match=message):
            prepare(short_text, place / "set", **arguments)
    assert os.listdir(place) == []


def test_no_more_workers_than_pieces():
    pieces = pipeline.documents.plan_files([__file__])
    assert pipeline._num_workers(40, pieces) == len(pieces) == 1
