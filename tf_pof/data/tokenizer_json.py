"""Reads tokenizer.json, in which Hugging Face keeps a whole tokenizer.

Of transformers 5 on it is the only file with the vocabulary.
"""

import os
import re
from typing import Any

from tf_pof import untrusted

NAME = "tokenizer.json"
# Tokens that texts do not hold, so that nobody has to look them up as wholes.
_SPECIAL = re.compile(r"\[(PAD|UNK|CLS|SEP|MASK|unused\d+)\]")
# A vocab.txt cannot hold tokens with these, and no text gives them.
_UNWRITABLE = re.compile(r"^$|[\n\r\ufeff]|^[ \t]|[ \t]$")


class UnsupportedTokenizer(ValueError):
    """A tokenizer that is not BERT's; the message is one sentence."""


class _Normalizer(untrusted.Schema):
    type: str
    clean_text: bool = True
    handle_chinese_chars: bool = True
    strip_accents: bool | None = None
    lowercase: bool = True


class _PreTokenizer(untrusted.Schema):
    type: str


class _AddedToken(untrusted.Schema):
    id: int
    content: str


class _File(untrusted.Schema):
    model: dict[str, Any]
    normalizer: dict[str, Any] | None = None
    pre_tokenizer: dict[str, Any] | None = None
    added_tokens: list[_AddedToken] = []


class _WordPiece(untrusted.Schema):
    vocab: dict[str, int]
    unk_token: str = "[UNK]"
    continuing_subword_prefix: str = "##"
    max_input_chars_per_word: int = 100


def read(path: str | os.PathLike) -> tuple[list[str], dict[str, Any]]:
    """Reads a BERT's tokenizer.json.

    Args:
        path: of the file.

    Returns:
        tokens: by id, such as a vocab.txt can hold them. An id without a
            token, as transformers 5 leaves them for tokens of white space,
            has one that no text gives.
        settings: those fields of `TokenizerSettings` that it states.

    Raises:
        UnsupportedTokenizer: if it is not BERT's WordPiece.
        ValueError: if it is damaged.
        OSError: if it cannot be read.
    """
    path = os.fspath(path)
    file = untrusted.read_json(path, _File)
    kind = file.model.get("type", "WordPiece")
    if kind != "WordPiece" or "merges" in file.model:
        raise _unsupported(path, f"its model is {str(kind)[:40]!r}")
    model = untrusted.fit(file.model, _WordPiece, f"{path}: its model")
    if (
        model.continuing_subword_prefix != "##"
        or model.unk_token != "[UNK]"
        or model.max_input_chars_per_word != 100
    ):
        raise _unsupported(
            path, "its prefix, unknown token or longest word is another"
        )
    ids = dict(model.vocab)
    for token in file.added_tokens:
        check_added(path, token.content)
        if ids.setdefault(token.content, token.id) != token.id:
            raise ValueError(
                f"{path} gives the token {token.content} two ids: get the "
                "file anew."
            )
    return _by_id(path, ids), _settings(path, file)


def check_added(path: str, token: str) -> None:
    """Refuses a token that is to be found in texts before they are split.

    Raises:
        UnsupportedTokenizer: unless it is one of BERT's special tokens.
    """
    if not _SPECIAL.fullmatch(token):
        raise _unsupported(path, f"it takes {token[:40]!r} as one token")


def _by_id(path, ids) -> list[str]:
    """Tokens in a list."""
    size = max(ids.values(), default=-1) + 1
    if min(ids.values(), default=0) < 0 or size > 2 * len(ids):
        raise ValueError(
            f"{path} has {len(ids)} tokens, but ids from "
            f"{min(ids.values())} to {size - 1}: get the file anew."
        )
    tokens: list[str | None] = [None] * size
    for token, number in ids.items():
        if tokens[number] is not None:
            raise ValueError(
                f"{path} gives the id {number} to {tokens[number]!r} and "
                f"{token!r}: get the file anew."
            )
        tokens[number] = token
    for number, token in enumerate(tokens):
        if token is None or _UNWRITABLE.search(token):
            free = number
            while f"[unused{free}]" in ids:
                free += size
            tokens[number] = f"[unused{free}]"
    return tokens


def _settings(path, file) -> dict[str, Any]:
    if file.normalizer is None:
        raise _unsupported(path, "it has no normalizer")
    found = untrusted.fit(
        file.normalizer, _Normalizer, f"{path}: its normalizer"
    )
    if found.type != "BertNormalizer" or not found.clean_text:
        raise _unsupported(path, f"its normalizer is {found.type[:40]!r}")
    before = untrusted.fit(
        file.pre_tokenizer or {"type": "none"},
        _PreTokenizer,
        f"{path}: its pre_tokenizer",
    )
    if before.type != "BertPreTokenizer":
        raise _unsupported(path, f"its pre_tokenizer is {before.type[:40]!r}")
    return {
        "lowercase": found.lowercase,
        "strip_accents": found.strip_accents,
        "tokenize_chinese_chars": found.handle_chinese_chars,
    }


def _unsupported(path, reason) -> UnsupportedTokenizer:
    return UnsupportedTokenizer(
        f"{path} is not BERT's WordPiece ({reason}), which is all that tf_pof "
        "reads: tokenize with the library that wrote it."
    )
