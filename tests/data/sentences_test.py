"""Sentence splitting on text whose sentences are known."""

from hypothesis import given, strategies as st
import pytest

from tf_pof.data import sentences

CASES = [
    ["He came.", "She left!", "Why?", "Nobody knows."],
    ["Mr. Smith met Dr. Jones at St. Mary's.", "They talked."],
    ["J. R. R. Tolkien wrote it.", "It sold well."],
    ["It cost 3.14 dollars.", "In 1997 it fell by 2.5 %."],
    ['"Stop!" he said.', '"I will not," she replied.', "Then they left."],
    ["See Fig. 3 and No. 5 for details, e.g. The table.", "Done."],
    ["The U.S. Army came in Jan. 1942.", "It left (at last).", "[It did.]"],
    ["Wait... what?", "Yes."],
    ["“Quoted text.”", "‘More.’", "End"],
    ["It was I.", "He said no.", "No.", "Never."],
]


@pytest.mark.parametrize("expected", CASES)
def test_finds_the_sentences(expected):
    assert sentences.split(" ".join(expected)) == expected


def test_splits_chinese_without_spaces():
    text = "我来了。你呢？他说：「好！」我们走。"
    assert sentences.split(text) == ["我来了。", "你呢？", "他说：「好！」", "我们走。"]


def test_a_line_end_ends_a_sentence_unless_the_text_is_wrapped():
    text = "A HEADING\nThe first line goes\non here. And\nends.\nNext line"
    assert sentences.split(text) == [
        "A HEADING",
        "The first line goes\non here.",
        "And\nends.",
        "Next line",
    ]


@given(st.text(max_size=300))
def test_keeps_every_character_that_is_not_space(text):
    joined = "".join(sentences.split(text))
    assert "".join(joined.split()) == "".join(text.split())


@given(st.text(alphabet="aB1.?! \n\"'(", max_size=80))
def test_gives_no_empty_sentence(text):
    assert all(s and s == s.strip() for s in sentences.split(text))
