"""Masked-language-model targets, drawn at training time.

Follows `create_masked_lm_predictions` of google-research/bert: 15 % of the
tokens, never [CLS] or [SEP]; of these 80 % become [MASK], 10 % a random token
and 10 % stay. Whole words: a word is its first piece and the "##" pieces
after it; words are taken in random order, one that does not fit into what is
left is passed over.

Every draw is a hash of (seed, epoch, number of the example, position), so it
neither depends on the batch an example is in nor on the examples before it.
"""

import numpy as np
import tensorflow as tf

_MULTIPLIERS = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
_GOLDEN = 0x9E3779B97F4A7C15


def _constant(value: int) -> tf.Tensor:
    return tf.constant(value, tf.uint64)


def mix(values: tf.Tensor) -> tf.Tensor:
    """Hashes uint64 numbers to uint64 numbers (SplitMix64's finalizer).

    Steele et al. 2014, "Fast splittable pseudorandom number generators".
    """
    values += _constant(_GOLDEN)
    for shift, multiplier in zip((30, 27), _MULTIPLIERS):
        values = tf.bitwise.bitwise_xor(
            values, tf.bitwise.right_shift(values, _constant(shift))
        )
        values *= _constant(multiplier)
    return tf.bitwise.bitwise_xor(
        values, tf.bitwise.right_shift(values, _constant(31))
    )


def draw(keys: tf.Tensor, stream: int, length: int) -> tf.Tensor:
    """Draws random numbers for each position of each example.

    Args:
        keys: uint64 [batch], one for each example.
        stream: number of the independent draw.
        length: number of positions.

    Returns:
        uint64 [batch, length], uniform.
    """
    positions = tf.cast(tf.range(length), tf.int64) + stream * (1 << 32)
    return mix(keys[:, None] + mix(tf.cast(positions, tf.uint64))[None])


def uniform(bits: tf.Tensor) -> tf.Tensor:
    """Turns uint64 numbers into float32 in [0, 1), 24 bits of them."""
    top = tf.bitwise.right_shift(bits, _constant(40))
    return tf.cast(tf.cast(top, tf.int32), tf.float32) * np.float32(2.0**-24)


def permutation(key: tf.Tensor, length: tf.Tensor) -> tf.Tensor:
    """Returns a random order, int64 [length], that a key [1] uint64 decides."""
    bits = tf.bitwise.right_shift(draw(key, 3, length)[0], _constant(1))
    order = tf.argsort(tf.cast(bits, tf.int64), stable=True)
    return tf.cast(order, tf.int64)


def example_keys(seed: int, epoch: tf.Tensor, index: tf.Tensor) -> tf.Tensor:
    """Returns uint64 [batch] keys of examples.

    Args:
        seed: any integer of 64 bits.
        epoch: int64 scalar or [batch].
        index: int64 [batch], number of each example in its split.
    """
    key = mix(_constant(seed % (1 << 64)))
    key = mix(key ^ tf.cast(epoch, tf.uint64))
    return mix(key ^ tf.cast(index, tf.uint64))


def _choose_tokens(order, candidates, budget, count):
    """Picks the `budget` candidates with the smallest order of each row.

    Returns int32 [batch, count] positions and bool [batch, count] chosen.
    """
    order = tf.where(candidates, -order, -2.0)
    _, positions = tf.math.top_k(order, count)
    available = tf.reduce_sum(tf.cast(candidates, tf.int32), axis=1)
    chosen = tf.range(count)[None] < tf.minimum(budget, available)[:, None]
    return positions, chosen


