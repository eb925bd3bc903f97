"""TFLite's Task Library runs our classifiers, from its last release."""

import json
import subprocess
import sys
import venv

import numpy as np
import pytest

from tests.export import exported

_CODE = """
import json, sys
from tflite_support.task import text
classifier = text.BertNLClassifier.create_from_file(sys.argv[1])
found = classifier.classify(sys.argv[2]).classifications[0].categories
print(json.dumps({x.category_name: x.score for x in found}))
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """An interpreter that has the library, which wants an old numpy."""
    if sys.version_info[:2] != (3, 11):
        pytest.skip("its last wheels are for Python 3.11")
    folder = tmp_path_factory.mktemp("venv")
    venv.create(folder, with_pip=True)
    path = str(folder / "bin" / "python")
    packages = ["tflite-support==0.4.4", "numpy<2"]
    subprocess.run([path, "-m", "pip", "install", "-q", *packages], check=True)
    code = "from tflite_support.task import text"
    done = subprocess.run([path, "-c", code], capture_output=True, text=True)
    if done.returncode:
        # It asks for a library of the system, libusb-1.0.
        pytest.skip(done.stderr.splitlines()[-1])
    return path


@pytest.mark.slow
def test_a_classifier_runs_and_gives_its_labels_and_logits(python, tmp_path):
    contents = exported.sst2().contents
    path = tmp_path / "sst2.tflite"
    path.write_bytes(contents)
    done = subprocess.run(
        [python, "-c", _CODE, str(path), "c d x"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    inputs = exported.encode("c d x")
    expected = exported.logits(contents, inputs)[0]
    assert list(found) == list(exported.LABELS)
    # Steps of the int8 logits, one apart in another release's kernels.
    step = np.ptp(expected) / 20
    np.testing.assert_allclose(list(found.values()), expected, atol=step)
