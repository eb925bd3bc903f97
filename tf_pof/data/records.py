"""The folder of a prepared data set: meta.json, vocab.txt and TFRecord shards.

    meta.json
    vocab.txt
    train-00000-of-00016.tfrecord.gz ...
    validation-00000-of-00001.tfrecord.gz ...

A record is a tf.train.Example with three int64 lists: "token_ids" ([CLS] A
[SEP] B [SEP], not padded, not masked), "segment_b_start" (index of B's first
token; the number of tokens if there is no B) and "next_sentence_label" (0: B
follows A; 1: B comes from another document), the labels of
google-research/bert.
"""

import collections
import contextlib
import dataclasses
import hashlib
import os
from typing import Annotated, Any

import numpy as np
import pydantic
import tensorflow as tf

from tf_pof import files
from tf_pof import untrusted
from tf_pof.data import storage
from tf_pof.data.tokenizer_settings import StatesSettings

VERSION = 1
SPLITS = ("train", "validation")
_COMPRESSION = "GZIP"
FEATURES = {
    "token_ids": tf.io.RaggedFeature(tf.int64, row_splits_dtype=tf.int32),
    "segment_b_start": tf.io.FixedLenFeature([], tf.int64),
    "next_sentence_label": tf.io.FixedLenFeature([], tf.int64),
}
# Reading a broken or foreign shard may raise these.
_READING_ERRORS = (
    tf.errors.DataLossError,
    tf.errors.FailedPreconditionError,
    tf.errors.InvalidArgumentError,
    tf.errors.NotFoundError,
    tf.errors.OutOfRangeError,
    tf.errors.ResourceExhaustedError,
)

# Others may have written meta.json: it has strict types, and no paths.
_Count = Annotated[int, pydantic.Field(ge=0, lt=2**53)]
_Seed = Annotated[int, pydantic.Field(ge=-(2**63), lt=2**63)]
_Digest = Annotated[str, pydantic.Field(pattern="^[0-9a-f]{64}$")]
_Shard = Annotated[
    str,
    pydantic.Field(
        pattern="^(train|validation)-[0-9]{5,9}-of-[0-9]{5,9}[.]tfrecord[.]gz$"
    ),
]


@dataclasses.dataclass(frozen=True)
class PretrainingMeta(StatesSettings):
    """What meta.json says of a prepared data set.

    Attributes:
        version: of the format.
        sequence_length: most tokens an example has, special tokens included.
        vocab_size: number of lines of vocab.txt.
        vocab_sha256: hex digest of vocab.txt.
        lowercase, strip_accents, tokenize_chinese_chars: of the tokenizer;
            older data sets have `lowercase` alone.
        whole_word_masking: whether masking is to take whole words.
        seed: of the pairs, the split and the shuffling.
        num_train, num_validation: examples of each split.
        train_shards, validation_shards: file names.
        train_counts, validation_counts: examples of each shard.
        train_bytes, validation_bytes: size of each shard's file.
        statistics: counts of documents, sentences, tokens and text bytes.
        arguments: the arguments of the preparation, for the record.
    """

    __pydantic_config__ = pydantic.ConfigDict(strict=True, allow_inf_nan=False)

    version: int
    sequence_length: Annotated[int, pydantic.Field(ge=8, le=1 << 20)]
    vocab_size: Annotated[int, pydantic.Field(ge=5, lt=2**31)]
    vocab_sha256: _Digest
    lowercase: bool
    whole_word_masking: bool
    seed: _Seed
    num_train: _Count
    num_validation: _Count
    train_shards: list[_Shard]
    validation_shards: list[_Shard]
    train_counts: list[_Count]
    validation_counts: list[_Count]
    train_bytes: list[_Count]
    validation_bytes: list[_Count]
    statistics: dict[str, _Count]
    arguments: dict[str, Any]
    strip_accents: bool | None = None
    tokenize_chinese_chars: bool = True

    def shards(self, split: str) -> list[tuple[str, int, int]]:
        """Returns (file name, examples, bytes) of each shard of a split.

        Raises:
            ValueError: if there is no such split.
        """
        if split not in SPLITS:
            raise ValueError(
                f'There is no split "{split}": choose train or validation.'
            )
        columns = (f"{split}_shards", f"{split}_counts", f"{split}_bytes")
        return list(zip(*(getattr(self, column) for column in columns)))


def shard_name(split: str, index: int, count: int) -> str:
    """Returns the file name of shard `index` of `count`."""
    return f"{split}-{index:05d}-of-{count:05d}.tfrecord.gz"


