"""What a piece of code takes of memory, in a process of its own."""

import subprocess
import sys

_CODE = """
import resource
{code}
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def peak_bytes(code: str) -> int:
    """The largest resident memory of a process that runs `code` on Linux."""
    done = subprocess.run(
        [sys.executable, "-c", _CODE.format(code=code)],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout.split()[-1]) * 1024
