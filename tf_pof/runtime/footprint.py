"""Memory and start of an engine, measured in a process of its own."""

import dataclasses
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys

from tf_pof.runtime.session import Engine, Session, Shape

_MEMORY = re.compile(r"^(VmRSS|RssAnon|RssFile):\s+(\d+) kB$", re.MULTILINE)


@dataclasses.dataclass(frozen=True)
class Footprint:
    """What a model takes that a process without it does not.

    Attributes:
        resident_bytes: of memory, after the first result.
        anonymous_bytes: of these, what is not the file's own pages.
        load_seconds: from nothing to a model that can be called; the file is
            in the system's cache.
        ready_seconds: to the first result.
    """

    resident_bytes: int
    anonymous_bytes: int
    load_seconds: float
    ready_seconds: float


def measure(engine: Engine, shape: Shape, processes: int = 3) -> Footprint:
    """Medians of some processes that load and compute once.

    Raises:
        ValueError: if the engine cannot compute the model at this shape.
        OSError: if a process cannot be started, or dies.
    """
    request = [dataclasses.asdict(engine), dataclasses.asdict(shape)]
    command = [sys.executable, "-m", "tf_pof.runtime.footprint"]
    found = []
    for _ in range(processes):
        done = subprocess.run(
            [*command, json.dumps(request)],
            capture_output=True,
            text=True,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(sys.path),
                # Its threads spin for a while once NumPy is there, on
                # processors that the model is loaded with.
                "OPENBLAS_NUM_THREADS": "1",
            },
        )
        if done.returncode != 0:
            *_, last = done.stderr.strip().splitlines() or ["no word"]
            raise OSError(
                f"{engine.name} failed in a process of its own with code "
                f"{done.returncode}: {last}"
            )
        found.append(json.loads(done.stdout.splitlines()[-1]))
    fields = dataclasses.fields(Footprint)
    return Footprint(
        *(statistics.median(each[f.name] for each in found) for f in fields)
    )


def _memory():
    """Bytes by name, of this process."""
    status = pathlib.Path("/proc/self/status").read_text()
    return {name: int(kb) * 1024 for name, kb in _MEMORY.findall(status)}


def main(argv: list[str]) -> None:
    """Prints the footprint that the argument asks for."""
    engine, shape = json.loads(argv[1])
    before = _memory()
    session = Session(Engine(**engine), Shape(**shape))
    after = _memory()
    footprint = Footprint(
        after["VmRSS"] - before["VmRSS"],
        after["RssAnon"] - before["RssAnon"],
        session.load_seconds,
        session.ready_seconds,
    )
    print(json.dumps(dataclasses.asdict(footprint)))


if __name__ == "__main__":
    main(sys.argv)
