"""What every refusal of a hostile file has in common."""

import os
import resource
import time

import pytest

from tf_pof.models.resolve import resolve

POINTER = (
    "version https://git-lfs.github.com/spec/v1\n"
    "oid sha256:53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128\n"
    "size 90868376\n"
)


def refused(folder, sentence, seconds=2.0):
    """Resolving a folder gives one sentence in little time and memory."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begin = time.process_time()
    with pytest.raises((ValueError, OSError), match=sentence) as caught:
        resolve(os.fspath(folder))
    assert time.process_time() - begin < seconds
    # Kilobytes.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 5e5
    message = str(caught.value)
    assert "\n" not in message and len(message) < 600
