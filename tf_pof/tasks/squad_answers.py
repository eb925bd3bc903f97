"""Where in its context an answer is, however the file counts characters.

Files state the character that an answer begins with. Tools of other
languages count UTF-16 units or bytes, others have normalized the text or
joined its blanks after counting, or have done so to the answer alone.
"""

from collections.abc import Iterator
import dataclasses
import functools
import re
import unicodedata

_BLANKS = re.compile(r"\s+")


def locate(context: str, answer: str, stated: int) -> tuple[int, int] | None:
    """First character of an answer and the one behind its last.

    An answer that is not at `stated` is looked for elsewhere, also with
    other blanks and other Unicode normal forms. Of several places the one
    counts that another way of counting puts at `stated`.

    Returns:
        The place; None if the answer is nowhere, or if it is not to be told
        which of several places is meant.
    """
    if not answer.strip():
        return None
    if stated >= 0 and context.startswith(answer, stated):
        return stated, stated + len(answer)
    exact = [(i, i + len(answer)) for i in _places(context, answer)]
    places = dict(_folded_places(context, answer.strip())) | dict(exact)
    if stated in places:
        return stated, places[stated]
    meant = {
        begin: end
        for begin, end in places.items()
        if stated in _counts(context, begin)
    }
    for candidates in (meant, dict(exact), places):
        if len(candidates) == 1:
            return next(iter(candidates.items()))
    return None


def _counts(context: str, place: int) -> set[int]:
    """What other tools may call a place in the context."""
    before = context[:place]
    return {
        len(before.encode("utf-16-le")) // 2,
        len(before.encode()),
        len(unicodedata.normalize("NFC", before)),
        len(unicodedata.normalize("NFD", before)),
        len(before.replace("\r\n", "\n")),
        len(_BLANKS.sub(" ", before)),
        len(_BLANKS.sub(" ", before).lstrip()),
    }


def _places(text: str, part: str) -> Iterator[int]:
    place = text.find(part)
    while place >= 0:
        yield place
        place = text.find(part, place + 1)


def _folded_places(context: str, answer: str) -> Iterator[tuple[int, int]]:
    """Begin and end of all places that equal the answer when folded."""
    text, part = _fold(context), _fold(answer).text
    for place in _places(text.text, part):
        begin = text.begins.get(place)
        end = text.ends.get(place + len(part))
        if begin is not None and end is not None:
            yield begin, end


@dataclasses.dataclass(frozen=True)
class _Folded:
    """A text in NFD with each run of blanks as one.

    Attributes:
        text: so.
        begins, ends: the place in the original where a letter with its marks
            begins or ends, by the place in `text`; no answer begins or ends
            within one.
    """

    text: str
    begins: dict[int, int]
    ends: dict[int, int]


@functools.lru_cache(maxsize=256)
def _fold(text: str) -> _Folded:
    parts, begins, ends = [], {}, {}
    size = place = 0
    while place < len(text):
        stop = place + 1
        if text[place].isspace():
            while stop < len(text) and text[stop].isspace():
                stop += 1
            part = " "
        else:
            while stop < len(text) and unicodedata.combining(text[stop]):
                stop += 1
            part = unicodedata.normalize("NFD", text[place:stop])
        parts.append(part)
        begins[size], ends[size + len(part)] = place, stop
        size += len(part)
        place = stop
    return _Folded("".join(parts), begins, ends)
