"""bin/finetune and bin/evaluate: what their flags mean, and what is refused."""

from concurrent import futures
import json
import pathlib
import re

import pytest

from tests.tasks import tiny


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A model, a run of pre-training, and tasks: good and broken ones."""
    root = tmp_path_factory.mktemp("files")
    vocab = tiny.write_vocabulary(root / "vocab.txt")
    tiny.save_model(root / "model", vocab)
    tiny.save_model(root / "short", vocab, max_sequence_length=12)
    tiny.save_model(root / "bare", None)
    tiny.save_model(root / "trained", vocab, head="classifier")
    # A folder may be named as files are.
    (root / "trained.tflite").mkdir()
    (root / "M.TFLITE").write_bytes(b"no model")
    run = root / "pretraining"
    tiny.save_model(run / "model", vocab)
    (run / "settings.json").write_text('{"model": "bert_tiny"}')
    tiny.write_sst2(root / "glue")
    (root / "data").mkdir()
    tiny.write_pairs(root / "data")
    table = (root / "data/validation.csv").read_text()
    for name, text in {
        "label": table.replace(",yes", ",perhaps", 1),
        "column": table.replace("second", "other", 1),
        "empty": "",
        "header": "first,second,label\n",
    }.items():
        (root / f"data/{name}.csv").write_text(text)
    return root


SST2 = "--task=sst2 --raw_dir={}/glue --sequence_length=24"
PAIRS = (
    "--task=custom --train_file={}/data/train.csv --text_column=first "
    "--pair_column=second --sequence_length=32"
)
MODEL = " --model={}/model "


def start(command, line, files, folder, before=""):
    arguments = line.replace("{}", str(files)).split()
    if command == "finetune" and "--output" not in line:
        arguments.append(f"--output={folder / 'run'}")
    return tiny.Command(command, arguments, folder / "log", before)


# The command, its flags, the exit code, and what the sentence says.
REFUSED = [
    ("finetune", MODEL, 2, "--task must be given"),
    ("finetune", SST2, 2, "--model must be given"),
    ("finetune", "--task=sst-2" + MODEL, 2, "--task=sst-2.*sst2"),
    ("finetune", SST2 + MODEL + "--sequence_length=0", 2, "sequence_length"),
    ("finetune", SST2 + MODEL + "--epochs=-1", 2, "epochs"),
    ("finetune", SST2 + MODEL + "--doc_stride=8", 2, "--doc_stride is not an"),
    (
        "finetune",
        SST2 + MODEL + "--final_sparsity=0.9",
        2,
        "--final_sparsity needs --train_steps",
    ),
    (
        "finetune",
        SST2 + MODEL + "--qat --final_sparsity=0.9 --train_steps=9",
        2,
        "--qat and --final_sparsity exclude each other",
    ),
    (
        "finetune",
        SST2 + MODEL + "--qat_freeze_step=9",
        2,
        "--qat_freeze_step needs --qat",
    ),
    ("finetune", SST2 + MODEL + "--qat --qat_start_step=-1", 2, "qat_start"),
    (
        "finetune",
        SST2 + MODEL + "--qat --qat_range_decay=1",
        2,
        "would never move a range",
    ),
    (
        "finetune",
        SST2 + MODEL + "--qat --train_steps=9 --qat_start_step=9",
        1,
        "--qat_start_step=9 is not within the 9",
    ),
    (
        "finetune",
        SST2 + MODEL + "--learning_rate_schedule=rewind",
        2,
        "rewind needs --final_sparsity",
    ),
    (
        "finetune",
        SST2 + MODEL + "--evaluate_every=year",
        2,
        "--evaluate_every=year: .*not a number of steps, or epoch",
    ),
    (
        "finetune",
        PAIRS.replace("train.csv", "label.csv")
        + MODEL
        + "--labels=no,maybe,yes",
        1,
        r'label.csv:4: unknown label "perhaps".*"no", "maybe", "yes"',
    ),
    (
        "finetune",
        PAIRS + MODEL + "--validation_file={}/data/label.csv",
        1,
        r'label.csv:4: unknown label "perhaps"',
    ),
    (
        "finetune",
        PAIRS.replace("train.csv", "column.csv") + MODEL,
        1,
        'column.csv has no column "second"',
    ),
    (
        "finetune",
        PAIRS.replace("train.csv", "empty.csv") + MODEL,
        1,
        "empty.csv is empty",
    ),
    (
        "finetune",
        PAIRS.replace("train.csv", "header.csv") + MODEL,
        1,
        "header.csv has a header but no rows",
    ),
    (
        "finetune",
        PAIRS.replace("train.csv", "nowhere.csv") + MODEL,
        1,
        "nowhere.csv cannot be read",
    ),
    ("finetune", SST2.replace("glue", "dust") + MODEL, 1, "no train.tsv.*dust"),
    ("finetune", SST2 + " --model={}/dust", 1, "dust"),
    (
        "finetune",
        SST2 + " --model={}/short",
        1,
        r"has 12 positions.*lower --sequence_length",
    ),
    ("finetune", SST2 + " --model={}/bare", 1, "no vocab.txt.*--vocab"),
    (
        "finetune",
        SST2 + MODEL + "--teacher={}/model",
        1,
        "no trained task head",
    ),
    (
        "finetune",
        SST2 + MODEL + "--strategy=parameter_server",
        1,
        "use multi_worker",
    ),
    ("evaluate", MODEL, 2, "--task must be given"),
    ("evaluate", SST2, 2, "--model must be given"),
    ("evaluate", SST2 + MODEL, 1, "no trained task head.*bin/finetune"),
    ("evaluate", SST2 + " --model={}/pretraining", 1, "no trained task head"),
    (
        "evaluate",
        "--task=squad --validation_file=x.json --model={}/trained",
        1,
        "classifier head of 2 outputs, but squad needs a span",
    ),
    (
        "evaluate",
        SST2 + " --model={}/trained --split=test",
        1,
        "test gives predictions only.*--output",
    ),
    (
        "evaluate",
        SST2 + " --model={}/M.TFLITE --precision=mixed_bfloat16",
        2,
        "--precision is of models in Keras; a .tflite computes as it was",
    ),
    ("evaluate", SST2 + " --model={}/M.TFLITE", 1, r"M\.TFLITE"),
    (
        "evaluate",
        SST2 + " --model={}/trained.tflite --delegate",
        2,
        "--delegate is of a .tflite: leave the flag out",
    ),
    (
        "evaluate",
        SST2 + " --model={}/trained --n_best_size=3",
        2,
        "--n_best_size is not an option of the task sst2",
    ),
]


@pytest.fixture(scope="module")
def refused(files, tmp_path_factory):
    """For each of REFUSED its process, ended, and its folder; two at a time."""

    def run(case):
        folder = tmp_path_factory.mktemp("refused")
        process = start(*case[:2], files, folder)
        process.wait()
        return process, folder

    with futures.ThreadPoolExecutor(2) as pool:
        return list(pool.map(run, REFUSED))


@pytest.mark.parametrize("number", range(len(REFUSED)))
def test_bad_input_is_one_sentence_and_a_code(number, refused):
    command, _, code, what = REFUSED[number]
    process, folder = refused[number]
    assert process.wait() == code, process.printed
    last = process.printed.splitlines()[-1]
    assert last.startswith(f"{command}: ") and re.search(what, last), last
    assert "Traceback" not in process.printed
    # At most what was being read stands before it.
    assert re.fullmatch(r"(Reading \w+\.\n)?[^\n]*\n", process.printed)
    assert not (folder / "run").exists()


def test_a_diverging_run_names_step_and_checkpoint(files, tmp_path):
    process = start(
        "finetune",
        SST2
        + MODEL
        + "--learning_rate=1e20 --clip_norm=0 --warmup_fraction=0 "
        "--train_steps=20 --checkpoint_every=1 --nolock",
        files,
        tmp_path,
    )
    assert process.wait() == 1
    last = process.printed.splitlines()[-1]
    step, kept = re.search(
        r"diverged at step (\d+).*/run/checkpoints/ckpt-(\d+)", last
    ).groups()
    assert int(kept) == int(step) - 1
    assert "--learning_rate" in last


# Prints the settings in place of the run.
SHOW = """
import dataclasses, json
from tf_pof.tasks import program
def show(settings, console):
    values = settings.identity() | {"lock": settings.lock}
    print(json.dumps(values | {"pruning": settings.pruning}))
