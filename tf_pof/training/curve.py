"""curve.jsonl: a point of the training curve, a JSON object, on each line."""

import json
import os

from tf_pof import files, untrusted

# A point has some hundred bytes, and a run up to millions of steps.
_MAX_BYTES = 1 << 30


class Point(untrusted.Schema):
    """What a point has in any case."""

    step: int


def append(path: str, point: dict) -> None:
    """Adds a point.

    Raises:
        OSError: if it cannot be written.
    """
    try:
        with open(path, "a", encoding="utf-8") as file:
            file.write(json.dumps(point) + "\n")
    except OSError as error:
        raise OSError(
            f"{path} could not be written ({error.strerror}): make room; the "
            "same command goes on from the last checkpoint."
        ) from error


def drop_points_after(path: str, step: int) -> None:
    """Forgets the part of a curve that a resumed run draws again.

    Raises:
        ValueError: naming the line that is no point of a curve. A last line
            without an end was cut short by a kill, and is forgotten.
    """
    if not os.path.exists(path):
        return
    contents = untrusted.read_bytes(path, _MAX_BYTES)
    *lines, _ = contents.split(b"\n")
    kept = []
    for number, line in enumerate(lines, 1):
        point = untrusted.parse_json(line, Point, f"{path}:{number}")
        if point.step <= step:
            kept.append(line + b"\n")
    if (kept := b"".join(kept)) != contents:
        files.write_bytes(path, kept)
