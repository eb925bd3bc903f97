"""SQuAD files with anything in them are read, or refused in a sentence."""

import copy
import json

from hypothesis import given, settings, strategies as st

from tests.tasks.squad_files_test import EXAMPLES, V1, _rows, v2
from tf_pof.tasks import squad_files

_VALUES = (
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats()
    | st.text("a\n\0\ud83d é", max_size=5)
    | st.lists(st.integers(), max_size=2)
    | st.dictionaries(st.text(max_size=3), st.integers(), max_size=2)
)


def _paths(node, path=()):
    """Ways to every value of a document."""
    yield path
    if isinstance(node, dict | list):
        keys = node if isinstance(node, dict) else range(len(node))
        for key in keys:
            yield from _paths(node[key], (*path, key))


DOCUMENTS = [V1, v2(), list(_rows(V1)), {"data": list(_rows(v2()))}]
PLACES = [(i, p) for i, d in enumerate(DOCUMENTS) for p in _paths(d)]


@settings(max_examples=600, deadline=None)
@given(st.sampled_from(PLACES), st.booleans(), _VALUES)
def test_one_wrong_value_is_read_or_named(
    tmp_path_factory, place, removed, value
):
    index, path = place
    document = copy.deepcopy(DOCUMENTS[index])
    if path:
        node = document
        for key in path[:-1]:
            node = node[key]
        if removed:
            del node[path[-1]]
        else:
            node[path[-1]] = value
    else:
        document = value
    file = tmp_path_factory.mktemp("squad") / "a.json"
    # ascii: a lone surrogate cannot be written otherwise.
    file.write_text(json.dumps(document))
    for version in squad_files.VERSIONS:
        try:
            found, _ = squad_files.read_json(str(file), version)
        except ValueError as error:
            assert str(error).startswith(str(file))
            assert str(error).endswith(".") and "\n" not in str(error)
            continue
        assert found and len({e.id for e in found}) == len(found)
        for example in found:
            fields = (example.id, example.title, example.question)
            assert all(type(f) is str for f in (*fields, example.context))
            assert all(type(a) is str and a.strip() for a in example.answers)
            assert all(type(s) is int for s in example.answer_starts)
            assert min(example.answer_starts, default=0) >= 0
            assert len(example.answers) == len(example.answer_starts)
            assert example.answers or version == "2.0"


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=6), st.integers(0, 300), st.integers(0, 6))
def test_any_bytes_are_read_or_refused(tmp_path_factory, noise, place, length):
    contents = json.dumps(V1).encode()
    contents = contents[:place] + noise + contents[place + length :]
    file = tmp_path_factory.mktemp("squad") / "a.json"
    file.write_bytes(contents)
    try:
        found, _ = squad_files.read_json(str(file), "1.1")
    except ValueError as error:
        assert str(error).startswith(str(file)) and str(error).endswith(".")
    else:
        assert [len(e.answers) for e in found] == [
            len(e.answers) for e in EXAMPLES
        ]
