"""Batches for pre-training from a prepared data set.

The order of an epoch is: shards in a random order, each read in windows of
records whose order is drawn as well. (The records of all shards were shuffled
together when they were written.) Everything is drawn by stateless generators
from the seed and the epoch, so that any step can be started from: whole
epochs and shards before it are skipped by arithmetic, records in front of it
without being parsed.
"""

import math
import os

import numpy as np
import tensorflow as tf

from tf_pof.data import masking
from tf_pof.data import records
from tf_pof.data import storage

WINDOW = 16384
_SPECIAL = ("[CLS]", "[SEP]", "[MASK]", "[PAD]")


def default_max_predictions(sequence_length: int, mask_rate: float) -> int:
    """Returns the most masked tokens an example of full length can have."""
    return math.ceil(sequence_length * mask_rate)


class _Reader:
    """The records of a split, epoch after epoch."""

    def __init__(self, folder, split, seed, shuffle):
        shards = records.read_meta(folder).shards(split)
        self.paths = [os.path.join(folder, name) for name, _, _ in shards]
        self.counts = np.array([count for _, count, _ in shards], np.int64)
        self.starts = np.cumsum(self.counts) - self.counts
        self.seed = seed
        self.shuffle = shuffle

    def epoch(self, epoch: tf.Tensor, position: tf.Tensor) -> tf.data.Dataset:
        """Returns the records of an epoch from a position on.

        Args:
            epoch: int64 scalar, its number.
            position: int64 scalar, how many records to leave out.

        Returns:
            A dataset of (record, its number in the split, epoch).
        """
        counts = tf.constant(self.counts)
        order = tf.range(len(self.paths), dtype=tf.int64)
        if self.shuffle:
            key = masking.example_keys(self.seed, epoch, np.array([-1]))
            order = masking.permutation(key, len(self.paths))
        counts = tf.gather(counts, order)
        skip = position - tf.cumsum(counts, exclusive=True)
        skip = tf.clip_by_value(skip, 0, counts)
        rows = tf.boolean_mask(tf.stack([order, skip], 1), skip < counts)
        return tf.data.Dataset.from_tensor_slices(rows).flat_map(
            lambda row: self._shard(row[0], row[1], epoch)
        )

    def _shard(self, shard, skip, epoch):
        first = skip // WINDOW
        windows = (
            tf.data.TFRecordDataset(
                tf.gather(tf.constant(self.paths), shard), "GZIP"
            )
            .skip(first * WINDOW)
            .batch(WINDOW)
            .enumerate(first)
        )
        start = tf.gather(tf.constant(self.starts), shard)

        def window_records(number, window):
            index = tf.range(tf.size(window, tf.int64))
            if self.shuffle:
                key = masking.example_keys(
                    self.seed, epoch, tf.stack([shard, number])
                )
                index = masking.permutation(
                    masking.mix(key[:1]) ^ key[1:], tf.size(window)
                )
            index = index[tf.maximum(np.int64(0), skip - number * WINDOW) :]
            return tf.data.Dataset.from_tensor_slices(
                (
                    tf.gather(window, index),
                    start + number * WINDOW + index,
                    tf.fill([tf.size(index)], epoch),
                )
            )

        # A shard of fewer records than said would be asked for ever.
        count = tf.gather(tf.constant(self.counts), shard) - skip
        return windows.flat_map(window_records).apply(
            tf.data.experimental.assert_cardinality(count)
        )


