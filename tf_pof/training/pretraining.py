"""Masked-language-model and next-sentence training, with distillation."""

import tensorflow as tf

from tf_pof.distillation import Distiller
from tf_pof.distillation.distiller import soft_divergence
from tf_pof.distillation.vocabulary_loss import Decoder, chunked_loss
from tf_pof.models.bert import without_mlm_logits


class PretrainingDistiller(Distiller):
    """`Distiller` for models with the pretraining head, on text.

    loss = hard_loss_weight * (MLM + NSP cross-entropy)
         + distillation_weight * (MLM + NSP divergence from the teacher)
         + the internal losses of `Distiller`

    The MLM cross-entropy is the mean over masked tokens, its divergence the
    mean over all tokens that are not padding, the NSP terms are means over
    examples (Zafrir et al. 2021, section 3.2 and appendix A). The logits over
    the vocabulary exist for `chunk_size` tokens at a time.

    Batches are those of `tf_pof.data.inputs.pretraining_dataset`. Models
    without segments (DistilBERT) or a pooler have no NSP terms.
    """

    def __init__(self, *args, chunk_size: int = 1024, **kwargs):
        """See `Distiller`; `chunk_size` is in tokens.

        Raises:
            ValueError: also if a model has no pretraining head, or if the
                vocabularies of student and teacher differ in size.
        """
        super().__init__(*args, **kwargs)
        self.chunk_size = chunk_size
        if self.teacher is not None:
            ours = self.student.config.vocabulary_size
            theirs = self.teacher.config.vocabulary_size
            if ours != theirs:
                raise ValueError(
                    f"The student's vocabulary has {ours} tokens and the "
                    f"teacher's {theirs}: distillation needs the same."
                )

    def terms_of(self, part):
        has_nsp = "nsp_logits" in self.student.output
        if part == "hard":
            return ("mlm", "nsp") if has_nsp else ("mlm",)
        if part == "distillation":
            # A teacher of masked tokens alone has nothing to say of the rest.
            if self.teacher is not None:
                has_nsp &= "nsp_logits" in self.teacher.output
            terms = ("mlm_distillation", "nsp_distillation")
            return terms if has_nsp else terms[:1]
        return (part,)

    def views(self):
        teacher = self.teacher and without_mlm_logits(self.teacher)
        return without_mlm_logits(self.student), teacher

    def reports(self):
        # A term without weight is worked out and reported all the same.
        parts = ["hard"] if self.teacher is None else ["hard", "distillation"]
        names = [*self.terms_of("hard"), *super().reports()]
        names += [n for p in parts for n in self.terms_of(p)]
        names += [f"{name}_accuracy" for name in self.terms_of("hard")]
        normalizers = dict.fromkeys(names, "examples")
        tokens = ("hidden", "attention", "mlm_distillation")
        normalizers |= {n: "tokens" for n in tokens if n in names}
        return normalizers | {
            "mlm": "predictions",
            "mlm_accuracy": "predictions",
        }

    def normalizers(self, x, y, sample_weight):
        del sample_weight
        count = tf.cast(tf.shape(x["token_ids"])[0], tf.float32)
        return {
            "examples": count,
            "tokens": tf.cast(tf.reduce_sum(x["padding_mask"]), tf.float32),
            # 0 where no token is masked: the MLM terms are 0 then.
            "predictions": tf.reduce_sum(y["mlm_weights"]),
        }

    def loss_terms(self, x, y, sample_weight, normalizers, training):
        del sample_weight
        student, teacher = self.run(x, training)
        terms = {}
        if "nsp_logits" in student:
            terms |= _nsp_terms(
                y["nsp_labels"],
                student["nsp_logits"],
                teacher and teacher.get("nsp_logits"),
                self.temperature,
                normalizers["examples"],
            )
        if self._internals:
            terms |= self._internals.losses(
                x, student, teacher, normalizers["tokens"]
            )
        loss, mlm_terms = self._mlm_loss(
            x, y, student, teacher, normalizers, training
        )
        if terms:
            loss += self.weigh(terms)
        return loss, terms | mlm_terms

    def _mlm_loss(self, x, y, student, teacher, normalizers, training):
        """The weighed MLM losses, and each without its weight."""
        order, labels, is_masked, is_token = _ordered_tokens(x, y)
        # Masked tokens come first, then the others, then padding: labels are
        # looked at in the first part only.
        num_slots = tf.size(y["mlm_positions"])
        if y["mlm_positions"].shape.is_fully_defined():
            num_slots = y["mlm_positions"].shape.num_elements()
        parts = [(slice(None, num_slots), True, None)]
        if teacher is not None:
            num_tokens = tf.cast(tf.reduce_sum(is_token), tf.int32)
            rest = tf.maximum(num_tokens - num_slots, 0)
            parts.append((slice(num_slots, None), False, rest))
        loss, terms = 0.0, {}
        decoder = _decoder(self.student, student, order)
        other = teacher and _decoder(self.teacher, teacher, order)
        for rows, labelled, num_rows in parts:
            partial, sums = chunked_loss(
                decoder(rows),
                other and other(rows),
                labels[rows] if labelled else None,
                tf.math.divide_no_nan(
                    is_masked[rows], normalizers["predictions"]
                ),
                tf.math.divide_no_nan(is_token[rows], normalizers["tokens"]),
                weights=(
                    self.loss_weights.get("mlm", 0.0),
                    self.loss_weights.get("mlm_distillation", 0.0),
                ),
                temperature=self.temperature,
                chunk_size=self.chunk_size,
                num_rows=num_rows,
                compute_dtype=student["mlm_hidden"].dtype,
                gradient=training,
            )
            loss += partial
            for name, value in sums.items():
                terms[name] = terms.get(name, 0.0) + value
        result = {
            "mlm": terms["hard"],
            "mlm_accuracy": tf.math.divide_no_nan(
                terms["correct"], normalizers["predictions"]
            ),
        }
        if teacher is not None:
            result["mlm_distillation"] = terms["distillation"]
        return loss, result


