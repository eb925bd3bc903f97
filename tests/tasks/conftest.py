"""GLUE in small: its official files, and TFDS' own builder run on them."""

import pathlib

import pytest
import tensorflow_datasets as tfds

from tests.tasks import tiny

# Quotes are characters like others in GLUE's files, closed or not.
_TEXTS = [
    'He said "no',
    '"Quoted" and more.',
    "Ünïcode — and a line\u2028separator",
    "plain",
    "a , b",
    '"all of it"',
    "last",
]


def _texts(first, count):
    return [_TEXTS[(first + i) % len(_TEXTS)] for i in range(count)]


def _lines(header, rows):
    lines = [header] if header else []
    return "".join("\t".join(map(str, row)) + "\n" for row in lines + rows)


def _plain(columns, labels, label_column="label"):
    """train, dev and test files of an index, texts and a label."""
    files = {}
    for number, split in enumerate(["train", "dev", "test"]):
        names = ["index", *columns]
        names += [label_column] if split != "test" else []
        rows = [
            [i, *_texts(i + number, len(columns))]
            + ([labels[i % len(labels)]] if split != "test" else [])
            for i in range(5 - number)
        ]
        files[split] = _lines(names, rows)
    return files


def _cola():
    files = {}
    for split, count in [("train", 5), ("dev", 4)]:
        files[split] = _lines(
            None,
            [
                ["gj04", i % 2, "*" if i % 2 == 0 else "", text]
                for i, text in enumerate(_texts(0, count))
            ],
        )
    rows = list(enumerate(_texts(2, 3)))
    files["test"] = _lines(["index", "sentence"], rows)
    return files


def _sst2():
    files = {
        split: _lines(
            ["sentence", "label"],
            [[t + " ", i % 2] for i, t in enumerate(_texts(0, count))],
        )
        for split, count in [("train", 5), ("dev", 4)]
    }
    rows = list(enumerate(_texts(2, 3)))
    files["test"] = _lines(["index", "sentence"], rows)
    return files


def _stsb():
    before = ["genre", "filename", "year", "old_index", "source1", "source2"]
    files = {}
    for split, count in [("train", 5), ("dev", 4), ("test", 3)]:
        names = ["index", *before, "sentence1", "sentence2"]
        names += ["score"] if split != "test" else []
        rows = []
        for i in range(count):
            row = [i, *before, *_texts(i, 2)]
            if split != "test":
                row.append(f"{i * 1.25:.3f}")
            # Some lines have more columns than the header.
            rows.append(row + (["extra", ""] if i == 1 else []))
        files[split] = _lines(names, rows)
    return files


def _qqp():
    names = ["id", "qid1", "qid2", "question1", "question2", "is_duplicate"]
    files = {}
    for split, count in [("train", 5), ("dev", 4)]:
        rows = [[i, 7, 8, *_texts(i, 2), i % 2] for i in range(count)]
        # A line break within a question, as the official files have.
        rows[2:3] = [[2, 7, 8, '"What is'], ['this?"', "That?", 0]]
        files[split] = _lines(names, rows)
    rows = [[i, *_texts(i, 2)] for i in range(3)]
    files["test"] = _lines(["id", "question1", "question2"], rows)
    return files


def _mnli():
    before = ["promptID", "pairID", "genre"]
    for kind in ("binary_parse", "parse"):
        before += [f"sentence1_{kind}", f"sentence2_{kind}"]
    labels = ["neutral", "entailment", "contradiction"]
    files = {}
    for split, count, votes in [
        ("train", 5, 1),
        ("dev_matched", 4, 5),
        ("dev_mismatched", 3, 5),
        ("test_matched", 3, 0),
        ("test_mismatched", 2, 0),
    ]:
        names = ["index", *before, "sentence1", "sentence2"]
        if votes:
            names += [f"label{i + 1}" for i in range(votes)] + ["gold_label"]
        rows = []
        for i in range(count):
            row = [i, *before, *_texts(i + votes, 2)]
            if votes:
                # The first annotator disagrees with the others.
                row += [labels[(i + 1) % 3], *[labels[i % 3]] * votes]
            rows.append(row)
        files[split] = _lines(names, rows)
    return files