def write_meta(folder: str, meta: PretrainingMeta) -> None:
    """Writes meta.json whole or not at all.

    Raises:
        OSError: if it cannot be written.
    """
    path = os.path.join(folder, "meta.json")
    storage.write_bytes(path, files.json_bytes(dataclasses.asdict(meta)))


def read_meta(folder: str) -> PretrainingMeta:
    """Reads meta.json of a prepared data set.

    Raises:
        ValueError: if it is missing, not readable, of another version, lacks
            a field, or holds what no preparation writes.
    """
    path = os.path.join(folder, "meta.json")
    advice = "make the data set with prepare_data."
    try:
        contents = storage.read_bytes(path)
        values = untrusted.parse_json(contents, dict[str, Any], path)
    except (FileNotFoundError, NotADirectoryError):
        raise ValueError(
            f"{folder} is not a prepared data set (it has no meta.json): "
            f"{advice}"
        ) from None
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error}): {advice}") from None
    version = values.get("version")
    if type(version) is not int or version != VERSION:
        raise ValueError(
            f"{path} is not of version {VERSION} of the format: {advice}"
        )
    missing = [
        field.name
        for field in dataclasses.fields(PretrainingMeta)
        if field.default is dataclasses.MISSING and field.name not in values
    ]
    if missing:
        raise ValueError(f"{path} lacks {', '.join(missing)}: {advice}")
    meta = untrusted.parse_json(contents, PretrainingMeta, path)
    if fault := _contradiction(meta):
        raise ValueError(f"{path} {fault}: {advice}")
    return meta


def _contradiction(meta: PretrainingMeta) -> str | None:
    """Names a contradiction between fields; it follows the file's name."""
    for split in SPLITS:
        columns = [
            getattr(meta, f"{split}_{name}")
            for name in ("shards", "counts", "bytes")
        ]
        if len({len(column) for column in columns}) > 1:
            return f"lists its {split} shards in columns of unequal length"
        if sum(columns[1]) != getattr(meta, f"num_{split}"):
            return f"counts other {split} examples than its shards have"
        for name, times in collections.Counter(columns[0]).items():
            if times > 1 or not name.startswith(split):
                return f"lists {name} twice or in the wrong split"
    return None


def require_split(folder: str, meta: PretrainingMeta, split: str) -> None:
    """Makes sure, before any work, that a split has examples.

    Args:
        folder: of the data set.
        meta: what `read_meta` or `verify` has returned for it.
        split: "train" or "validation".

    Raises:
        ValueError: if it has none, or there is no such split.
    """
    if not any(count for _, count, _ in meta.shards(split)):
        raise ValueError(
            f"The data set {folder} has no {split} examples: prepare it with "
            "more text or another --validation_fraction."
        )


def read_vocab_sha256(folder: str) -> str:
    """Returns the hex digest of the folder's vocab.txt.

    Raises:
        ValueError: if it is missing or no file that can be read.
    """
    path = os.path.join(folder, "vocab.txt")
    try:
        return hashlib.sha256(storage.read_bytes(path)).hexdigest()
    except FileNotFoundError:
        raise ValueError(
            f"{path} is missing: make the data set again with prepare_data."
        ) from None
    except OSError as error:
        raise ValueError(
            f"{path} cannot be read ({error.strerror or error})."
        ) from None


def check_vocabulary(folder: str, vocab_sha256: str, owner: str) -> None:
    """Checks that a data set has the vocabulary of a model.

    Args:
        folder: of the data set.
        vocab_sha256: hex digest of the model's vocab.txt.
        owner: what the other vocabulary belongs to, for the message.

    Raises:
        ValueError: if the vocabularies differ.
    """
    meta = read_meta(folder)
    if meta.vocab_sha256 != vocab_sha256:
        raise ValueError(
            f"The data set {folder} was prepared with another vocabulary "
            f"({meta.vocab_size} tokens, sha256 {meta.vocab_sha256[:12]}...) "
            f"than {owner} has (sha256 {vocab_sha256[:12]}...): prepare the "
            "data again with --vocab of the model."
        )


