"""What a task's data are known by, so that a run notices other data."""

import hashlib
import os
import pathlib
import shutil

import pytest

from tests.tasks import tiny
from tf_pof.tasks import glue, registry, task as tasks


def _files(options):
    root = options.get("raw_dir") or os.path.dirname(options["train_file"])
    paths = sorted(p for p in pathlib.Path(root).rglob("*") if p.is_file())
    return [p for p in paths if p.stem != "test"]


@pytest.mark.parametrize("name", tiny.TASKS)
def test_a_fingerprint_is_of_contents_not_of_places(
    name, tiny_tasks, tmp_path
):
    options = tiny_tasks[name]
    before = registry.create(**options).fingerprint()
    root = options.get("raw_dir") or os.path.dirname(options["train_file"])
    copy = shutil.copytree(root, tmp_path / "copy")
    moved = {
        key: value.replace(root, str(copy)) if isinstance(value, str) else value
        for key, value in options.items()
    }
    assert registry.create(**moved).fingerprint() == before
    for path in _files(moved):
        contents = path.read_bytes()
        # One letter, the same size and the same time.
        times = path.stat()
        place = contents.rindex(b"e")
        path.write_bytes(contents[:place] + b"f" + contents[place + 1 :])
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        assert registry.create(**moved).fingerprint() != before, path
        path.write_bytes(contents)
    assert registry.create(**moved).fingerprint() == before


def test_it_is_the_sha_256_of_names_and_of_each_file_s_own(
    tiny_tasks, monkeypatch
):
    monkeypatch.setattr(tasks, "_BLOCK", 100)
    options = tiny_tasks["scores"]
    expected = hashlib.sha256()
    for split in ("train", "validation"):
        contents = pathlib.Path(options[f"{split}_file"]).read_bytes()
        assert len(contents) > 300
        expected.update(split.encode() + b"\n")
        expected.update(hashlib.sha256(contents).digest())
    found = registry.create(**options).fingerprint()
    assert found == expected.hexdigest()


@pytest.mark.parametrize("name", ["mnli", "mrpc"])
def test_files_of_tfds_count_as_well(name, glue_tfds, tmp_path):
    task = glue.Glue(name, tfds_data_dir=glue_tfds)
    before = task.fingerprint()
    copy = shutil.copytree(glue_tfds, tmp_path / "copy")
    task = glue.Glue(name, tfds_data_dir=str(copy))
    assert task.fingerprint() == before
    for split in (task.train_split, *task.evaluation_splits):
        (path,) = task.data_files(split)
        contents = pathlib.Path(path).read_bytes()
        pathlib.Path(path).write_bytes(contents + b"\0")
        assert task.fingerprint() != before, split
        pathlib.Path(path).write_bytes(contents)


def test_microsoft_s_ids_are_data_too(mrpc_microsoft, tmp_path):
    copy = shutil.copytree(mrpc_microsoft, tmp_path / "copy")
    task = glue.Glue("mrpc", raw_dir=str(copy))
    before = task.fingerprint()
    (ids,) = copy.rglob("*dev_ids.tsv")
    ids.write_text(ids.read_text() + "1\t2\n")
    assert task.fingerprint() != before


def test_a_file_that_is_gone_is_named(tiny_tasks, tmp_path):
    options = tiny_tasks["pairs"] | {"validation_file": str(tmp_path / "b.csv")}
    with pytest.raises(OSError, match="b.csv cannot be read .*: check the"):
        registry.create(**options).fingerprint()