def _mrpc():
    """GLUE's three files, and Microsoft's that they are made of."""
    names = ["Quality", "#1 ID", "#2 ID", "#1 String", "#2 String"]
    rows = [[i % 2, 10 + i, 20 + i, *_texts(i, 2)] for i in range(9)]
    dev = [2, 5, 6]
    train = [row for i, row in enumerate(rows) if i not in dev]
    test = [[1, 30 + i, 40 + i, *_texts(i, 2)] for i in range(3)]
    glue = {
        "train.tsv": "\ufeff" + _lines(names, train),
        "dev.tsv": _lines(names, [rows[i] for i in dev]),
        "test.tsv": _lines(
            ["index", *names[1:]], [[i, *row[1:]] for i, row in enumerate(test)]
        ),
    }
    microsoft = {
        "msr_paraphrase_train.txt": "\ufeff" + _lines(names, rows),
        "msr_paraphrase_test.txt": "\ufeff" + _lines(names, test),
        "dev_ids.tsv": _lines(None, [rows[i][1:3] for i in dev]),
    }
    for name in list(microsoft)[:2]:
        microsoft[name] = microsoft[name].replace("\n", "\r\n")
    return glue, microsoft


def _write(folder, files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_bytes(text.encode())


@pytest.fixture(scope="session")
def glue_raw(tmp_path_factory) -> pathlib.Path:
    """A folder as GLUE's download script leaves it: read it only."""
    folder = tmp_path_factory.mktemp("glue")
    sentences = ["sentence1", "sentence2"]
    tasks = {
        "CoLA": _cola(),
        "SST-2": _sst2(),
        "STS-B": _stsb(),
        "QQP": _qqp(),
        "MNLI": _mnli(),
        "QNLI": _plain(
            ["question", "sentence"], ["entailment", "not_entailment"]
        ),
        "RTE": _plain(sentences, ["not_entailment", "entailment"]),
        "WNLI": _plain(sentences, [1, 0]),
    }
    for name, files in tasks.items():
        _write(
            folder / name, {f"{split}.tsv": t for split, t in files.items()}
        )
    _write(folder / "MRPC", _mrpc()[0])
    return folder


@pytest.fixture(scope="session")
def mrpc_microsoft(tmp_path_factory) -> pathlib.Path:
    """MRPC as Microsoft ships it, with GLUE's choice of validation pairs."""
    folder = tmp_path_factory.mktemp("microsoft")
    _write(folder / "MRPC", _mrpc()[1])
    return folder


@pytest.fixture(scope="session")
def glue_tfds(glue_raw, mrpc_microsoft, tmp_path_factory) -> str:
    """What TFDS' own builder prepares from these files, for all tasks."""
    folder = str(tmp_path_factory.mktemp("prepared"))

    def download(self, urls):
        del self
        if isinstance(urls, dict):
            return {
                "train": mrpc_microsoft / "MRPC/msr_paraphrase_train.txt",
                "test": mrpc_microsoft / "MRPC/msr_paraphrase_test.txt",
                "dev_ids": mrpc_microsoft / "MRPC/dev_ids.tsv",
            }
        return glue_raw

    with pytest.MonkeyPatch.context() as patch:
        manager = tfds.download.DownloadManager
        patch.setattr(manager, "download", download)
        patch.setattr(manager, "download_and_extract", download)
        for task in "cola sst2 mrpc stsb qqp mnli qnli rte wnli".split():
            tfds.builder(f"glue/{task}", data_dir=folder).download_and_prepare()
    return folder


@pytest.fixture(scope="session")
def tiny_vocab(tmp_path_factory) -> str:
    return tiny.write_vocabulary(tmp_path_factory.mktemp("tiny") / "vocab.txt")


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory, tiny_vocab) -> str:
    """Folder of a sparse encoder without a head: read it only."""
    folder = tmp_path_factory.mktemp("tiny") / "sparse"
    return tiny.save_model(folder, tiny_vocab)


@pytest.fixture(scope="session")
def tiny_tasks(tmp_path_factory) -> dict[str, dict]:
    """Options of the small tasks by name; "lie <name>" has wrong labels."""
    tasks = {}
    for name, write in tiny.TASKS.items():
        for lie in (False, True):
            root = tmp_path_factory.mktemp(name)
            tasks["lie " * lie + name] = write(root, lie)
    return tasks


@pytest.fixture(scope="session")
def finished(tmp_path_factory, tiny_tasks, tiny_model, tiny_vocab):
    """Maps a task's name to the output of a run on its labels: read only.

    "pruned" is one that prunes a dense model on sst2.
    """
    root = tmp_path_factory.mktemp("finished")
    # All at once, in processes of their own.
    started = {
        name: tiny.finetune(
            tiny_tasks[name], tiny_model, root / name, **tiny.RUN
        )
        for name in tiny.TASKS
    }
    dense = tiny.save_model(root / "dense", tiny_vocab, sparse=False)
    started["pruned"] = tiny.finetune(
        tiny_tasks["sst2"],
        dense,
        root / "pruned",
        final_sparsity=tiny.SPARSITY,
        freeze_embeddings=True,
        **tiny.RUN,
    )

    def output(name: str) -> pathlib.Path:
        started[name].finish()
        return root / name

    return output
