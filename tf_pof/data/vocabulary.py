"""Reads a vocabulary: vocab.txt, or the tokenizer.json that stands for it."""

import dataclasses
import hashlib
import os

import tensorflow as tf

from tf_pof import untrusted
from tf_pof.data import tokenizer_json

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_ADVICE = "give a BERT vocabulary with one token a line."


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """The tokens of a model.

    Attributes:
        tokens: the index is the id; "" where an id has no token.
        contents: of the vocab.txt, in UTF-8.
    """

    tokens: tuple[str, ...]
    contents: bytes

    @property
    def sha256(self) -> str:
        """Hex digest of the contents."""
        return hashlib.sha256(self.contents).hexdigest()


def read(path: str | os.PathLike) -> Vocabulary:
    """Reads a vocabulary.

    In vocab.txt a line is a token and its number the id. Only "\\n" ends a
    line, with or without "\\r" before it: other separators of Unicode are
    tokens. A byte order mark and empty lines at the end are passed over; an
    empty line between others is an id without a token.

    Args:
        path: of vocab.txt or, by its ending, of a tokenizer.json.

    Raises:
        ValueError: if there is none, or it is not a WordPiece vocabulary.
    """
    if path is None:
        raise ValueError(
            "There is no vocabulary (None was given): name the model's "
            "vocab.txt."
        )
    path = os.fspath(path)
    try:
        if path.endswith(".json"):
            tokens, _ = tokenizer_json.read(path)
            contents = _lines(tokens, path)
        else:
            contents = read_bytes(path)
            tokens = _split(contents, path)
    except OSError as error:
        raise ValueError(
            f"The vocabulary {path} cannot be read "
            f"({error.strerror or str(error).rstrip('.')}): {_ADVICE}"
        ) from None
    _check(tokens, path)
    return Vocabulary(tuple(tokens), contents)


def read_bytes(path) -> bytes:
    if "://" not in path:
        return untrusted.read_bytes(path)
    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            return file.read(untrusted.MAX_BYTES)
    except tf.errors.OpError as error:
        raise OSError(error.message) from None


def _lines(tokens, path) -> bytes:
    try:
        return "".join(token + "\n" for token in tokens).encode()
    except UnicodeEncodeError:
        raise ValueError(
            f"{path} has a token that is no text (a lone surrogate): get the "
            "file anew."
        ) from None


def _split(contents, path) -> list[str]:
    try:
        text = contents.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not UTF-8 at byte {error.start}: {_ADVICE}"
        ) from None
    lines = (line.removesuffix("\r") for line in text.split("\n"))
    # A blank around a token is a slip of an editor; a blank alone is a token.
    tokens = [line.strip(" \t") or line for line in lines]
    while tokens and not tokens[-1]:
        tokens.pop()
    return tokens


def _check(tokens, path) -> None:
    """Raises ValueError unless BERT's tokenizer can work with the tokens."""
    missing = [token for token in SPECIAL_TOKENS if token not in tokens]
    if missing:
        raise ValueError(f"{path} has no {', '.join(missing)}: {_ADVICE}")
    if not any(t and t not in SPECIAL_TOKENS for t in tokens):
        raise ValueError(
            f"{path} holds special tokens alone, so that every word would be "
            f"unknown: {_ADVICE}"
        )
    first: dict[str, int] = {}
    for number, token in enumerate(tokens, 1):
        if token and first.setdefault(token, number) != number:
            raise ValueError(
                f"{path} has the token {token[:40]!r} in line "
                f"{first[token]} and again in line {number}: a token has one "
                "id. Give one of the lines another name, such as "
                f"[unused-{number}], and do not remove it, since that would "
                "shift the ids behind it."
            )
