"""A run's folder: one writer, one run, and what it was begun with."""

import dataclasses
import json
import os

import tf_pof  # noqa: F401  (legacy Keras before TensorFlow)

import pytest

from tf_pof import files
from tf_pof.tasks.settings import Settings as TaskSettings
from tf_pof.training import report, run_folder
from tf_pof.training.program import Settings


@pytest.fixture
def settings(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "d64").mkdir()
    return Settings(
        model="bert_tiny",
        data="d64",
        output="run",
        train_steps=10,
        batch_size=8,
        learning_rate=1e-3,
    )


HASHES = {"model": "a", "data": "b"}


def claimed(settings, steps=5):
    """Notes the run, and gives it the file of a checkpoint."""
    run_folder.claim(settings, HASHES)
    folder = os.path.join(settings.output, "checkpoints")
    os.makedirs(folder)
    files.write_bytes(os.path.join(folder, f"ckpt-{steps}.index"), b"")


def test_a_second_run_on_one_output_is_told_of_the_first(settings):
    with run_folder.held(settings, chief=True):
        with pytest.raises(OSError, match=f"pid {os.getpid()} .* works on run"):
            with run_folder.held(settings, chief=True):
                pass
        # A worker writes nothing of its own.
        with run_folder.held(settings, chief=False):
            pass
    with run_folder.held(settings, chief=True):
        pass


@pytest.mark.parametrize(
    "made,what",
    [
        ("run", "run is no folder"),
        ("run/checkpoints", "checkpoints is no folder"),
        ("run/predictions", "predictions is no folder"),
        ("run/tensorboard", "tensorboard is no folder"),
        ("run/model", "model is no folder"),
        ("run/best", "best is no folder"),
        ("run/report.json/", "report.json is a folder"),
        ("run/settings.json/", "settings.json is a folder"),
        ("run/curve.jsonl/", "curve.jsonl is a folder"),
        ("run/best.json/", "best.json is a folder"),
    ],
)
def test_what_stands_in_the_way_is_said_first(made, what, settings, tmp_path):
    if made.endswith("/"):
        (tmp_path / made).mkdir(parents=True)
    else:
        files.write_bytes(tmp_path / made, b"mine")
    with pytest.raises(ValueError, match=what):
        with run_folder.held(settings, chief=True):
            pass


def test_models_of_others_are_not_replaced(settings, tmp_path):
    files.write_bytes(tmp_path / "run/model/config.json", b"{}")
    with pytest.raises(ValueError, match="not a model folder"):
        with run_folder.held(settings, chief=True):
            pass


def test_the_root_folder_is_no_output(settings):
    with pytest.raises(ValueError, match="root folder"):
        with run_folder.held(
            dataclasses.replace(settings, output="/"), chief=True
        ):
            pass


def test_what_a_kill_has_left_is_removed_and_nothing_else(settings, tmp_path):
    left = [".report.json.tmp-abcd_123", ".model.tmp-abcdefgh/config.json"]
    kept = [".notes.tmp-abcdefgh", "notes.txt", ".report.json.tmp-x/mine"]
    for name in left + kept:
        files.write_bytes(tmp_path / "run" / name, b"")
    with run_folder.held(settings, chief=True):
        pass
    assert sorted(os.listdir("run")) == sorted(
        name.split("/")[0] for name in kept
    )


@pytest.mark.parametrize(
    "data", ["d64/", "./d64", "../{}/d64", "d64/../d64", "{}", "link"]
)
def test_a_path_is_the_same_however_it_is_written(data, settings, tmp_path):
    claimed(settings)
    os.symlink("d64", "link")
    data = data.replace("../{}", f"../{tmp_path.name}")
    data = data.replace("{}", str(tmp_path / "d64"))
    assert run_folder.check(dataclasses.replace(settings, data=data)) == ""


def test_a_path_is_the_same_from_another_folder(settings, tmp_path):
    claimed(settings)
    (tmp_path / "deep").mkdir()
    os.chdir("deep")
    moved = dataclasses.replace(settings, data="../d64", output="../run")
    assert run_folder.check(moved) == ""
    with pytest.raises(ValueError, match="data 'd64' there, '../d65' now"):
        run_folder.check(dataclasses.replace(moved, data="../d65"))


def test_paths_of_a_task_are_paths_too(settings, tmp_path):
    values = {k: getattr(settings, k) for k in ("model", "output")}
    given = TaskSettings(
        **values,
        task={"name": "custom", "train_file": "a.tsv", "text_column": "a.tsv"},
        vocab="vocab.txt",
        batch_size=8,
        learning_rate=1e-3,
    )
    claimed(given)
    again = dataclasses.replace(
        given,
        task=given.task | {"train_file": str(tmp_path / "a.tsv")},
        vocab="./vocab.txt",
    )
    assert run_folder.check(again) == ""
    # A column is no path.
    other = given.task | {"text_column": "./a.tsv"}
    with pytest.raises(ValueError, match="task.text_column"):
        run_folder.check(dataclasses.replace(given, task=other))


def test_what_changed_under_its_name_is_refused(settings):
    claimed(settings)
    run_folder.check_hashes(settings, HASHES)
    what = "The data d64 is not what the run in run began with"
    with pytest.raises(ValueError, match=what):
        run_folder.check_hashes(settings, HASHES | {"data": "c"})
    with pytest.raises(ValueError, match="The model bert_tiny is not what"):
        run_folder.check_hashes(settings, HASHES | {"model": "c"})
    # No step was taken on what there was.
    os.unlink("run/checkpoints/ckpt-5.index")
    run_folder.check_hashes(settings, HASHES | {"data": "c"})


