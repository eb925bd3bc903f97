"""The command: a real run, its messages and exit codes."""

import os
import subprocess
import sys

import pytest

from tf_pof.data import records


def _run(*arguments, folder=None):
    return subprocess.run(
        [sys.executable, "-m", "tf_pof.cli.prepare_data", *arguments],
        capture_output=True,
        text=True,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": os.getcwd()},
    )


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
        (["--output=o", "--sample", "stray.txt"], 2, "What is stray.txt?"),
        (["--output=o", "--input=none.txt"], 1, "No input file matches"),
        (["--output=o", "--tfds=glue/sst2", "--tfds_data_dir=."], 1,
         "glue/sst2 is not prepared"),
        (["--output=o", "--sample", "--vocab=none.txt"], 1, "none.txt"),
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