program.run = show
"""


def settings(line, files, folder):
    process = start("finetune", line, files, folder, SHOW)
    return json.loads(process.finish())


WEIGHTS = (
    "hard_loss_weight",
    "distillation_weight",
    "hidden_loss_weight",
    "attention_loss_weight",
    "temperature",
)


@pytest.mark.parametrize(
    "line,weights",
    [
        ("", (1, 0, 0, 0, 2)),
        # A recipe for teachers without one: labels alone.
        ("--hard_loss_weight=0 --hidden_loss_weight=3", (1, 0, 0, 0, 2)),
        ("--teacher=t", (0, 1, 0, 0, 2)),
        (
            "--teacher=t --temperature=5.5 --hard_loss_weight=0.25 "
            "--distillation_weight=0.75 --attention_loss_weight=2",
            (0.25, 0.75, 0, 2, 5.5),
        ),
    ],
)
def test_flags_weigh_labels_and_teacher(line, weights, files, tmp_path):
    found = settings(SST2 + MODEL + line, files, tmp_path)
    assert tuple(found[name] for name in WEIGHTS) == weights
    assert found["lock"] is True and found["schedule"] is None
    assert found["task"] == {
        "name": "sst2",
        "raw_dir": f"{files}/glue",
        "sequence_length": 24,
    }


def test_pruning_on_the_task_takes_the_papers_shares_of_the_steps(
    files, tmp_path
):
    line = SST2 + MODEL + "--final_sparsity=0.9 --train_steps=2000 "
    found = settings(
        line + "--learning_rate_schedule=rewind", files, tmp_path
    )
    schedule = found["schedule"]["config"]
    # 50,000, 80,000 and 1,000 of the paper's 100,000 steps.
    assert schedule["ramp_end_step"] == found["ramp_end_step"] == 1000
    assert (schedule["end_step"], schedule["frequency"]) == (1600, 20)
    assert (schedule["initial_sparsity"], schedule["begin_step"]) == (0, 0)
    assert schedule["final_sparsity"] == 0.9
    # Masks choose anew what is zero.
    assert found["lock"] is False
    assert found["pruning"]["pattern"] == "unstructured"
    found = settings(
        line
        + "--pruning_ramp_end_step=900 --pruning_end_step=1900 "
        + "--pruning_frequency=7 --pattern=4x1 --train_steps=2001",
        files,
        tmp_path,
    )
    schedule = found["schedule"]["config"]
    assert schedule["ramp_end_step"] == 900 == found["ramp_end_step"]
    assert (schedule["end_step"], schedule["frequency"]) == (1900, 7)
    assert found["pruning"]["pattern"] == "4x1"


def test_task_flags_reach_the_task(files, tmp_path):
    found = settings(
        "--task=squad_v2 --train_file=a.json --validation_file=b.json "
        "--doc_stride=64 --max_query_length=20 --null_score_diff_threshold=-1.5"
        " --n_best_size=5 --max_answer_length=9 --nolock --epochs=8" + MODEL,
        files,
        tmp_path,
    )
    assert found["task"] == {
        "name": "squad_v2",
        "train_file": "a.json",
        "validation_file": "b.json",
        "doc_stride": 64,
        "max_query_length": 20,
        "null_score_diff_threshold": -1.5,
        "n_best_size": 5,
        "max_answer_length": 9,
    }
    assert found["lock"] is False
    assert (found["train_steps"], found["epochs"]) == (0, 8)


def test_from_files_to_a_scored_model_by_the_commands(files, tmp_path):
    """Pruned on the task for a few steps, then evaluated both ways."""
    process = start(
        "finetune",
        PAIRS
        + " --validation_file={}/data/validation.csv"
        + MODEL
        + "--train_steps=10 --final_sparsity=0.5 --pattern=4x1 --batch_size=8 "
        "--log_every=5 --evaluate_every=5",
        files,
        tmp_path,
    )
    assert "Zeros: 50.0000% of 7 kernels" in process.finish()
    report = json.loads((tmp_path / "run/report.json").read_text())
    assert "validation_accuracy" in tiny.curve(tmp_path / "run")[0]
    process = start(
        "evaluate",
        f"--task=custom --model={tmp_path}/run --text_column=first "
        "--pair_column=second --validation_file={}/data/validation.csv "
        f"--sequence_length=32 --batch_size=8 --output={tmp_path}/scores",
        files,
        tmp_path,
    )
    assert "accuracy" in process.finish()
    metrics = json.loads((tmp_path / "scores/metrics.json").read_text())
    assert metrics == report["metrics"]
    written = pathlib.Path(tmp_path, "scores/predictions.tsv").read_text()
    header = "index prediction probability_maybe probability_no probability_yes"
    assert written.splitlines()[0].split("\t") == header.split()
    assert written.count("\n") == 49
