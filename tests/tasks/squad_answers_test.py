"""Answers are found however their places were counted."""

import unicodedata

from hypothesis import given, settings, strategies as st
import pytest

from tf_pof.tasks.squad_answers import locate

CONTEXT = "The \U0001f600 café, the mill and the inn closed in 1943."


def _found(context, answer, stated):
    place = locate(context, answer, stated)
    return place and context[slice(*place)]


def test_an_answer_is_where_the_file_says():
    for place in (0, 12, 25):
        answer = CONTEXT[place : place + 3]
        assert answer.casefold() == "the"
        assert locate(CONTEXT, answer, place) == (place, place + 3)


@pytest.mark.parametrize(
    "count",
    [
        lambda text: len(text.encode("utf-16-le")) // 2,
        lambda text: len(text.encode()),
        lambda text: len(unicodedata.normalize("NFD", text)),
    ],
    ids=["UTF-16", "bytes", "NFD"],
)
def test_of_several_places_the_one_counts_that_others_count_to(count):
    # "the" stands twice, so the place alone tells which one is meant.
    for place in (12, 25):
        stated = count(CONTEXT[:place])
        assert stated != place
        assert locate(CONTEXT, "the", stated) == (place, place + 3)


def test_places_counted_in_another_normal_form_or_with_single_blanks():
    context = "Ame\u0301lie  met\r\n\r\nAnn; then Ann met Ame\u0301lie."
    second = context.rindex("Ann")
    counted = unicodedata.normalize("NFC", context[:second])
    assert len(counted) == second - 1
    assert locate(context, "Ann", len(counted)) == (second, second + 3)
    joined = " ".join(context[:second].split()) + " "
    assert len(joined) == second - 4
    assert locate(context, "Ann", len(joined)) == (second, second + 3)
    unix = context[:second].replace("\r\n", "\n")
    assert locate(context, "Ann", len(unix)) == (second, second + 3)


@pytest.mark.parametrize(
    "context, answer, expected",
    [
        ("It was 10\xa0km off.", "10 km", "10\xa0km"),
        ("It was 10\u202fkm off.", "10 km", "10\u202fkm"),
        ("It was 10 km off.", "10\xa0km", "10 km"),
        ("John  Smith was here.", "John Smith", "John  Smith"),
        ("John Smith was here.", "John  Smith", "John Smith"),
        ("Was John\r\n\tSmith here?", "John Smith", "John\r\n\tSmith"),
        ("Was John Smith here?", " John\nSmith ", "John Smith"),
        ("In a caf\xe9 here.", "cafe\u0301", "caf\xe9"),
        ("In a cafe\u0301 here.", "caf\xe9", "cafe\u0301"),
        # Two marks in either order are one letter.
        ("At a\u0323\u0302n.", "a\u0302\u0323n", "a\u0323\u0302n"),
        ("At \u1eadn.", "a\u0302\u0323n", "\u1eadn"),
        ("From \uac00\ub098 on.", "\u1100\u1161\ub098", "\uac00\ub098"),
    ],
)
def test_blanks_and_normal_forms_do_not_hide_an_answer(
    context, answer, expected
):
    for stated in (0, context.index(expected), 1000):
        assert _found(context, answer, stated) == expected


@pytest.mark.parametrize(
    "context, answer, stated",
    [
        ("the men and the boys", "the", 3),
        ("the men", "a queen", 0),
        ("the men", "", 0),
        ("the men", " ", 3),
        # A letter without its accent is another.
        ("In a caf\xe9 here.", "cafe", 5),
        ("a\xa0b a\xa0b", "a b", 1),
    ],
)
def test_what_is_not_there_or_not_to_be_told_is_none(context, answer, stated):
    assert locate(context, answer, stated) is None


@settings(max_examples=200, deadline=None)
@given(
    st.text("ab \n\xa0\U0001f600\xe9e\u0301,", max_size=20),
    st.text("ab\xe9\U0001f600", min_size=1, max_size=4),
    st.text("ab \n\xa0\U0001f600\xe9e,", max_size=20),
    st.sampled_from(["utf-32-le", "utf-16-le", "utf-8"]),
)
def test_an_answer_is_never_found_where_it_is_not(before, word, after, code):
    context = before + word + after
    width = {"utf-32-le": 4, "utf-16-le": 2, "utf-8": 1}[code]
    place = locate(context, word, len(before.encode(code)) // width)
    if place is not None:
        found = context[slice(*place)]
        for form in ("NFC", "NFD"):
            assert unicodedata.normalize(form, found) == (
                unicodedata.normalize(form, word)
            )
    if code == "utf-32-le" or context.count(word) == 1:
        assert place is not None
