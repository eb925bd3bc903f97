"""What BERT does to a text before it looks its words up.

It is what `BasicTokenizer` does in google-research/bert (tokenization.py),
and English sentences rarely need more of it than `str.lower`. Where that has
no such setting (accents kept in lower-cased text, Han without spaces) it is
what Hugging Face's tokenizers do, which have it. Theirs differ from the
reference elsewhere: they drop private and unassigned characters, know no
final sigma, and take "[MASK]" in a text for the token. A lone surrogate, which
files in UTF-8 cannot hold, is dropped here as there.
"""

from collections.abc import Sequence
import re
import unicodedata

from tf_pof.data.tokenizer_settings import TokenizerSettings

MAX_WORD_CHARACTERS = 100

# Han blocks as the reference lists them: later extensions are not spaced.
_HAN = (
    (0x4E00, 0x9FFF),
    (0x3400, 0x4DBF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F),
    (0x2B820, 0x2CEAF),
    (0xF900, 0xFAFF),
    (0x2F800, 0x2FA1F),
)
# Private characters that stand for Han where it is not spaced.
_STAND_INS = (0xF0000, 0x100000)
# Each plane ends with two code points that are no characters.
_PLANE = 0xFFFE
# A word in normalised text: non-ASCII punctuation is spaced by then.
_LONG_WORD = re.compile(
    r"[^\s!-/:-@\[-`{-~]{%d,}" % (MAX_WORD_CHARACTERS + 1)
)
# Words that may have more than 100 bytes: UTF-8 takes at most 4 a character.
_WIDE_WORD = re.compile(r"[^\s!-/:-@\[-`{-~]{26,}")


class _CharacterMap(dict):
    """A table for `str.translate` that works entries out when first met."""

    def __init__(self, function):
        super().__init__()
        self._function = function

    def __missing__(self, code):
        value = self[code] = self._function(chr(code))
        return value


def _han_number(code: int) -> int | None:
    """The place of a code point among Han, or None if it is none."""
    number = 0
    for first, last in _HAN:
        if first <= code <= last:
            return number + code - first
        number += last - first + 1
    return None


class Normalizer:
    """Normalises texts for a vocabulary.

    Args:
        settings: of the tokenizer.
        vocabulary: its tokens.
    """

    def __init__(
        self, settings: TokenizerSettings, vocabulary: Sequence[str]
    ):
        self._settings = settings
        self._characters = set("".join(vocabulary))
        # Stands for what no vocabulary word can hold, so that the word
        # becomes [UNK].
        self._outside = next(
            chr(code)
            for code in range(0xE000, 0xF8FF)
            if chr(code) not in self._characters
        )
        self._clean = _CharacterMap(self._clean_character)
        self._split = _CharacterMap(self._split_character)

    def _clean_character(self, character: str) -> str:
        """What the reference's cleaning and Han spacing make of it."""
        code = ord(character)
        category = unicodedata.category(character)
        if character in "\t\n\r" or category in ("Zs", "Zl", "Zp"):
            return " "
        # A lone surrogate is no character: files in UTF-8 cannot hold it.
        if code == 0xFFFD or category in ("Cc", "Cf", "Cs"):
            return ""
        spaced = self._settings.tokenize_chinese_chars
        if spaced and _han_number(code) is not None:
            return f" {character} "
        return character

    def _split_character(self, character: str) -> str:
        """What accent stripping and punctuation splitting make of it."""
        category = unicodedata.category(character)
        if category == "Mn" and self._settings.strip_accents:
            return ""
        if category.startswith("P"):
            return f" {character} "
        # tf-text may know a newer Unicode than Python, where this one is
        # punctuation.
        if category == "Cn" and character not in self._characters:
            return self._outside
        if not self._settings.tokenize_chinese_chars:
            if ord(character) >= _STAND_INS[0]:
                return self._outside
            return self._stand_in(character)
        return character

    def _stand_in(self, character: str) -> str:
        """A character that tf-text, which always spaces Han, takes as it is."""
        number = _han_number(ord(character))
        if number is None:
            return character
        plane, place = divmod(number, _PLANE)
        return chr(_STAND_INS[plane] + place)

    def token(self, token: str) -> str:
        """A token of the vocabulary as it stands in normalised text.

        It is "" if it stands there in no text.
        """
        if self._settings.tokenize_chinese_chars or token.isascii():
            return token
        if max(map(ord, token)) >= _STAND_INS[0]:
            return ""
        return "".join(map(self._stand_in, token))

    def one(self, text: str) -> str:
        """Does all that the reference does before it looks words up.

        Args:
            text: any string.

        Returns:
            The text cleaned, lower-cased, stripped of accents and with
            spaces around Han as the settings say, with spaces around
            punctuation that is not ASCII, and without words over 100
            characters.
        """
        text = text.translate(self._clean)
        if self._settings.lowercase:
            text = text.lower()
        if self._settings.strip_accents:
            text = unicodedata.normalize("NFD", text)
        return _LONG_WORD.sub(self._outside, text.translate(self._split))

    def all(self, texts: Sequence[str]) -> tuple[list[str], bool]:
        """Normalises texts; also says whether a word has over 100 bytes.

        Args:
            texts: n strings.
        """
        lowercase = self._settings.lowercase
        normalized = []
        wide = False
        for text in texts:
            # Such text has no control characters and nothing to strip; its
            # long words are left to the byte limit.
            if text.isascii() and text.isprintable():
                normalized.append(text.lower() if lowercase else text)
                continue
            text = self.one(text)
            normalized.append(text)
            wide = wide or any(
                len(word.encode()) > MAX_WORD_CHARACTERS
                for word in _WIDE_WORD.findall(text)
            )
        if wide:
            normalized = [
                _LONG_WORD.sub(self._outside, text) for text in normalized
            ]
        return normalized, wide
