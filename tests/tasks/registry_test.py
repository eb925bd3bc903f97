"""Tasks and their options by the names that the commands' flags have."""

import inspect

import pytest

from tf_pof.cli import task_flags
from tf_pof.tasks import registry
from tf_pof.tasks.glue import Glue
from tf_pof.tasks.squad import Squad
from tf_pof.tasks.table_files import Table

CUSTOM = {"text_column": "text", "labels": ["no", "yes"]}


@pytest.mark.parametrize("name", registry.NAMES)
def test_every_task_is_made_by_its_name(name):
    options = CUSTOM if name == "custom" else {}
    task = registry.create(name, sequence_length=40, **options)
    assert task.name == name
    kinds = {"custom": Table, "squad": Squad, "squad_v2": Squad}
    assert type(task) is kinds.get(name, Glue)


def test_squad_is_made_in_its_version():
    assert registry.create("squad").version == "1.1"
    assert registry.create("squad_v2").version == "2.0"


def test_the_commands_know_the_same_tasks_and_options():
    assert sorted(task_flags._NAMES) == sorted(registry.NAMES)
    known = set()
    for kind in (Glue, Squad, Table):
        known |= inspect.signature(kind).parameters.keys()
    # Fixed by the name of the task.
    assert set(task_flags._OPTIONS) == known - {"name", "version"}


@pytest.mark.parametrize(
    "name,option",
    [
        ("sst2", {"doc_stride": 8}),
        ("sst2", {"text_column": "text"}),
        ("sst2", {"version": "2.0"}),
        ("squad", {"regression": False}),
        ("squad", {"version": "2.0"}),
        ("squad_v2", {"labels": ["a", "b"]}),
        ("custom", CUSTOM | {"raw_dir": "files"}),
        ("custom", CUSTOM | {"n_best_size": 3}),
    ],
)
def test_options_of_another_task_are_refused(name, option):
    what = f"--{list(option)[-1]} is not an option of the task {name}"
    with pytest.raises(ValueError, match=what):
        registry.create(name, **option)


def test_an_option_without_a_value_is_not_given():
    task = registry.create("sst2", doc_stride=None, raw_dir=None)
    assert task.sequence_length == 128


def test_paths_may_be_path_objects(tmp_path):
    path = tmp_path / "dev.csv"
    path.write_text("text,label\na,no\nb,yes\n")
    task = registry.create("custom", validation_file=path, **CUSTOM)
    assert task.examples("validation").labels.tolist() == [0, 1]


def test_what_a_task_needs_is_named():
    with pytest.raises(ValueError, match="custom needs --text_column"):
        registry.create("custom", labels=["no", "yes"])
    with pytest.raises(ValueError, match="'sst-2': choose cola, sst2"):
        registry.create("sst-2")
