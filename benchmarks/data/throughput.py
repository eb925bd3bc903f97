"""Speed of data preparation and of reading, on one core.

    .venv/bin/python benchmarks/data/throughput.py [text file]

Without a file: ten copies of the bundled sample (42 MB of English). Prints
MB of text per second of each stage by itself, of the whole command's pipeline
(start-up of Python and TensorFlow left out), and the examples per second that
the prepared data is read at, masking included. On a machine that does other
work, the figure for CPU time is the one to look at.
"""

import lzma
import os
import sys
import tempfile
import time

import numpy as np
import rich.console
import rich.table

from tf_pof.data import documents
from tf_pof.data import examples
from tf_pof.data import inputs
from tf_pof.data import pipeline
from tf_pof.data import records
from tf_pof.data import sample
from tf_pof.data import sentences
from tf_pof.data import tokenized
from tf_pof.data.tokenizer import WordPiece

BATCH = 64
STEPS = 400


class Table:
    """Times what it is given and prints it against a volume."""

    def __init__(self, title):
        self.table = rich.table.Table("stage", title=title)
        for name in ("wall s", "CPU s", "per wall s", "per CPU s"):
            self.table.add_column(name, justify="right")

    def time(self, name, volume, unit, function):
        wall, cpu = time.perf_counter(), time.process_time()
        result = function()
        wall = time.perf_counter() - wall
        cpu = time.process_time() - cpu
        self.table.add_row(
            name,
            f"{wall:.2f}",
            f"{cpu:.2f}",
            f"{volume / wall:,.1f} {unit}",
            f"{volume / cpu:,.1f} {unit}",
        )
        return result


def sample_text(folder: str) -> str:
    path = os.path.join(folder, "sample.txt")
    with open(path, "wb") as file:
        for source in sample.text_paths() * 10:
            with lzma.open(source) as text:
                file.write(text.read() + b"\n\n")
    return path


def time_stages(table, path, folder):
    """Runs each stage by itself on at most 32 MB of the text."""
    tokenizer = WordPiece(sample.vocab_path())
    tokenizer.tokenize_strings(["warm up"])
    piece = documents.Piece((documents.TextRange(path, 0, 32 << 20),), 0)
    size = min(32 << 20, os.path.getsize(path)) / 1e6
    texts = table.time(
        "read", size, "MB",
        lambda: list(documents.read_piece(piece, "blank_line")),
    )  # fmt: skip
    split = table.time(
        "split into sentences", size, "MB",
        lambda: [sentences.split(text) for text in texts],
    )  # fmt: skip
    flat = [sentence for document in split for sentence in document]
    ragged = table.time(
        "tokenize", size, "MB", lambda: tokenizer.tokenize_strings(flat)
    )
    found = tokenized.Documents(
        ragged.flat_values.numpy(),
        ragged.row_lengths().numpy(),
        np.array([len(document) for document in split]),
        np.arange(len(split), dtype=np.uint64),
    )
    made = table.time(
        "pair segments", size, "MB",
        lambda: examples.build(
            found, examples.PairOptions(), tokenizer.cls_id,
            tokenizer.sep_id,
        ),
    )  # fmt: skip
    order = np.random.default_rng(0).permutation(len(made.lengths))
    made = table.time("shuffle", size, "MB", lambda: made.take(order))
    table.time(
        "serialize and compress", size, "MB",
        lambda: records.write_shard(
            os.path.join(folder, "shard"), made.token_ids, made.lengths,
            made.segment_b_start, made.next_sentence_label,
        ),
    )  # fmt: skip


def main():
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    with tempfile.TemporaryDirectory() as folder:
        path = sys.argv[1] if len(sys.argv) > 1 else sample_text(folder)
        table = Table(f"{os.path.basename(path)}, one core")
        time_stages(table, path, folder)
        output = os.path.join(folder, "prepared")
        table.time(
            "all, end to end", os.path.getsize(path) / 1e6, "MB",
            lambda: pipeline.prepare(
                documents.plan_files([path]), output, sample.vocab_path(),
                num_workers=1,
            ),
        )  # fmt: skip
        batches = iter(inputs.pretraining_dataset(output, "train", BATCH))
        next(batches)

        def read():
            for _ in range(STEPS):
                next(batches)

        table.time(
            "read 128-token batches", BATCH * STEPS, "examples", read
        )
        rich.console.Console().print(table.table)


if __name__ == "__main__":
    main()
