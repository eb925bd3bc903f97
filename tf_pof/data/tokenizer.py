"""BERT's WordPiece on tensorflow-text, with the ids of the reference.

The ids are those of `BasicTokenizer` followed by `WordpieceTokenizer` in
google-research/bert (tokenization.py). `FastBertTokenizer` is ten times
faster than tf-text's `BertTokenizer` but its normaliser differs from the
reference (control characters, unassigned code points, the length of long
words). So only text that `tf_pof.data.normalizer` has normalised goes to
`FastWordpieceTokenizer`.
"""

from collections.abc import Iterable, Sequence
import operator

import numpy as np
import tensorflow as tf
import tensorflow_text as tf_text

from tf_pof.data import packing, tokenizer_files, vocabulary
from tf_pof.data.normalizer import MAX_WORD_CHARACTERS, Normalizer
from tf_pof.data.tokenizer_settings import TokenizerSettings
from tf_pof.data.vocabulary import SPECIAL_TOKENS


def _findable(token: str, number: int) -> str:
    """A token for the table of words.

    One that no text gives, and that the table does not take, has a name there
    that is not found either, since a blank separates words.
    """
    if not token or "\0" in token or len(token) > MAX_WORD_CHARACTERS + 2:
        return f"[unused {number}]"
    return token