def _shorten(token_ids, lengths, b_start, sequence_length):
    """Cuts examples of more than `sequence_length` tokens to it.

    Tokens go from the end of the longer segment, the special tokens stay.
    """
    has_b = b_start < lengths
    a_length = b_start - 2
    b_length = tf.where(has_b, lengths - b_start - 1, 0)
    room = tf.where(has_b, sequence_length - 3, sequence_length - 2)
    new_a = tf.minimum(
        a_length, tf.maximum(room - b_length, room - room // 2)
    )
    new_b = tf.minimum(b_length, room - new_a)
    position = tf.range(sequence_length)[None]
    # Position 0 is [CLS], new_a + 1 the first [SEP], then B and its [SEP].
    in_b = position - (new_a + 2)[:, None]
    source = tf.where(
        position <= new_a[:, None],
        position,
        tf.where(
            in_b < 0,
            (a_length + 1)[:, None],
            tf.where(
                in_b < new_b[:, None],
                b_start[:, None] + in_b,
                (lengths - 1)[:, None],
            ),
        ),
    )
    source = tf.clip_by_value(source, 0, tf.shape(token_ids)[1] - 1)
    lengths = tf.where(has_b, new_a + new_b + 3, new_a + 2)
    token_ids = tf.gather(token_ids, source, batch_dims=1)
    token_ids = tf.where(position < lengths[:, None], token_ids, 0)
    return token_ids, lengths, new_a + 2


def pretraining_dataset(
    folder: str,
    split: str,
    batch_size: int,
    sequence_length: int | None = None,
    seed: int = 0,
    start_step: int = 0,
    mask_rate: float = 0.15,
    max_predictions: int | None = None,
    num_input_pipelines: int = 1,
    input_pipeline_id: int = 0,
    repeat: bool = True,
    shuffle: bool = True,
) -> tf.data.Dataset:
    """Makes masked batches of a prepared data set.

    With n input pipelines of batch size b, batch t of all of them together
    holds the examples, masked alike, of batch t of one pipeline of batch size
    n b. Each pipeline reads all shards and parses its own records.

    Wrap the reading loop in `records.readable_errors(folder)`: it names the
    file when a record is corrupt.

    Args:
        folder: of the data set.
        split: "train" or "validation".
        batch_size: examples of a batch of this pipeline, B.
        sequence_length: S, by default that of the data set; longer examples
            are shortened.
        seed: of the order and the masks. The validation split ignores it for
            the masks, so that all runs are measured alike.
        start_step: batches to leave out; the rest is what it would have been.
        mask_rate: share of tokens to predict.
        max_predictions: P, by default ceil(mask_rate S).
        num_input_pipelines: number of pipelines that share the data.
        input_pipeline_id: of this one, from 0.
        repeat: whether to go on for ever, across epochs in the middle of a
            batch. Otherwise the split is read once and the last batch may be
            smaller.
        shuffle: whether each epoch has a random order.

    Returns:
        A dataset of (x, y). x: "token_ids", "segment_ids", "padding_mask"
        (1 on tokens), int32 [B, S]. y: "mlm_positions", "mlm_labels" int32
        [B, P], "mlm_weights" float32 [B, P], "nsp_labels" int32 [B] (1: B is
        random).

    Raises:
        ValueError: if the data set is incomplete or an argument is out of
            range.
    """
    meta = records.verify(folder)
    count = sum(count for _, count, _ in meta.shards(split))
    records.require_split(folder, meta, split)
    length = sequence_length or meta.sequence_length
    if length < 8 or batch_size < 1 or start_step < 0:
        raise ValueError(
            "A dataset needs a sequence length of at least 8, a batch size "
            f"of at least 1 and a start step of at least 0, not {length}, "
            f"{batch_size} and {start_step}."
        )
    if not 0 <= input_pipeline_id < num_input_pipelines:
        raise ValueError(
            f"The input pipeline {input_pipeline_id} is not one of "
            f"{num_input_pipelines}: they are numbered from 0."
        )
    if max_predictions is None:
        max_predictions = default_max_predictions(length, mask_rate)
    vocabulary = _read_vocabulary(folder, meta.vocab_size)
    continuation = None
    if meta.whole_word_masking:
        continuation = np.array([t.startswith("##") for t in vocabulary])
    cls_id, sep_id, mask_id, pad_id = map(vocabulary.index, _SPECIAL)
    fixed_masks = split == "validation"
    mask_seed = meta.seed if fixed_masks else seed

    def to_batch(serialized, index, epoch):
        parsed = tf.io.parse_example(serialized, records.FEATURES)
        # An id out of range reads another's weights on some devices.
        tf.debugging.Assert(
            records.well_formed(parsed, meta), ["An example is out of range."]
        )
        ragged = tf.cast(parsed["token_ids"], tf.int32)
        lengths = tf.cast(ragged.row_lengths(), tf.int32)
        b_start = tf.cast(parsed["segment_b_start"], tf.int32)
        labels = tf.cast(parsed["next_sentence_label"], tf.int32)
        batch = batch_size if repeat else None
        if length < meta.sequence_length:
            token_ids, lengths, b_start = _shorten(
                ragged.to_tensor(shape=[batch, meta.sequence_length]),
                lengths,
                b_start,
                length,
            )
        else:
            token_ids = ragged.to_tensor(shape=[batch, length])
        token_ids = tf.ensure_shape(token_ids, [batch, length])
        position = tf.range(length)[None]
        is_token = position < lengths[:, None]
        token_ids = tf.where(is_token, token_ids, pad_id)
        masked, targets = masking.mask_tokens(
            token_ids,
            lengths,
            masking.example_keys(
                mask_seed, tf.zeros_like(epoch) if fixed_masks else epoch, index
            ),
            mask_rate,
            max_predictions,
            meta.vocab_size,
            (cls_id, sep_id),
            mask_id,
            continuation,
        )
        x = {
            "token_ids": masked,
            "segment_ids": tf.cast(
                is_token & (position >= b_start[:, None]), tf.int32
            ),
            "padding_mask": tf.cast(is_token, tf.int32),
        }
        return x, targets | {"nsp_labels": tf.ensure_shape(labels, [batch])}

    reader = _Reader(folder, split, seed, shuffle)
    skipped = start_step * batch_size * num_input_pipelines
    if repeat:
        first, position = divmod(skipped, count)
        epochs = tf.data.Dataset.range(first, np.iinfo(np.int64).max)
    else:
        first, position = 0, min(skipped, count)
        epochs = tf.data.Dataset.range(1)
    dataset = epochs.flat_map(
        lambda epoch: reader.epoch(
            epoch, tf.where(epoch == first, np.int64(position), np.int64(0))
        )
    )
    if num_input_pipelines > 1:
        dataset = dataset.shard(num_input_pipelines, input_pipeline_id)
    dataset = dataset.batch(batch_size, drop_remainder=repeat)
    dataset = dataset.map(to_batch, num_parallel_calls=tf.data.AUTOTUNE)
    options = tf.data.Options()
    options.deterministic = True
    # The data is shared out above; tf.distribute must not do it again.
    options.experimental_distribute.auto_shard_policy = (
        tf.data.experimental.AutoShardPolicy.OFF
    )
    return dataset.prefetch(tf.data.AUTOTUNE).with_options(options)


def _read_vocabulary(folder: str, size: int) -> list[str]:
    path = os.path.join(folder, "vocab.txt")
    text = storage.read_bytes(path).decode("utf-8", "replace")
    vocabulary = [line.strip() for line in text.split("\n")]
    missing = [token for token in _SPECIAL if token not in vocabulary]
    if missing or len(vocabulary) < size:
        raise ValueError(
            f"{path} is not the vocabulary of {size} tokens that meta.json "
            f"speaks of{', without ' if missing else ''}{', '.join(missing)}: "
            "run prepare_data again."
        )
    return vocabulary
