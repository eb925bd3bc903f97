"""How a vocabulary's tokenizer treats text: one value that travels.

It goes from a checkpoint's files to the model, from there to the tokenizer,
to prepared data (meta.json), saved models (tokenizer_config.json) and .tflite
files (tf_pof.json).
"""

from collections.abc import Callable, Sequence
import dataclasses
import os
import re
import unicodedata
from typing import Any

from tf_pof import untrusted

# A setting is wrong if texts could never give this share of the tokens.
_SHARE = 0.01
# Beyond this share of cased tokens no name makes a vocabulary uncased.
_SURELY = 0.2
_NAME = re.compile(r"(?<![a-z])(un)?cased(?![a-z])")
_HAN_WORD = re.compile("[\u4e00-\u9fff\u3400-\u4dbf]{2}")


@dataclasses.dataclass(frozen=True)
class TokenizerSettings:
    """What BERT's tokenizer does to a text before it looks words up.

    Attributes:
        lowercase: whether it lower-cases.
        strip_accents: whether it removes combining marks; None, which
            becomes the value of `lowercase`, is what BERT does.
        tokenize_chinese_chars: whether each Han character is a word.
    """

    lowercase: bool = True
    strip_accents: bool | None = None
    tokenize_chinese_chars: bool = True

    def __post_init__(self):
        if self.strip_accents is None:
            object.__setattr__(self, "strip_accents", self.lowercase)

    def describe(self) -> str:
        """Adjectives for the text that the tokenizer makes of any."""
        words = "lower-cased" if self.lowercase else "cased"
        if self.strip_accents != self.lowercase:
            words += " unaccented" if self.strip_accents else " and accented"
        if not self.tokenize_chinese_chars:
            words += " (Han not split)"
        return words

    def to_dict(self) -> dict[str, bool]:
        """The settings for JSON files of ours."""
        return dataclasses.asdict(self)

    def to_hf(self) -> dict[str, Any]:
        """The settings as Hugging Face's tokenizer_config.json names them."""
        return {
            "do_lower_case": self.lowercase,
            "strip_accents": self.strip_accents,
            "tokenize_chinese_chars": self.tokenize_chinese_chars,
        }


class StatesSettings:
    """A base for what has the settings among its own fields."""

    @property
    def tokenizer_settings(self) -> TokenizerSettings:
        """What the tokenizer did to the text."""
        return TokenizerSettings(
            self.lowercase, self.strip_accents, self.tokenize_chinese_chars
        )


class _Stored(untrusted.Schema):
    lowercase: bool
    strip_accents: bool | None = None
    tokenize_chinese_chars: bool = True


def from_dict(values: Any, where: str) -> TokenizerSettings:
    """The settings in a JSON object, which may hold more.

    Files that older versions wrote have `lowercase` alone.

    Args:
        values: of the object.
        where: begins the sentence of an error.

    Raises:
        ValueError: if `lowercase` is missing, or a type is wrong.
    """
    stored = untrusted.fit(values, _Stored, where)
    return TokenizerSettings(
        stored.lowercase, stored.strip_accents, stored.tokenize_chinese_chars
    )


def decide(tokens: Sequence[str], path: str) -> tuple[TokenizerSettings, str]:
    """The settings that fit a vocabulary whose files say nothing of them.

    A setting that makes tokens unreachable is not the one that the vocabulary
    was made with: no lower-cased text has the token "London", no text without
    accents has "für", and none with spaces around Han has a word of two.

    Args:
        tokens: the vocabulary.
        path: of its file; the nearest folder that is called cased or uncased
            decides where the tokens do not.

    Returns:
        The settings, and why they were chosen, to be told.
    """
    words = [t for t in tokens if t and not re.fullmatch(r"\[.*\]", t)]
    cased = [t for t in words if t.lower() != t or t.upper() != t]
    upper = _share(cased, lambda token: token.lower() != token)
    named = _named_lowercase(path)
    if cased and upper >= _SURELY:
        lowercase, reason = False, "it has words with capital letters"
    elif cased and upper < _SHARE:
        lowercase, reason = True, "it has no words with capital letters"
    elif named is not None:
        lowercase, reason = named, "it is called so"
    elif cased:
        lowercase, reason = False, "it has words with capital letters"
    else:
        lowercase, reason = True, "most are, and nothing says otherwise"
    letters = [t for t in words if any(c.isalpha() for c in t)]
    accents = _share(letters, has_accents) >= _SHARE
    return (
        TokenizerSettings(
            lowercase,
            lowercase and not accents,
            _share(letters, _HAN_WORD.search) < _SHARE,
        ),
        reason,
    )


def has_accents(text: str) -> bool:
    """Whether stripping accents would change a text."""
    return not text.isascii() and any(
        unicodedata.category(c) == "Mn"
        for c in unicodedata.normalize("NFD", text)
    )


def _share(tokens: list[str], is_one: Callable[[str], Any]) -> float:
    return sum(1 for t in tokens if is_one(t)) / max(1, len(tokens))


def _named_lowercase(path: str) -> bool | None:
    """What the names of a file's folders say, the nearest first."""
    parts = os.path.abspath(path).lower().split(os.sep)
    for part in reversed(parts):
        found = _NAME.findall(part)
        if found:
            return found[-1] == "un"
    return None
