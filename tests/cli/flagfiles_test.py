"""Flagfiles are found by bare name, and may name others."""

import os

from absl import app
import pytest

from tf_pof.cli import flagfiles


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def write(path, *lines):
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    with open(path, "w") as file:
        file.writelines(f"{line}\n" for line in lines)


@pytest.mark.parametrize("name", ["bert_base.flags", "bert_base"])
def test_a_recipe_is_found_by_its_bare_name(name):
    found = flagfiles.find(name)
    assert os.path.isabs(found) and os.path.exists(found)
    assert "--final_sparsity=0.9" in flagfiles.expand(
        ["x", f"--flagfile={name}"]
    )


def test_a_file_in_the_current_folder_wins():
    write("bert_base.flags", "--seed=1")
    for argv in (
        ["x", "--flagfile=bert_base.flags"],
        ["x", "--flagfile", "bert_base.flags"],
        ["x", "-flagfile=bert_base.flags"],
    ):
        assert flagfiles.expand(argv) == ["x", "--seed=1"]


def test_a_file_of_ones_own_may_begin_with_a_recipe():
    write("mine/own.flags", "# Mine.", "", "--flagfile=sst2", "--seed=7")
    expanded = flagfiles.expand(["x", "--flagfile=mine/own.flags", "--seed=8"])
    assert "--task=sst2" in expanded
    assert expanded[-2:] == ["--seed=7", "--seed=8"]


def test_a_nested_name_is_looked_for_beside_the_file_that_names_it():
    write("mine/own.flags", "--flagfile=part.flags")
    write("mine/part.flags", "  --seed=3  ", "// A comment.")
    assert flagfiles.expand(["x", "--flagfile=mine/own.flags"]) == [
        "x",
        "--seed=3",
    ]


def test_what_stands_behind_two_dashes_is_no_flag():
    argv = ["x", "--a=1", "--", "--flagfile=nowhere"]
    assert flagfiles.expand(argv) == argv


@pytest.mark.parametrize(
    "name, sentence",
    [
        ("squadv2.flags", "there are recipes squad_v2.flags"),
        ("sst", "there are recipes sst2.flags, sst2_distilbert.flags"),
        ("qqqq", "the recipes are in"),
        ("", "must name a file"),
        (".", "is a folder"),
        ("binary", "is no text"),
        ("nul", "is no text"),
        ("prose", "'seed 1', which is no flag"),
        ("loop", "names itself"),
        ("mutual", "names itself"),
        ("broken", "There is no flagfile broken"),
        ("cycle", "There is no flagfile cycle"),
    ],
)
def test_what_is_no_flagfile_is_a_usage_error(name, sentence):
    with open("binary", "wb") as file:
        file.write(b"\x7fELF\xff\xfe")
    write("nul", "--seed=1\0")
    write("prose", "seed 1")
    write("loop", "--flagfile=loop")
    write("mutual", "--flagfile=other")
    write("other", "--flagfile=mutual")
    os.symlink("nowhere", "broken")
    os.symlink("cycle", "cycle")
    with pytest.raises(app.UsageError, match=sentence):
        flagfiles.expand(["x", f"--flagfile={name}"])
