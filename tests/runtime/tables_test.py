"""Tables fit a terminal of 80 columns, and no word of them is cut."""

import io
import re

import rich.console

from tf_pof.runtime import tables
from tf_pof.runtime.session import Shape


def printed(show, *arguments):
    target = io.StringIO()
    show(*arguments, rich.console.Console(file=target, width=80))
    text = target.getvalue()
    assert all(len(line) <= 80 for line in text.splitlines())
    assert "…" not in text
    return text


def test_times_of_three_engines():
    names = [tables.LITERT, tables.OTHER, tables.OURS]
    row = {
        "sequence_length": 384,
        "batch_size": 32,
        "num_threads": 2,
        "seconds": {"LiteRT": 12.0, "other": 6.0, "tf_pof": 3.0},
        "largest_difference": {"LiteRT": 0.25},
    }
    text = printed(tables.show_times, names, [row, row])
    assert "ratio: LiteRT and other to tf_pof" in text
    words = ["tokens", "batch", "threads", "LiteRT, ms", "ratio", "other, ms"]
    for word in [*words, "tf_pof, ms", "12000.000", "4.00x", "2.00x"]:
        assert word in text
    assert "LiteRT's: 0.25." in text


def test_a_profile_with_long_kernel_names():
    steps = [
        ("linear", "3072x768 windows_avx512vbmi 90 % zeros, panels", 12, 0.5),
        ("attention, scores and values", "12 heads of 64", 12, 0.25),
    ]
    found = {
        "sequence_length": 384,
        "batch_size": 1,
        "num_threads": 1,
        "calls": 10,
        "seconds": 0.1,
        "steps": [
            dict(zip(("kind", "detail", "calls", "seconds"), step))
            for step in steps
        ],
    }
    text = printed(tables.show_profile, found)
    for word in ("shape and kernel", "microseconds", "50000.0", "50.0%"):
        assert word in text
    assert re.search(r"other +LiteRT +1 +25000.0 +25.0%", text)
    assert "100000.0" in text


def test_footprints_of_three_engines():
    each = {
        "resident_bytes": 440e6,
        "load_seconds": 12.0,
        "ready_seconds": 13.0,
    }
    ours = {name: value / 4 for name, value in each.items()}
    found = {"LiteRT": each, "other": each, "tf_pof": ours}
    text = printed(tables.show_footprints, found, Shape(384, 32, 2))
    assert "first result, ms" in text and "memory, MB" in text
    assert text.count("0.25x") == 6 and text.count("1.00x") == 3
