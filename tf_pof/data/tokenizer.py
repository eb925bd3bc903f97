"""BERT's WordPiece on tensorflow-text, with the ids of the reference.

The ids are those of `BasicTokenizer` followed by `WordpieceTokenizer` in
google-research/bert (tokenization.py). `FastBertTokenizer` is ten times
faster than tf-text's `BertTokenizer` but its normaliser differs from the
reference (control characters, unassigned code points, the length of long
words). So the normalising is done here, exactly as the reference does it,
and only the normalised text goes to `FastWordpieceTokenizer`. English
sentences rarely need more than `str.lower`.
"""

from collections.abc import Sequence
import hashlib
import re
import unicodedata

import numpy as np
import tensorflow as tf
import tensorflow_text as tf_text

MAX_WORD_CHARACTERS = 100
SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")

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
# A word in normalised text: non-ASCII punctuation is spaced by then.
_LONG_WORD = re.compile(
    r"[^\s!-/:-@\[-`{-~]{%d,}" % (MAX_WORD_CHARACTERS + 1)
)
# Words that may have more than 100 bytes: UTF-8 takes at most 4 a character.
_WIDE_WORD = re.compile(r"[^\s!-/:-@\[-`{-~]{26,}")


def _clean_character(character: str) -> str:
    """What the reference's cleaning and Han spacing make of a character."""
    code = ord(character)
    category = unicodedata.category(character)
    if character in "\t\n\r" or category in ("Zs", "Zl", "Zp"):
        return " "
    if code == 0xFFFD or category in ("Cc", "Cf"):
        return ""
    if any(first <= code <= last for first, last in _HAN):
        return f" {character} "
    return character


class _CharacterMap(dict):
    """A table for `str.translate` that works entries out when first met."""

    def __init__(self, function):
        super().__init__()
        self._function = function

    def __missing__(self, code):
        value = self[code] = self._function(chr(code))
        return value


