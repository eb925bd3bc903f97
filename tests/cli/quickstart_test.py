import re
import subprocess

import pytest

from tf_pof.cli import quickstart
from tf_pof.models import minilm


def flag(arguments, name):
    return next(
        a.split("=", 1)[1] for a in arguments if a.startswith(f"--{name}=")
    )


def test_commands_keep_the_paper_s_proportions_and_chain():
    lines = dict(quickstart.commands("m", "out", 100, 1000))
    prune = lines["prune_pretrain"]
    assert flag(prune, "pruning_ramp_end_step") == "500"
    assert flag(prune, "pruning_end_step") == "800"
    assert flag(prune, "pruning_frequency") == "10"
    assert flag(prune, "final_sparsity") == "0.9"
    assert flag(lines["prepare_teacher"], "model") == "m"
    assert flag(prune, "model") == flag(
        lines["prepare_teacher"], "output"
    ) + "/model"
    data = flag(lines["prepare_data"], "output")
    assert flag(prune, "data") == flag(lines["prepare_teacher"], "data") == data


@pytest.fixture
def started(monkeypatch, tmp_path):
    """Command lines that quickstart would run."""
    calls = []

    def run(command):
        calls.append(command[2:])
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(quickstart.subprocess, "run", run)
    monkeypatch.setenv("TF_POF_CACHE", str(tmp_path))
    if not quickstart.flags.FLAGS.is_parsed():
        quickstart.flags.FLAGS.mark_as_parsed()
    return calls


def test_without_weights_it_says_so_and_trains_bert_tiny(
    started, monkeypatch, capsys
):
    def fetch():
        raise OSError("no index reached")

    monkeypatch.setattr(minilm, "fetch", fetch)
    assert quickstart.main(["quickstart"]) == 0
    printed = capsys.readouterr().out
    assert "no index reached" in printed and "bert_tiny" in printed
    assert flag(started[1], "model") == "bert_tiny"


def test_a_failing_command_ends_it(started, monkeypatch):
    monkeypatch.setattr(minilm, "fetch", lambda: "weights")

    def fail(command):
        started.append(command)
        return subprocess.CompletedProcess(command, 1)

    monkeypatch.setattr(quickstart.subprocess, "run", fail)
    assert quickstart.main(["quickstart"]) == 1
    assert len(started) == 1


def test_prepared_data_is_used_again(started, monkeypatch, tmp_path):
    monkeypatch.setattr(minilm, "fetch", lambda: "weights")
    meta = tmp_path / "quickstart" / "data" / "meta.json"
    meta.parent.mkdir(parents=True)
    meta.write_text("{}")
    quickstart.main(["quickstart"])
    assert [c[0] for c in started] == [
        "tf_pof.cli.prepare_teacher",
        "tf_pof.cli.prune_pretrain",
    ]


def test_it_says_what_it_will_take_and_what_each_part_took(
    started, monkeypatch, capsys
):
    monkeypatch.setattr(minilm, "fetch", lambda: "weights")
    assert quickstart.main(["quickstart"]) == 0
    printed = capsys.readouterr().out
    announced = re.search(r"takes about (\d+) minutes \((.*)\)", printed)
    assert "prune_pretrain" in announced[2]
    assert printed.index(announced[0]) < printed.index("$ bin/prepare_data")
    table = printed[printed.rindex("$ bin/") :]
    for name in ("prepare_data", "prepare_teacher", "prune_pretrain"):
        assert re.search(rf"{name} +│ +0\.0", table)
