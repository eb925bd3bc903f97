"""The command: a real run, its messages and exit codes."""

import lzma
import os
import resource
import signal
import subprocess
import sys
import time

import pytest

from tf_pof import files
from tf_pof.data import records
from tf_pof.data import sample


_COMMAND = [sys.executable, "-m", "tf_pof.cli.prepare_data"]


def _run(*arguments, folder=None, **more):
    return subprocess.run(
        [*_COMMAND, *arguments],
        capture_output=True,
        text=True,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": os.getcwd()},
        **more,
    )


def _sentence(done):
    """The one line on stderr."""
    [line] = done.stderr.strip().splitlines()
    assert line.startswith("prepare_data: ")
    return line


def test_prepares_the_bundled_sample(tmp_path):
    output = tmp_path / "sample128"
    done = _run("--sample", f"--output={output}", "--num_shards=2")
    assert done.returncode == 0, done.stderr
    meta = records.verify(str(output), deep=True)
    assert meta.statistics["documents"] == 438
    assert meta.sequence_length == 128 and len(meta.train_shards) == 2
    assert meta.arguments["sample"] is True
    assert f"{meta.num_train:,}" in done.stdout
    assert "random next sentences" in done.stdout
    assert "Traceback" not in done.stderr


def test_flags_reach_the_data_set(tmp_path):
    (tmp_path / "a.txt").write_text(
        "".join(f"Document {i} Says Something. And More.\n" for i in range(60))
    )
    done = _run(
        "--input=*.txt", "--documents=line", "--output=out",
        "--max_sequence_length=32", "--whole_word_masking", "--seed=4",
        "--num_shards=1", "--validation_fraction=0.3",
        "--next_sentence_probability=1", folder=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    meta = records.read_meta(str(tmp_path / "out"))
    assert meta.statistics["documents"] == 60
    assert meta.statistics["random_next"] == 0
    assert (meta.sequence_length, meta.seed) == (32, 4)
    assert meta.whole_word_masking and meta.num_validation > 5


@pytest.mark.parametrize(
    "arguments, code, message",
    [
        (["--sample"], 2, "--output must be given"),
        (["--output=o"], 2, "exactly one of --input, --tfds and --sample"),
        (["--output=o", "--sample", "--input=a"], 2, "exactly one of"),
        (["--output=o", "--sample", "--max_sequence_length=3"], 2, "max_seq"),
        (["--output=o", "--sample", "--max_sequence_length=1000000000"], 2,
         "max_seq"),
        (["--output=o", "--sample", "--seed=-1"], 2, "--seed=-1"),
        (["--output=o", "--sample", "--seed=4294967296"], 2, "--seed=42949"),
        (["--output=o", "--sample", "stray.txt"], 2, "What is stray.txt?"),
        (["--output=o", "--input=none.txt"], 1, "No input file matches"),
        (["--output=o", "--tfds=glue/sst2", "--tfds_data_dir=."], 1,
         "glue/sst2 is not prepared"),
        (["--output=o", "--sample", "--vocab=none.txt"], 1, "none.txt"),
        (["--output=o", "--sample", "--vocab=."], 1, "is a folder"),
        (["--output= ", "--sample"], 2, "names no folder"),
        (["--output=/", "--sample"], 2, "--output=/ names no folder"),
        (["--output=o", "--sample", "--validation_fraction=nan"], 2,
         "--validation_fraction must be a finite number"),
        (["--output=o", "--sample", "--beam_args=--runer=FlinkRunner"], 2,
         "no option --runer"),
        (["--output=o", "--sample", "--num_shards=100000"], 1, "100000 shards"),
    ],
)  # fmt: skip
def test_errors_are_one_sentence_with_an_exit_code(
    tmp_path, arguments, code, message
):
    done = _run(*arguments, folder=tmp_path)
    assert done.returncode == code, done.stderr
    line = done.stderr.strip().splitlines()[-1]
    assert message in line and line.startswith("prepare_data: ")
    assert "Traceback" not in done.stderr
    assert os.listdir(tmp_path) == []


def test_a_full_disk_ends_both_workers_with_a_sentence(tmp_path):
    """A limit on the size of files stands for it: no part can be written."""
    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    done = _run(
        "--sample", "--output=o", "--num_workers=2", folder=tmp_path,
        preexec_fn=limit, timeout=300,
    )  # fmt: skip
    assert done.returncode == 1
    assert "part-000" in _sentence(done) and "too large" in _sentence(done)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("finished", [0, 1])
def test_ctrl_c_is_one_sentence_and_the_command_goes_on(
    tmp_path, finished
):
    """Of text for many seconds, some is read or none is."""
    with lzma.open(sample.text_paths()[1], "rt", encoding="utf-8") as file:
        text = file.read(200_000)
    big = tmp_path / "big.txt"
    big.write_text("\n\n".join(f"{i} {text}" for i in range(80)), "utf-8")
    process = subprocess.Popen(
        [*_COMMAND, f"--input={big}", "--num_workers=2", "--output=o"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        start_new_session=True,
        env=os.environ | {"PYTHONPATH": os.getcwd()},
    )
    partial = tmp_path / "o.partial"
    while not partial.exists() or (
        len(list(partial.glob("piece-*"))) < finished
    ):
        assert process.poll() is None
        time.sleep(0.02)
    # As a terminal does, to all processes.
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 1
    assert errors == (
        "prepare_data: interrupted; the same command goes on from here\n"
    )
    assert sorted(os.listdir(tmp_path)) == ["big.txt", "o.partial"][
        : 1 + finished
    ]


def test_a_second_command_on_an_output_says_who_works_there(tmp_path):
    with files.only_writer(tmp_path / "o"):
        done = _run("--sample", "--output=o", folder=tmp_path)
    assert done.returncode == 1
    assert f"Another process (pid {os.getpid()} on " in _sentence(done)


@pytest.mark.parametrize(
    "text, arguments, remark",
    [
        ("A sentence goes on. " * 200, [], "The text has 1 documents, too few"),
        ("A sentence goes on. " * 200, [], "There is one document to train on"),
        ("A. B. C.\n\n" * 40, ["--validation_fraction=0"],
         "Without validation examples"),
        ("A sentence of words.\n\n" * 40, ["--next_sentence_probability=0"],
         None),
    ],
)  # fmt: skip
def test_the_table_is_followed_by_what_one_may_not_expect(
    tmp_path, text, arguments, remark
):
    (tmp_path / "a.txt").write_text(text)
    done = _run("--input=a.txt", "--output=o", *arguments, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    after = " ".join(done.stdout.rpartition("┘")[2].split())
    assert (remark in after) if remark else not after