class WordPiece:
    """Text to BERT token ids.

    Args:
        vocab_file: one token a line, as in BERT's vocab.txt.
        lowercase: whether to lower-case and strip accents (uncased models).

    Attributes:
        vocabulary: list of the tokens; the index is the id.
        sha256: hex digest of the file's bytes.
        pad_id, unk_id, cls_id, sep_id, mask_id: ids of the special tokens.

    Raises:
        ValueError: if the file is not a WordPiece vocabulary.
    """

    def __init__(self, vocab_file: str, lowercase: bool = True):
        try:
            with tf.io.gfile.GFile(vocab_file, "rb") as file:
                content = file.read()
        except tf.errors.OpError as error:
            raise ValueError(
                f"The vocabulary {vocab_file} cannot be read "
                f"({error.message}): give a file with one WordPiece a line."
            ) from None
        self.sha256 = hashlib.sha256(content).hexdigest()
        self.lowercase = lowercase
        try:
            lines = content.decode("utf-8").split("\n")
        except UnicodeDecodeError as error:
            raise ValueError(
                f"{vocab_file} is not UTF-8 at byte {error.start}: give a "
                "WordPiece vocabulary with one token a line."
            ) from None
        self.vocabulary = [line.strip() for line in lines]
        while self.vocabulary and not self.vocabulary[-1]:
            self.vocabulary.pop()
        ids = {token: i for i, token in enumerate(self.vocabulary)}
        missing = [token for token in SPECIAL_TOKENS if token not in ids]
        if missing:
            raise ValueError(
                f"{vocab_file} has no {', '.join(missing)}: give a BERT "
                "vocabulary with one token a line."
            )
        if len(ids) != len(self.vocabulary):
            raise ValueError(
                f"{vocab_file} holds {len(self.vocabulary)} lines but "
                f"{len(ids)} different tokens: remove the repeated lines."
            )
        self.pad_id, self.unk_id, self.cls_id, self.sep_id, self.mask_id = (
            ids[token] for token in SPECIAL_TOKENS
        )
        self._characters = set("".join(self.vocabulary))
        # Stands for what no vocabulary word can hold, so that the word
        # becomes [UNK].
        self._outside = next(
            chr(code)
            for code in range(0xE000, 0xF8FF)
            if chr(code) not in self._characters
        )
        self._clean = _CharacterMap(_clean_character)
        self._split = _CharacterMap(self._split_character)
        self._tokenizers = {}

    def _split_character(self, character: str) -> str:
        """What accent stripping and punctuation splitting make of it."""
        category = unicodedata.category(character)
        if category == "Mn" and self.lowercase:
            return ""
        if category.startswith("P"):
            return f" {character} "
        # tf-text may know a newer Unicode than Python, where this one is
        # punctuation.
        if category in ("Cn", "Cs") and character not in self._characters:
            return self._outside
        return character

    def _wordpiece(self, max_bytes: int) -> tf_text.FastWordpieceTokenizer:
        if max_bytes not in self._tokenizers:
            with tf.init_scope():
                self._tokenizers[max_bytes] = tf_text.FastWordpieceTokenizer(
                    self.vocabulary,
                    max_bytes_per_word=max_bytes,
                    token_out_type=tf.int32,
                    unknown_token="[UNK]",
                )
        return self._tokenizers[max_bytes]

    def normalize(self, text: str) -> str:
        """Does all that the reference does before it looks words up.

        Args:
            text: any string.

        Returns:
            The text cleaned, lower-cased and stripped of accents if the
            tokenizer is, with spaces around Han and around punctuation that
            is not ASCII, and without words over 100 characters.
        """
        text = text.translate(self._clean)
        if self.lowercase:
            text = unicodedata.normalize("NFD", text.lower())
        return _LONG_WORD.sub(self._outside, text.translate(self._split))

    def _normalize_all(self, texts: Sequence[str]) -> tuple[list[str], bool]:
        """Normalises texts; also says whether a word has over 100 bytes."""
        lowercase = self.lowercase
        normalized = []
        wide = False
        for text in texts:
            # Such text has no control characters and nothing to strip; its
            # long words are left to the byte limit.
            if text.isascii() and text.isprintable():
                normalized.append(text.lower() if lowercase else text)
                continue
            text = self.normalize(text)
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

    def tokenize_strings(self, texts: Sequence[str]) -> tf.RaggedTensor:
        """Tokenizes Python strings, see `tokenize`.

        Args:
            texts: n strings.

        Returns:
            int32 ragged tensor [n, (tokens)].
        """
        normalized, wide = self._normalize_all(texts)
        wordpiece = self._wordpiece(MAX_WORD_CHARACTERS * (4 if wide else 1))
        return wordpiece.tokenize(
            tf.constant(normalized, tf.string, [len(normalized)])
        )

    def tokenize(self, texts: tf.Tensor) -> tf.RaggedTensor:
        """Tokenizes UTF-8 texts; bytes that are not UTF-8 are left out.

        Inside a `tf.function` or a `tf.data` map the normalising runs in
        Python, so such a graph cannot be exported.

        Args:
            texts: string tensor [n].

        Returns:
            int32 ragged tensor [n, (tokens)].
        """

        def normalize(values):
            texts = [value.decode("utf-8", "ignore") for value in values]
            normalized, wide = self._normalize_all(texts)
            array = np.array([text.encode() for text in normalized], object)
            return array, np.bool_(wide)

        texts = tf.convert_to_tensor(texts, tf.string)
        if tf.executing_eagerly():
            return self.tokenize_strings(
                [value.decode("utf-8", "ignore") for value in texts.numpy()]
            )
        normalized, wide = tf.numpy_function(
            normalize, [texts], [tf.string, tf.bool]
        )
        normalized = tf.ensure_shape(normalized, texts.shape)
        narrow, broad = (
            self._wordpiece(MAX_WORD_CHARACTERS * factor) for factor in (1, 4)
        )
        return tf.cond(
            wide,
            lambda: broad.tokenize(normalized),
            lambda: narrow.tokenize(normalized),
        )

    def encode(
        self,
        texts: Sequence[str],
        sequence_length: int,
        pairs: Sequence[str] | None = None,
    ) -> dict[str, np.ndarray]:
        """Packs texts, or pairs of texts, as a BERT takes them.

        A pair that is too long loses tokens from the end of its longer text.

        Args:
            texts: n strings.
            sequence_length: length S of the result, special tokens included.
            pairs: n second texts, or None.

        Returns:
            Three int32 arrays [n, S]: "token_ids" ([CLS] A [SEP] B [SEP] and
            padding), "segment_ids" (1 on B and its [SEP]), "padding_mask"
            (1 on tokens).

        Raises:
            ValueError: if the numbers of texts and pairs differ.
        """
        segments = [self.tokenize_strings(texts)]
        if pairs is not None:
            if len(pairs) != len(texts):
                raise ValueError(
                    f"{len(texts)} texts came with {len(pairs)} pairs: give "
                    "one second text for each first."
                )
            segments.append(self.tokenize_strings(pairs))
        trimmer = tf_text.ShrinkLongestTrimmer(
            sequence_length - 1 - len(segments)
        )
        token_ids, segment_ids = tf_text.combine_segments(
            trimmer.trim(segments), self.cls_id, self.sep_id
        )
        token_ids, mask = tf_text.pad_model_inputs(
            token_ids, sequence_length, self.pad_id
        )
        segment_ids, _ = tf_text.pad_model_inputs(segment_ids, sequence_length)
        return {
            "token_ids": token_ids.numpy().astype(np.int32),
            "segment_ids": segment_ids.numpy().astype(np.int32),
            "padding_mask": mask.numpy().astype(np.int32),
        }
