"""JSON documents as hostile or careless people change them."""

import copy
import json

from hypothesis import strategies as st

# What may stand in the place of anything.
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from([0, -1, 1, 2**31, 10**12, 10**30, -(10**12)]),
    st.sampled_from([0.5, -1.0, float("nan"), float("inf"), 1e300]),
    st.text(max_size=8),
    st.sampled_from(["", "../x", "\u0000", "\ud800", "gelu", "1"]),
    st.lists(st.integers(-2, 2), max_size=3),
    st.dictionaries(st.text(max_size=3), st.integers(-2, 2), max_size=2),
)


def places(value, way=()):
    """The ways to all values of a document, itself the first."""
    yield way
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from places(inner, (*way, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from places(inner, (*way, index))


@st.composite
def documents(draw, original, most: int = 3):
    """`original` with up to `most` of its values dropped or exchanged."""
    changed = copy.deepcopy(original)
    for _ in range(draw(st.integers(1, most))):
        way = draw(st.sampled_from(list(places(changed))))
        if not way:
            changed = draw(VALUES) if draw(st.booleans()) else changed
            continue
        holder = changed
        for step in way[:-1]:
            holder = holder[step]
        if draw(st.booleans()):
            holder[way[-1]] = draw(VALUES)
        elif isinstance(holder, dict):
            del holder[way[-1]]
    return changed


def texts(original):
    """The same as text, sometimes cut off or nested deep."""
    plain = documents(original).map(json.dumps)
    return st.one_of(
        plain,
        st.tuples(plain, st.integers(0, 60)).map(lambda x: x[0][: -x[1] or 1]),
        st.sampled_from(["[" * 100_000, '{"a":' * 5_000, "", "null", "\u0000"]),
        st.text(max_size=20),
    )
