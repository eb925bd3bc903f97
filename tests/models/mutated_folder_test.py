"""Folders that anybody may have changed load, or say one sentence."""

import json
import pathlib

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
import numpy as np
import pytest

import tf_pof
from tf_pof.data.tokenizer_settings import TokenizerSettings
from tf_pof.models import bert
from tf_pof.models.config import BertConfig

CONFIG = BertConfig(
    vocabulary_size=11,
    num_layers=1,
    num_heads=2,
    hidden_dim=4,
    intermediate_dim=6,
    max_sequence_length=8,
)

# Files, and whether they are of a quantized model.
FILES = pytest.mark.parametrize(
    "name, quantized",
    [
        ("config.json", False),
        ("sparsity.json", False),
        ("tokenizer_config.json", False),
        ("quantization.json", True),
    ],
)
# Not shrunk: a model is built for every example that loads.
SEARCH = settings(
    deadline=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
WRONG = (
    None,
    True,
    "",
    "x",
    "1",
    "\n" * 999,
    [],
    {},
    [[]],
    {"": None},
    0,
    -1,
    1,
    2,
    0.5,
    1e-300,
    1e300,
    10**12,
    10**400,
    float("nan"),
    float("inf"),
    float("-inf"),
)


@pytest.fixture(scope="module")
def wholes(tmp_path_factory):
    """Folders with all the files, and the current one to change them in."""
    model = bert.build(CONFIG, "classifier", 3)
    model.labels = ("no", "maybe", "yes")
    model.tokenizer_settings = TokenizerSettings(True)
    rounded = tf_pof.quantize(model, "^layer_0_(query|key)")
    rounded.set_ranges({name: (-3.0, 3.0) for name in rounded.ranges()})
    tensors = {"layer_0_query/kernel": {"zeros": 4, "size": 16}}
    sparsity = {"sparsity": 0.25, "zeros": 4, "size": 16, "tensors": tensors}
    here = tmp_path_factory.mktemp("here")
    with pytest.MonkeyPatch.context() as patch:
        # Sentences hold the path: it is a short one.
        patch.chdir(here)
        for name, kind in (("float", model), ("int8", rounded)):
            tf_pof.save(kind, name, sparsity=sparsity)
        yield


def places(value):
    """All paths of keys and indices into a JSON value."""
    yield ()
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from ((key, *rest) for rest in places(inner))
    elif isinstance(value, list):
        for i, inner in enumerate(value[:3]):
            yield from ((i, *rest) for rest in places(inner))


def changed(value, place, new):
    """A copy with another value at a place; None removes a key."""
    if not place:
        return new
    first, *rest = place
    copy = value.copy()
    if not rest and new is None and isinstance(value, dict):
        del copy[first]
    else:
        copy[first] = changed(value[first], rest, new)
    return copy


@st.composite
def mutations(draw, contents: bytes):
    value = json.loads(contents)
    for _ in range(draw(st.integers(1, 2))):
        place = draw(st.sampled_from(list(places(value))))
        value = changed(value, place, draw(st.sampled_from(WRONG)))
    text = json.dumps(value).encode()
    kind = draw(st.integers(0, 5))
    if kind == 0:
        cut = draw(st.integers(0, len(text)))
        text = text[:cut] + draw(st.binary(max_size=9)) + text[cut + 3 :]
    elif kind == 1:
        text = text.replace(b'"x"', b"[" * 9_999)
    return text


def load_and_compute(folder):
    model = tf_pof.load(folder)
    ids = np.arange(8, dtype=np.int32)[None] % 11
    batch = {
        name: ids % 2 if name == "segment_ids" else ids
        for name in model.input_names
    }
    for name, value in model(batch).items():
        assert np.isfinite(value).all(), name
    return model


def finite_or_one_sentence(folder):
    try:
        model = load_and_compute(folder)
    except (ValueError, OSError) as error:
        assert "\n" not in str(error) and len(str(error)) < 400, error
        return
    # What was loaded can be saved.
    tf_pof.save(model, "saved")


def check(name, quantized, change):
    folder = pathlib.Path("int8" if quantized else "float")
    kept = (folder / name).read_bytes()
    (folder / name).write_bytes(change(kept))
    try:
        finite_or_one_sentence(folder)
    finally:
        (folder / name).write_bytes(kept)


def test_unchanged_folders_load(wholes):
    assert load_and_compute("float").labels == ("no", "maybe", "yes")
    assert len(load_and_compute("int8").ranges()) == 3


@FILES
@settings(SEARCH, max_examples=12)
@given(data=st.data())
def test_changed_files_load_or_say_one_sentence(name, quantized, wholes, data):
    check(name, quantized, lambda kept: data.draw(mutations(kept)))


@FILES
@settings(SEARCH, max_examples=15)
@given(contents=st.binary(max_size=60))
def test_files_of_any_bytes_say_one_sentence(
    name, quantized, wholes, contents
):
    check(name, quantized, lambda kept: contents)