def _choose_words(order, candidates, continuation, budget):
    """Takes words in random order while they fit; bool [batch, length].

    Words are numbered from the left; number w goes by order[:, w]. What is
    no candidate is a word of size 0.
    """
    shape = tf.shape(order)
    batch, length = shape[0], shape[1]
    # A piece at the front of a segment has lost its word's beginning.
    joined = continuation & tf.pad(candidates[:, :-1], [[0, 0], [1, 0]])
    words = tf.cumsum(tf.cast(~joined, tf.int32), axis=1) - 1
    flat = words + tf.range(batch)[:, None] * length
    sizes = tf.math.unsorted_segment_sum(
        tf.reshape(tf.cast(candidates, tf.int32), [-1]),
        tf.reshape(flat, [-1]),
        batch * length,
    )
    sizes = tf.reshape(sizes, [batch, length])
    is_word = sizes > 0
    turns = tf.argsort(tf.where(is_word, order, 2.0), axis=1, stable=True)
    # [length, batch]: a row is everybody's word whose turn it is.
    sizes = tf.transpose(tf.gather(sizes, turns, batch_dims=1))
    last = tf.reduce_max(tf.reduce_sum(tf.cast(is_word, tf.int32), axis=1))

    def go_on(turn, left, taken):
        del taken
        return (turn < last) & tf.reduce_any(left > 0)

    def step(turn, left, taken):
        fits = (sizes[turn] > 0) & (sizes[turn] <= left)
        left -= tf.where(fits, sizes[turn], 0)
        return turn + 1, left, taken.write(turn, fits)

    _, _, taken = tf.while_loop(
        go_on,
        step,
        [0, budget, tf.TensorArray(tf.bool, length, element_shape=[None])],
        parallel_iterations=1,
    )
    # Turns that were not reached read as false.
    taken = tf.reshape(taken.stack(), [length, batch])
    by_turn = tf.cast(tf.transpose(taken), tf.int32)
    by_word = tf.gather(by_turn, tf.argsort(turns, axis=1), batch_dims=1)
    return candidates & (tf.gather(by_word, words, batch_dims=1) > 0)


def mask_tokens(
    token_ids: tf.Tensor,
    lengths: tf.Tensor,
    keys: tf.Tensor,
    mask_rate: float,
    max_predictions: int,
    vocab_size: int,
    special_ids: tuple[int, int],
    mask_id: int,
    continuation: np.ndarray | None = None,
) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
    """Draws what is to be predicted and hides it.

    Args:
        token_ids: int32 [batch, length].
        lengths: int32 [batch] tokens of each example.
        keys: uint64 [batch], see `example_keys`.
        mask_rate: share of an example's tokens to predict; at least one is.
        max_predictions: most to predict in an example.
        vocab_size: random tokens are drawn from all of the vocabulary.
        special_ids: ids of [CLS] and [SEP].
        mask_id: id of [MASK].
        continuation: bool [vocab_size], true at "##" pieces, to mask whole
            words; None to mask single pieces.

    Returns:
        The token ids with masks, int32 [batch, length], and "mlm_positions"
        int32, "mlm_labels" int32 and "mlm_weights" float32, all [batch,
        max_predictions], positions in ascending order, zeros where there is
        nothing to predict.
    """
    length = token_ids.shape[1]
    candidates = tf.range(length)[None] < lengths[:, None]
    for special in special_ids:
        candidates &= token_ids != special
    budget = tf.cast(
        tf.round(tf.cast(lengths, tf.float32) * mask_rate), tf.int32
    )
    budget = tf.clip_by_value(budget, 1, max_predictions)
    order = uniform(draw(keys, 0, length))
    if continuation is not None:
        pieces = tf.gather(tf.constant(continuation), token_ids)
        candidates = _choose_words(order, candidates, pieces, budget)
    count = min(max_predictions, length)
    positions, chosen = _choose_tokens(order, candidates, budget, count)
    # Ascending positions, the unused last.
    positions = tf.sort(tf.where(chosen, positions, length), axis=1)
    chosen = positions < length
    positions = tf.where(chosen, positions, 0)
    labels = tf.gather(token_ids, positions, batch_dims=1)
    kind = uniform(draw(keys, 1, length))
    random_ids = tf.cast(
        draw(keys, 2, length) % _constant(vocab_size), tf.int32
    )
    batch = tf.shape(token_ids)[0]
    flat = positions + tf.range(batch)[:, None] * length
    selected = tf.scatter_nd(
        tf.boolean_mask(flat, chosen)[:, None],
        tf.ones([tf.reduce_sum(tf.cast(chosen, tf.int32))], tf.int32),
        [batch * length],
    )
    selected = tf.reshape(selected, [batch, length]) > 0
    hidden = tf.where(kind < 0.8, mask_id, random_ids)
    masked = tf.where(selected & (kind < 0.9), hidden, token_ids)
    padding = [[0, 0], [0, max_predictions - count]]
    targets = {
        "mlm_positions": positions,
        "mlm_labels": tf.where(chosen, labels, 0),
        "mlm_weights": tf.cast(chosen, tf.float32),
    }
    return masked, {
        name: tf.ensure_shape(
            tf.pad(value, padding), [token_ids.shape[0], max_predictions]
        )
        for name, value in targets.items()
    }