def test_runs_without_hashes_go_on_and_have_them_then(settings):
    claimed(settings)
    files.write_json("run/settings.json", settings.identity())
    assert run_folder.check(settings) == ""
    run_folder.check_hashes(settings, HASHES)
    run_folder.claim(settings, HASHES)
    noted = json.loads(open("run/settings.json").read())
    assert noted["hashes"] == HASHES
    assert noted["paths"] == {
        "data": os.path.abspath("d64"),
        "model": os.path.abspath("bert_tiny"),
    }


@pytest.mark.parametrize(
    "contents",
    ["[]", "5", "", "{", "\xff", "[" * 100_000, '{"hashes": []}',
     '{"paths": {"model": 5}}'],
)  # fmt: skip
def test_settings_that_are_none_are_one_sentence(contents, settings):
    files.write_bytes("run/settings.json", contents.encode("latin-1"))
    with pytest.raises(ValueError, match="settings.json "):
        run_folder.check(settings)


def test_settings_of_wrong_types_are_other_settings(settings):
    noted = settings.identity() | {"train_steps": [1], "task": "x", "data": 3}
    files.write_json("run/settings.json", noted)
    with pytest.raises(ValueError, match="data 3 there.*train_steps .1. there"):
        run_folder.check(settings)


def test_settings_of_any_length_are_told_in_short(settings):
    noted = settings.identity() | {"data": "d" * 10**6}
    files.write_json("run/settings.json", noted)
    with pytest.raises(ValueError, match="data 'ddd.*d... there") as error:
        run_folder.check(settings)
    assert len(str(error.value)) < 1000


def test_more_steps_go_on_from_a_checkpoint_and_fewer_do_not(settings):
    claimed(settings)
    longer = dataclasses.replace(settings, train_steps=20)
    said = run_folder.check(longer)
    assert "train_steps 10 there, 20 now" in said and "learning rate" in said
    with pytest.raises(ValueError, match="train_steps 10 there, 9 now"):
        run_folder.check(dataclasses.replace(settings, train_steps=9))
    # Nor if anything else differs.
    with pytest.raises(ValueError, match="batch_size 8 there, 4 now"):
        run_folder.check(dataclasses.replace(longer, batch_size=4))


def test_a_finished_run_goes_on_only_if_its_checkpoints_were_kept(settings):
    claimed(settings)
    result = {
        "settings": settings.identity(),
        "seconds": 1.0,
        "student": {},
        "teacher": None,
    }
    report.write("run", result)
    longer = dataclasses.replace(settings, train_steps=20)
    assert report.read(settings) == result
    assert run_folder.check(longer) and report.read(longer) is None
    run_folder.claim(longer, HASHES)
    assert not os.path.exists("run/report.json")
    assert run_folder.check(longer) == ""
    report.write("run", result | {"settings": longer.identity()})
    os.unlink("run/checkpoints/ckpt-5.index")
    with pytest.raises(ValueError, match="no checkpoint.*--keep_checkpoints"):
        run_folder.check(dataclasses.replace(settings, train_steps=30))


def test_more_epochs_go_on_but_not_where_ranges_would_move_again(settings):
    given = TaskSettings(
        model="bert_tiny",
        output="run",
        task={"name": "sst2"},
        epochs=2.0,
        batch_size=8,
        learning_rate=1e-3,
    )
    claimed(given)
    assert "epochs 2.0 there, 3.0 now" in run_folder.check(
        dataclasses.replace(given, epochs=3.0)
    )
    # Whether 9 steps are more than the epochs is not known.
    with pytest.raises(ValueError, match="train_steps 0 there, 9 now"):
        run_folder.check(dataclasses.replace(given, train_steps=9))
    for freeze, may in ((None, False), (7, True)):
        quantized = dataclasses.replace(
            given, qat=True, qat_freeze_step=freeze
        )
        run_folder.claim(quantized, {})
        longer = dataclasses.replace(quantized, epochs=3.0)
        if may:
            assert run_folder.check(longer)
        else:
            with pytest.raises(ValueError, match="epochs 2.0 there"):
                run_folder.check(longer)


@pytest.mark.parametrize(
    "changes",
    [
        {"seconds": "1"},
        {"settings": []},
        {"student": [1]},
        {"student": {"mlm": "low"}},
        {"teacher": 5},
        {"sparsity": {}},
        {"sparsity": {"sparsity": 0.5, "tensors": {"a": {"shape": 3}}}},
    ],
    ids=str,
)
def test_reports_of_wrong_types_are_one_sentence(changes, settings):
    result = {
        "settings": settings.identity(),
        "seconds": 1.0,
        "student": {},
        "teacher": None,
    }
    report.write("run", result | changes)
    with pytest.raises(ValueError, match="report.json has a wrong|lacks"):
        report.read(settings)
    for contents in (b"[]", b"", b"null"):
        files.write_bytes("run/report.json", contents)
        with pytest.raises(ValueError, match="report.json"):
            report.read(settings)


def test_a_report_of_a_longer_run_is_refused(settings):
    longer = dataclasses.replace(settings, train_steps=20)
    result = {
        "settings": longer.identity(),
        "seconds": 1.0,
        "student": {},
        "teacher": None,
    }
    report.write("run", result)
    with pytest.raises(ValueError, match="of another run .train_steps 20"):
        report.read(settings)
