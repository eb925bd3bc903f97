import signal
import subprocess
import sys

from absl import app, flags
import pytest
from tensorflow import errors

from tf_pof.cli import common


def run(module, *arguments, cwd=None):
    done = subprocess.run(
        [sys.executable, "-m", f"tf_pof.cli.{module}", *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
    )
    return done.returncode, done.stdout, done.stderr.strip()


def raising(error):
    def main(argv):
        raise error

    return main


@pytest.mark.parametrize(
    "error,code",
    [
        (MemoryError(), 1),
        (errors.ResourceExhaustedError(None, None, "OOM\nmore"), 1),
        (errors.DataLossError(None, None, "truncated record"), 1),
        (ValueError("the data\n  is gone"), 1),
        (OSError("disk full"), 1),
        (app.UsageError("--data must be given"), 2),
        (flags.IllegalFlagValueError("bad"), 2),
        (KeyboardInterrupt(), 1),
    ],
)
def test_errors_are_one_line_and_a_code(error, code, capsys):
    assert common.guarded(raising(error), ["x"]) == code
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1
    assert "Traceback" not in printed
    if str(error) and not isinstance(error, errors.OpError):
        assert " ".join(str(error).split()) in printed


def test_what_is_no_flag_is_not_ignored(capsys):
    assert common.guarded(common.require_no_arguments, ["x", "1"]) == 2
    assert "What is 1? All is given by flags" in capsys.readouterr().err


def test_unexpected_errors_are_not_hidden():
    with pytest.raises(ZeroDivisionError):
        common.guarded(raising(ZeroDivisionError()), ["x"])


def test_recipe_without_its_paths_says_what_is_missing(tmp_path):
    code, _, printed = run(
        "prune_pretrain", "--flagfile=bert_base.flags", cwd=tmp_path
    )
    assert code == 2
    assert printed.count("\n") == 0
    for name in ("--model", "--data", "--output"):
        assert name in printed


def test_unknown_flag_is_a_usage_error(tmp_path):
    code, _, printed = run("prune_pretrain", "--no_such_flag=1", cwd=tmp_path)
    assert (code, printed.count("\n")) == (2, 0)
    assert "no_such_flag" in printed


def test_missing_data_is_one_sentence_without_log_noise(tmp_path):
    code, printed, error = run(
        "prepare_teacher",
        "--model=bert_tiny",
        "--data=nowhere",
        "--output=run",
        cwd=tmp_path,
    )
    assert code == 1 and printed == ""
    assert error.startswith("prepare_teacher: ") and "nowhere" in error
    assert error.count("\n") == 0
    assert not (tmp_path / "run").exists()


WAITING = """
import signal, sys, time
from tf_pof.cli import common

def main(argv):
    try:
        print("ready", flush=True)
        time.sleep(60)
    except KeyboardInterrupt as error:
        if "wrapped" in argv:
            raise RuntimeError("py_function was interrupted") from error
        raise
    finally:
        print("tidied", flush=True)

common.run(main)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("how", ["plain", "wrapped"])
def test_signals_end_a_command_with_one_sentence(number, how):
    process = subprocess.Popen(
        [sys.executable, "-c", WAITING, how],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # The tests may run where a shell has told them to ignore it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    printed, error = process.communicate(timeout=30)
    assert process.returncode == 1
    assert printed == "tidied\n"
    assert error.count("\n") == 1
    assert "interrupted; the same command goes on from here" in error