class WordPiece:
    """Text to BERT token ids, and back.

    Args:
        vocab_file: one token a line, as in BERT's vocab.txt; or a
            tokenizer.json of Hugging Face's that holds such a vocabulary.
        lowercase: whether to lower-case and strip accents (uncased models).
        settings: instead of `lowercase`, all that can be set. By default what
            the files beside the vocabulary say, or else the vocabulary itself,
            see `tf_pof.data.tokenizer_files.settings_of`.

    Attributes:
        vocabulary: list of the tokens; the index is the id.
        settings: as above.
        sha256: hex digest of the vocab.txt's bytes.
        pad_id, unk_id, cls_id, sep_id, mask_id: ids of the special tokens.

    Raises:
        ValueError: if the file is not a WordPiece vocabulary, or what stands
            beside it is the tokenizer of something else than a BERT.
    """

    def __init__(
        self,
        vocab_file: str,
        lowercase: bool | None = None,
        settings: TokenizerSettings | None = None,
    ):
        found = vocabulary.read(vocab_file)
        if settings is None:
            settings = (
                tokenizer_files.settings_of(vocab_file)
                if lowercase is None
                else TokenizerSettings(lowercase)
            )
        self.settings = settings
        self.sha256 = found.sha256
        self.vocabulary = list(found.tokens)
        ids = {token: i for i, token in enumerate(self.vocabulary)}
        self.pad_id, self.unk_id, self.cls_id, self.sep_id, self.mask_id = (
            ids[token] for token in SPECIAL_TOKENS
        )
        self._normalizer = Normalizer(settings, self.vocabulary)
        self._tokenizers = {}
        try:
            self._wordpiece(MAX_WORD_CHARACTERS)
        except RuntimeError as error:
            raise ValueError(
                f"{vocab_file} cannot be used as a vocabulary: "
                f"{str(error).splitlines()[0][:200]}"
            ) from None

    def _wordpiece(self, max_bytes: int) -> tf_text.FastWordpieceTokenizer:
        if max_bytes not in self._tokenizers:
            with tf.init_scope():
                self._tokenizers[max_bytes] = tf_text.FastWordpieceTokenizer(
                    [
                        _findable(self._normalizer.token(token), number)
                        for number, token in enumerate(self.vocabulary)
                    ],
                    max_bytes_per_word=max_bytes,
                    token_out_type=tf.int32,
                    unknown_token="[UNK]",
                )
        return self._tokenizers[max_bytes]

    def normalize(self, text: str) -> str:
        """A text as its words are looked up, see `Normalizer.one`."""
        return self._normalizer.one(text)

    def tokenize_strings(self, texts: Sequence[str]) -> tf.RaggedTensor:
        """Tokenizes Python strings, see `tokenize`.

        Args:
            texts: n strings.

        Returns:
            int32 ragged tensor [n, (tokens)].

        Raises:
            TypeError: if that is not what they are.
        """
        normalized, wide = self._normalizer.all(_strings(texts, "texts"))
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
            normalized, wide = self._normalizer.all(texts)
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
            TypeError: if the texts are no strings or the length no integer.
            ValueError: if the numbers of texts and pairs differ, or the length
                leaves no room for them.
        """
        segments = [_strings(texts, "texts")]
        if pairs is not None:
            segments.append(_strings(pairs, "pairs"))
            if len(segments[0]) != len(segments[1]):
                raise ValueError(
                    f"{len(segments[0])} texts came with {len(segments[1])} "
                    "pairs: give one second text for each first."
                )
        packing.room(sequence_length, len(segments))
        tokens = [self.tokenize_strings(segment) for segment in segments]
        packed = self._pack(
            sequence_length,
            *(part.numpy() for t in tokens for part in _parts(t)),
        )
        return dict(zip(packing.NAMES, packed))

    def encode_tensor(
        self,
        texts: tf.Tensor,
        sequence_length: int,
        pairs: tf.Tensor | None = None,
    ) -> dict[str, tf.Tensor]:
        """Packs texts of tensors, also inside a `tf.data` map; see `encode`.

            dataset.map(lambda text: tokenizer.encode_tensor(text, 128))

        Bytes that are not UTF-8 are left out. Such a graph has steps in
        Python, so it cannot be exported; whole batches are the fastest.

        Args:
            texts: string tensor [n], or [] for one text.
            sequence_length: length S of the result, special tokens included.
            pairs: string tensor of the same shape, or None.

        Returns:
            Three int32 tensors [n, S], or [S] of one text.

        Raises:
            TypeError: if the texts are no strings.
            ValueError: if they have another rank, or a length leaves no room.
        """
        segments = [texts] if pairs is None else [texts, pairs]
        segments = [tf.convert_to_tensor(segment) for segment in segments]
        for segment in segments:
            if segment.dtype != tf.string:
                raise TypeError(
                    f"Texts must be strings, not {segment.dtype.name}."
                )
            if segment.shape.rank not in (0, 1):
                raise ValueError(
                    "Texts must have the shape [n], or [] for one text, not "
                    f"{segment.shape}."
                )
        packing.room(sequence_length, len(segments))
        rank = segments[0].shape.rank
        tokens = [self.tokenize(tf.reshape(x, [-1])) for x in segments]
        packed = tf.numpy_function(
            lambda *parts: self._pack(sequence_length, *parts),
            [part for t in tokens for part in _parts(t)],
            [tf.int32] * len(packing.NAMES),
        )
        if rank == 0:
            packed = [x[0] for x in packed]
        shape = segments[0].shape + [sequence_length]
        return {
            name: tf.ensure_shape(x, shape)
            for name, x in zip(packing.NAMES, packed)
        }

    def _pack(self, sequence_length, *parts):
        """`packing.pack` of tokens and row splits, text by text."""
        return packing.pack(
            list(zip(parts[::2], parts[1::2])),
            sequence_length,
            self.cls_id,
            self.sep_id,
            self.pad_id,
        )

    def decode(self, token_ids: Sequence) -> str | list[str]:
        """The words of token ids, with single blanks between them.

        Lower-casing, accents and the original's spaces do not come back, and
        punctuation stands by itself.

        Args:
            token_ids: integers [S] of one text; or [n, S], or lists of
                different lengths, of several.

        Returns:
            One string, or n of them, without [CLS], [SEP] and [PAD].

        Raises:
            TypeError: if they are no integers.
            ValueError: if an id is not in the vocabulary.
        """
        if isinstance(token_ids, (tf.Tensor, tf.RaggedTensor)):
            token_ids = token_ids.numpy()
        try:
            rows = list(token_ids)
            if rows and np.ndim(rows[0]):
                return [self.decode(row) for row in rows]
            rows = [operator.index(i) for i in rows]
        except TypeError:
            raise TypeError(
                "token_ids must be a list of integers, or several such lists."
            ) from None
        outside = [i for i in rows if not 0 <= i < len(self.vocabulary)]
        if outside:
            raise ValueError(
                f"There is no token {outside[0]}: the vocabulary has ids from "
                f"0 to {len(self.vocabulary) - 1}."
            )
        left_out = (self.cls_id, self.sep_id, self.pad_id)
        words = [self.vocabulary[i] for i in rows if i not in left_out]
        return " ".join(words).replace(" ##", "")


def _parts(tokens: tf.RaggedTensor) -> tuple[tf.Tensor, tf.Tensor]:
    return tokens.flat_values, tokens.row_splits


def _strings(texts, name: str) -> list[str]:
    """Several strings as a list.

    Raises:
        TypeError: if that is not what the texts are.
    """
    if isinstance(texts, (str, bytes)):
        raise TypeError(
            f"{name} must be a list of strings, not one string: put it into a "
            "list, [text]."
        )
    if isinstance(texts, tf.Tensor) or not isinstance(texts, Iterable):
        raise TypeError(
            f"{name} must be a list of strings, not {type(texts).__name__}; "
            "tensors are for tokenize and encode_tensor."
        )
    found = list(texts)
    for index, text in enumerate(found):
        if not isinstance(text, str):
            raise TypeError(
                f"{name}[{index}] must be a string, not {type(text).__name__}."
            )
    return found
