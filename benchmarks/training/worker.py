"""A process that takes a training step whenever it is told to.

Shared by all engines, so it imports nothing but the standard library. The
driver writes a line, the worker takes a step and answers with one line of
JSON: seconds, loss and the peak resident memory of the process in bytes.
"""

import json
import resource
import sys
import time


def serve(step, **more):
    """Answers every line of standard input with the cost of `step()`.

    Args:
        step: takes one training step and returns its loss as a float.
        **more: added to every answer.
    """
    out = sys.stdout
    sys.stdout = sys.stderr  # Whatever a library prints is no answer.
    print(json.dumps({"ready": step()}), file=out, flush=True)
    for _ in sys.stdin:
        began = time.perf_counter()
        loss = step()
        seconds = time.perf_counter() - began
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        answer = {"seconds": seconds, "loss": loss, "peak_bytes": peak, **more}
        print(json.dumps(answer), file=out, flush=True)


def batch(rows, length, slots, vocabulary):
    """The same full-length batch for every engine, as nested lists.

    Returns:
        tokens [rows][length], positions [rows][slots] in order,
        labels [rows][slots].
    """
    import random

    r = random.Random(0)
    tokens = [
        [r.randrange(1000, vocabulary) for _ in range(length)]
        for _ in range(rows)
    ]
    positions = [sorted(r.sample(range(length), slots)) for _ in range(rows)]
    labels = [
        [r.randrange(1000, vocabulary) for _ in range(slots)]
        for _ in range(rows)
    ]
    return tokens, positions, labels