def _decoder(model, outputs, order):
    """A function from slices of `order` to the decoder of those rows."""
    hidden = outputs["mlm_hidden"]
    flat = tf.reshape(hidden, [-1, hidden.shape[-1]])
    table = model.get_layer("token_embedding")
    # Outside its layer the variable is float32. It is read once, so that the
    # gradients of all rows are added first and that of the embedding then:
    # TensorFlow would add all of them at once, in any order (see `sums`).
    kernel, bias = map(
        tf.convert_to_tensor, (table.embeddings, table.output_bias)
    )
    return lambda rows: Decoder(tf.gather(flat, order[rows]), kernel, bias)


def _ordered_tokens(x, y):
    """An order of all tokens of a batch: masked, then others, then padding.

    Args:
        x: "padding_mask" [batch, seq] int32.
        y: "mlm_positions", "mlm_labels" [batch, slots] int32 and
            "mlm_weights" [batch, slots] float32, 0 for an unused slot.

    Returns:
        order: [batch * seq] int32, indices into the flattened batch.
        labels: [batch * seq] int32 in that order, 0 where not masked.
        is_masked, is_token: [batch * seq] float32 in that order.
    """
    shape = tf.shape(x["padding_mask"])
    first = tf.range(shape[0])[:, None] * shape[1]
    slots = tf.reshape(first + y["mlm_positions"], [-1, 1])
    size = [shape[0] * shape[1]]
    used = tf.reshape(y["mlm_weights"], [-1])
    # Unused slots point at position 0 and add 0 there.
    is_masked = tf.scatter_nd(slots, used, size)
    chosen = tf.reshape(y["mlm_labels"], [-1]) * tf.cast(used, tf.int32)
    labels = tf.scatter_nd(slots, chosen, size)
    is_token = tf.cast(tf.reshape(x["padding_mask"], [-1]), tf.float32)
    order = tf.argsort(-(is_token + is_masked), stable=True)
    return order, *(tf.gather(t, order) for t in (labels, is_masked, is_token))


def _nsp_terms(labels, student, teacher, temperature, num_examples):
    """Next-sentence terms: cross-entropy, divergence and accuracy."""
    student = tf.cast(student, tf.float32)
    cross_entropy = tf.nn.sparse_softmax_cross_entropy_with_logits(
        labels, student
    )
    hits = tf.equal(tf.argmax(student, -1, labels.dtype), labels)
    terms = {
        "nsp": tf.reduce_sum(cross_entropy) / num_examples,
        "nsp_accuracy": tf.reduce_sum(tf.cast(hits, tf.float32))
        / num_examples,
    }
    if teacher is not None:
        divergence = soft_divergence(teacher, student, temperature)
        terms["nsp_distillation"] = divergence / num_examples
    return terms