def verify(folder: str, deep: bool = False) -> PretrainingMeta:
    """Checks that every file of a data set is there and whole.

    Args:
        folder: of the data set.
        deep: also read every record and count them (minutes for gigabytes)
            instead of comparing the sizes of the files only.

    Returns:
        The meta data.

    Raises:
        ValueError: naming the first file that is missing, truncated or
            corrupt.
    """
    meta = read_meta(folder)
    if read_vocab_sha256(folder) != meta.vocab_sha256:
        raise ValueError(
            f"{os.path.join(folder, 'vocab.txt')} is not the vocabulary that "
            "the data set was prepared with (its sha256 is not the one in "
            "meta.json): put it back or run prepare_data again."
        )
    for split in SPLITS:
        for name, count, size in meta.shards(split):
            path = os.path.join(folder, name)
            if not tf.io.gfile.exists(path):
                raise ValueError(
                    f"The shard {path} is missing: copy the data set again "
                    "or run prepare_data again."
                )
            found = tf.io.gfile.stat(path).length
            if found != size:
                raise ValueError(
                    f"The shard {path} has {found} bytes instead of {size}: "
                    "it is truncated or changed, copy the data set again or "
                    "run prepare_data again."
                )
            if deep:
                _check_records(path, count, meta)
    return meta


def well_formed(parsed: dict, meta: PretrainingMeta) -> tf.Tensor:
    """Whether examples are such as a preparation writes.

    Args:
        parsed: what `tf.io.parse_example` makes of them with `FEATURES`.
        meta: of their data set.

    Returns:
        A bool scalar.
    """
    ids = parsed["token_ids"]
    lengths = tf.cast(ids.row_lengths(), tf.int64)
    b_start, label = parsed["segment_b_start"], parsed["next_sentence_label"]
    limits = (
        (ids.flat_values, 0, meta.vocab_size - 1),
        (lengths, 3, meta.sequence_length),
        (b_start, 3, lengths),
        (label, 0, 1),
    )
    return tf.reduce_all(
        [
            tf.reduce_all((values >= least) & (values <= most))
            for values, least, most in limits
        ]
    )


def _check_records(path: str, count: int, meta: PretrainingMeta) -> None:
    found = 0
    try:
        for batch in tf.data.TFRecordDataset(path, _COMPRESSION).batch(1024):
            parsed = tf.io.parse_example(batch, FEATURES)
            if not well_formed(parsed, meta):
                raise ValueError(
                    f"The shard {path} has an example that is none of this "
                    "data set (its ids, length or label are out of range): "
                    "copy the data set again or run prepare_data again."
                )
            found += int(batch.shape[0])
    except _READING_ERRORS:
        found = -1
    if found != count:
        raise ValueError(
            f"The shard {path} is corrupt"
            + (f" ({found} records instead of {count})" if found >= 0 else "")
            + ": copy the data set again or run prepare_data again."
        )


@contextlib.contextmanager
def readable_errors(folder: str):
    """Turns TensorFlow's errors on broken data into one that names the file.

    Use it around the loop that reads `inputs.pretraining_dataset`:

        with records.readable_errors(folder):
            for x, y in dataset: ...

    Raises:
        ValueError: naming the corrupt shard. Errors of other origin, which
            a training step may have, are raised as they are.
    """
    try:
        yield
    except _READING_ERRORS as error:
        verify(folder, deep=True)
        if not isinstance(
            error, (tf.errors.DataLossError, tf.errors.NotFoundError)
        ):
            raise
        raise ValueError(
            f"A record of {folder} cannot be read ({error.message}): copy "
            "the data set again or run prepare_data again."
        ) from error


def write_shard(
    path: str,
    token_ids: np.ndarray,
    lengths: np.ndarray,
    segment_b_start: np.ndarray,
    next_sentence_label: np.ndarray,
) -> None:
    """Writes examples as one compressed TFRecord file.

    Compression level 1: three times as fast as the default for 8 % more
    bytes.

    Args:
        path: of the file.
        token_ids: [sum(lengths)] ids of all examples, one after another.
        lengths: [n] number of tokens of each.
        segment_b_start: [n].
        next_sentence_label: [n].
    """
    options = tf.io.TFRecordOptions(
        compression_type=_COMPRESSION, compression_level=1
    )
    ids = token_ids.tolist()
    start = 0
    with tf.io.TFRecordWriter(path, options) as writer:
        for length, b_start, label in zip(
            lengths.tolist(), segment_b_start.tolist(),
            next_sentence_label.tolist(),
        ):
            example = tf.train.Example()
            feature = example.features.feature
            feature["token_ids"].int64_list.value.extend(
                ids[start : start + length]
            )
            feature["segment_b_start"].int64_list.value.append(b_start)
            feature["next_sentence_label"].int64_list.value.append(label)
            writer.write(example.SerializeToString(deterministic=True))
            start += length
