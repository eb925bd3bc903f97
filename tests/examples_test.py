"""The scripts in examples/ as a user starts them, on a tiny model."""

import json
import os
import pathlib
import random
import runpy
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import load_file
import tensorflow as tf

import tf_pof
from tf_pof._keras import keras
from tf_pof.data.tokenizer import WordPiece
from tf_pof.models.config import BertConfig
from tf_pof.pruning import schedules

EXAMPLES = pathlib.Path(__file__).parents[1] / "examples"
WORDS = "red green blue one two three cat dog bird".split()
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "?", "."]


@pytest.fixture(scope="module")
def sparse_model(tmp_path_factory):
    """Folder of a headless model with 60 % zeros, as prune_pretrain leaves."""
    root = tmp_path_factory.mktemp("model")
    (root / "vocab.txt").write_text("\n".join([*SPECIAL, *WORDS, "who", "is"]))
    keras.utils.set_random_seed(3)
    config = BertConfig(
        vocabulary_size=18,
        num_layers=1,
        num_heads=2,
        hidden_dim=16,
        intermediate_dim=32,
        max_sequence_length=64,
        initializer_range=0.3,
        dropout=0.0,
        attention_dropout=0.0,
    )
    now = schedules.PruneOnceSchedule(0.6, 0.6, 0, 0, 0, 1)
    pruned = tf_pof.prune(tf_pof.build(config), now)
    pruned.pruner.update(0)
    return tf_pof.save(
        tf_pof.strip(pruned),
        root / "sparse",
        str(root / "vocab.txt"),
        pruned.pruner.report(),
    )


def encoder(folder):
    """The encoder's and the pooler's kernels, by their last names."""
    tensors = load_file(os.path.join(folder, "model.safetensors"))
    return {
        name.removeprefix("bert."): value
        for name, value in tensors.items()
        if value.ndim == 2 and ("encoder." in name or "pooler." in name)
    }


def assert_zeros_stayed(before, after):
    before, after = encoder(before), encoder(after)
    assert len(before) == 7 and before.keys() == after.keys()
    for name, value in before.items():
        zeros = value == 0
        assert zeros.mean() == pytest.approx(0.6, abs=0.01)
        np.testing.assert_array_equal(after[name] == 0, zeros, err_msg=name)
    moved = [n for n, v in before.items() if (after[n] != v)[v != 0].any()]
    assert len(moved) >= 6  # A pooler that is not used does not learn.


def run(script, monkeypatch, *arguments):
    """The script's global names after it has run."""
    monkeypatch.setattr(sys, "argv", [script, *map(str, arguments)])
    return runpy.run_path(str(EXAMPLES / script))


def sentences(count):
    """Texts of three words, and the words."""
    draw = random.Random(0)
    return [draw.sample(WORDS, 3) for _ in range(count)]


def write_tsv(path, columns, rows):
    lines = ["\t".join(columns), *("\t".join(row) for row in rows)]
    path.write_text("\n".join(lines) + "\n")
    return path


def test_classify(sparse_model, tmp_path):
    texts = sentences(160)
    data = write_tsv(
        tmp_path / "train.tsv",
        ["sentence", "label"],
        [(" ".join(w), str(int("cat" in w))) for w in texts],
    )
    output = tmp_path / "classifier"
    # In a process of its own: the order of its imports is an example too.
    environment = {
        k: v for k, v in os.environ.items() if k != "TF_USE_LEGACY_KERAS"
    }
    done = subprocess.run(
        [
            sys.executable,
            EXAMPLES / "classify.py",
            data,
            f"--model={sparse_model}",
            f"--output={output}",
            "--epochs=12",
            "--learning_rate=3e-3",
        ],
        capture_output=True,
        text=True,
        cwd=EXAMPLES.parent,
        env=environment | {"PYTHONPATH": str(EXAMPLES.parent)},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "has lost zeros" not in done.stderr
    assert_zeros_stayed(sparse_model, output)
    model = tf_pof.load(output)
    claimed = tf_pof.load(sparse_model).sparsity["zeros"]
    assert model.sparsity["zeros"] == claimed
    x = WordPiece(model.vocab_file).encode([" ".join(w) for w in texts], 64)
    answers = model.predict(x, verbose=0)["logits"].argmax(-1)
    assert (answers == ["cat" in w for w in texts]).mean() > 0.9


def squad_file(path, count):
    """Contexts "red is cat . blue is dog ." with a question on each."""
    draw = random.Random(count)
    paragraphs = []
    for number in range(count):
        colours = draw.sample(WORDS[:3], 2)
        animals = draw.sample(WORDS[6:], 2)
        facts = [f"{c} is {a} ." for c, a in zip(colours, animals)]
        context = " ".join(facts)
        start = context.index(animals[0])
        answer = {"text": animals[0], "answer_start": start}
        question = {
            "id": str(number),
            "question": f"who is {colours[0]} ?",
            "answers": [answer],
        }
        paragraphs.append({"context": context, "qas": [question]})
    document = {"title": "t", "paragraphs": paragraphs}
    path.write_text(json.dumps({"version": "1.1", "data": [document]}))
    return path


def test_question_answering(sparse_model, tmp_path, monkeypatch, capsys):
    output = tmp_path / "reader"
    names = run(
        "question_answering.py",
        monkeypatch,
        squad_file(tmp_path / "train.json", 96),
        squad_file(tmp_path / "dev.json", 20),
        f"--model={sparse_model}",
        f"--output={output}",
        "--sequence_length=32",
        "--epochs=8",
        "--learning_rate=3e-3",
    )
    losses = names["history"].history["loss"]
    assert losses[-1] < 0.7 * losses[0]
    assert_zeros_stayed(sparse_model, output)
    assert tf_pof.load(output).head == "span"
    # Of 9 words of a context one is right.
    assert names["scores"]["exact_match"] > 30
    assert str(names["scores"]) in capsys.readouterr().out


def test_own_head(sparse_model, tmp_path, monkeypatch):
    topics = {"red": "colour", "cat": "animal", "dog": "animal"}
    rows = [
        (" ".join(w), " ".join({topics[x] for x in w if x in topics}))
        for w in sentences(160)
    ]
    data = write_tsv(tmp_path / "topics.tsv", ["sentence", "topics"], rows)
    output = tmp_path / "topics"
    names = run(
        "own_head.py",
        monkeypatch,
        data,
        f"--model={sparse_model}",
        f"--output={output}",
        "--epochs=12",
        "--learning_rate=3e-3",
    )
    losses = names["history"].history["loss"]
    assert losses[-1] < 0.5 * losses[0]
    assert names["topics"] == ["animal", "colour"]
    assert_zeros_stayed(sparse_model, output / "encoder")
    # The weights file alone brings the model back.
    model, x = names["model"], names["x"]
    expected = model.predict(x, verbose=0)
    for weight in model.weights:
        weight.assign(tf.ones_like(weight))
    model.load_weights(output / "model.weights.h5")
    np.testing.assert_array_equal(model.predict(x, verbose=0), expected)


def test_examples_are_short():
    for path in EXAMPLES.glob("*.py"):
        lines = path.read_text().splitlines()
        assert len(lines) <= 40 and max(map(len, lines)) <= 80, path
