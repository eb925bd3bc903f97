"""bin/export_tflite: what its flags mean, and what is refused."""

from concurrent import futures
import json
import os
import re

import pytest

import tf_pof
from tests.export import exported
from tests.tasks import tiny

# In place of the export.
SHOW = """
import dataclasses, json
from tf_pof.export import program
program.run = lambda settings, console: print(
    json.dumps(dataclasses.asdict(settings))
)
"""
MODEL = "--model={}/model --output={}/model.tflite "

# Flags, the exit code, and what the sentence says.
REFUSED = [
    ("--model={}/model", 2, "--output must be given"),
    ("--output=x.tflite", 2, "--model must be given"),
    (MODEL + "--encoding=zip", 2, "encoding=zip.*packed"),
    (MODEL + "--sequence_lengths=64,long", 2, "numbers.*not 64,long"),
    (MODEL + "--batch_size=-1", 2, "batch_size"),
    (MODEL + "--raw_dir=glue", 2, "--raw_dir needs --task"),
    (MODEL + "--task=sst2 --doc_stride=8", 2, "--doc_stride is not an option"),
    (MODEL, 1, "model is not quantized.*bin/finetune --qat"),
    (MODEL.replace("model ", "nowhere "), 1, "nowhere"),
    ("--model={}/bare --output={}/x.tflite", 1, "no trained task head"),
]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    root = tmp_path_factory.mktemp("files")
    vocab = tiny.write_vocabulary(root / "vocab.txt")
    tiny.save_model(root / "model", vocab, head="classifier")
    tiny.save_model(root / "bare", vocab, head=None)
    return root


@pytest.fixture(scope="module")
def refused(files, tmp_path_factory):
    """For each of REFUSED its process, ended; two at a time."""

    def run(case):
        log = tmp_path_factory.mktemp("refused") / "log"
        arguments = case[0].replace("{}", str(files)).split()
        process = tiny.Command("export_tflite", arguments, log)
        process.wait()
        return process

    with futures.ThreadPoolExecutor(2) as pool:
        return list(pool.map(run, REFUSED))


@pytest.mark.parametrize("number", range(len(REFUSED)))
def test_bad_input_is_one_sentence_and_a_code(number, refused, files):
    _, code, what = REFUSED[number]
    process = refused[number]
    assert process.wait() == code, process.printed
    (line,) = process.printed.splitlines()
    assert line.startswith("export_tflite: ") and re.search(what, line), line
    assert not list(files.glob("*.tflite*"))


def settings(line, files, folder):
    arguments = line.replace("{}", str(files)).split()
    process = tiny.Command("export_tflite", arguments, folder / "log", SHOW)
    return json.loads(process.finish())


def test_flags_are_the_settings(files, tmp_path):
    found = settings(MODEL, files, tmp_path)
    assert found == {
        "model": f"{files}/model",
        "output": f"{files}/model.tflite",
        "sequence_lengths": None,
        "batch_size": 0,
        "encoding": "dense",
        "parity": True,
        "parity_examples": 200,
        "task": None,
        "name": None,
        "author": "",
        "license": "",
        "vocab": None,
        "lowercase": None,
        "report": None,
    }
    found = settings(
        MODEL + "--sequence_lengths=384,64,64 --batch_size=1 --noparity "
        "--encoding=packed --license=MIT --task=sst2 --raw_dir=glue "
        "--report=r.json --parity_examples=9 --nolowercase",
        files,
        tmp_path,
    )
    assert found["sequence_lengths"] == [64, 384]
    assert (found["batch_size"], found["parity"]) == (1, False)
    assert (found["encoding"], found["license"]) == ("packed", "MIT")
    assert found["task"] == {"name": "sst2", "raw_dir": "glue"}
    assert (found["report"], found["parity_examples"]) == ("r.json", 9)
    assert found["lowercase"] is False


@pytest.fixture(scope="module")
def quantized(tmp_path_factory):
    path = tmp_path_factory.mktemp("quantized") / "model"
    return tf_pof.save(exported.sst2().model, path)


def export(quantized, folder, before):
    """An export whose temporary files go to `folder`/temporary."""
    (folder / "temporary").mkdir()
    arguments = [
        f"--model={quantized}",
        f"--output={folder / 'x.tflite'}",
        "--sequence_lengths=24",
    ]
    place = f"tempfile.tempdir = {str(folder / 'temporary')!r}"
    before = f"import tempfile\n{place}\n{before}"
    return tiny.Command("export_tflite", arguments, folder / "log", before)


def left_behind(folder):
    """Temporary files but TensorFlow's own, which it removes at its exit."""
    names = os.listdir(folder / "temporary")
    return [n for n in names if not n.startswith("__autograph")]


@pytest.mark.parametrize("number", ["SIGTERM", "SIGINT"])
def test_an_interrupted_export_leaves_nothing_behind(
    number, quantized, tmp_path
):
    # In the middle of the conversion, where its folder is full of files.
    before = f"""
import os, signal
from tf_pof.export import convert
def interrupted(converter):
    assert os.listdir(tempfile.tempdir)
    os.kill(os.getpid(), signal.{number})
    return real(converter)
real, convert._run = convert._run, interrupted
signal.signal(signal.SIGINT, signal.default_int_handler)
"""
    process = export(quantized, tmp_path, before)
    assert process.wait() == 1, process.printed
    *_, last = process.printed.splitlines()
    assert last.startswith("export_tflite: interrupted")
    assert "Traceback" not in process.printed
    assert not left_behind(tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["log", "temporary"]


@pytest.mark.parametrize("limit", [2_000, 20_000])
def test_an_export_onto_a_full_disk_is_one_sentence(
    limit, quantized, tmp_path
):
    before = f"""
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
"""
    process = export(quantized, tmp_path, before)
    assert process.wait() == 1, process.printed
    *_, last = process.printed.splitlines()
    assert last.startswith("export_tflite: ") and "Traceback" not in last
    assert "Traceback" not in process.printed
    assert re.search("too large|room|write", last)
    assert not left_behind(tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["log", "temporary"]
