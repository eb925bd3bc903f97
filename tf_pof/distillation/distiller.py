"""A Keras model that trains a student on labels and on a frozen teacher."""

import tensorflow as tf

from tf_pof._keras import keras
from tf_pof.distillation.classes import require_same_order
from tf_pof.distillation.internal_losses import InternalLosses
from tf_pof.distillation.plain_labels import PlainLabels
from tf_pof.distillation.sums import ordered_gradients, ordered_sum
from tf_pof.pruning.fit import PruningMixin, pruner_of


@keras.utils.register_keras_serializable(package="tf_pof")
class Distiller(PlainLabels, PruningMixin, keras.Model):
    """Trains `student` with `model.fit`, distilling from `teacher`.

    loss = hard_loss_weight * (the loss given to compile)
         + distillation_weight * T^2 KL(teacher^(1/T) || student^(1/T))
         + hidden_loss_weight * (mean squared error of hidden states)
         + attention_loss_weight * (mean squared error of attention scores)

    (Hinton et al. 2015; Zafrir et al. 2021, section 3.2; Jiao et al. 2020 for
    the last two.) Every term is a mean over the global batch, whatever the
    number of replicas and micro batches, so neither changes the result.

    If the student is pruned (`tf_pof.prune`), its masks are selected anew by
    its schedule between the steps, as in the student's own `fit`.

    Example:
        distiller = tf_pof.Distiller(student, teacher, temperature=2.0)
        distiller.compile(
            keras.optimizers.Adam(5e-5),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        )
        distiller.fit(train_ds)
        tf_pof.save(student, "sparse_model")
    """

    def __init__(
        self,
        student: keras.Model,
        teacher: keras.Model | None = None,
        hard_loss_weight: float = 0.5,
        distillation_weight: float = 0.5,
        temperature: float = 2.0,
        hidden_loss_weight: float = 0.0,
        attention_loss_weight: float = 0.0,
        micro_batch_size: int = 0,
        mask_update: str = "before_step",
        **kwargs,
    ):
        """Initializes the distiller.

        Args:
            student: model of logits [batch, ..., classes]: one tensor, or a
                dict whose entries named "...logits" they are (`logits_of`).
            teacher: model of the same inputs and outputs, or None for no
                distillation. It is only read: it is neither trained nor saved
                with this model.
            hard_loss_weight: weight of the compiled loss.
            distillation_weight: weight of the divergence from the teacher.
            temperature: softens both distributions, > 0.
            hidden_loss_weight: weight of the hidden-state loss; needs models
                made by `tf_pof.build`. A student narrower than the teacher
                learns a linear map to its width.
            attention_loss_weight: weight of the attention-score loss; student
                and teacher need the same number of heads.
            micro_batch_size: examples a replica looks at together; gradients
                of the micro batches of a batch are summed before the
                optimizer step. 0 for the whole batch.
            mask_update: when masks are selected, see `PruningMixin`.

        Raises:
            ValueError: for a weight or temperature out of range, an unknown
                mask_update, or a teacher that shares variables with the
                student or has its classes in another order.
        """
        super().__init__(**kwargs)
        if temperature <= 0:
            raise ValueError(f"temperature must be > 0, got {temperature}.")
        weights = {
            "hard": hard_loss_weight,
            "distillation": distillation_weight,
            "hidden": hidden_loss_weight,
            "attention": attention_loss_weight,
        }
        for name, weight in weights.items():
            if weight < 0:
                raise ValueError(
                    f"The weight of the {name} loss must be >= 0, got {weight}."
                )
        if teacher is None:
            weights = {"hard": hard_loss_weight}
        elif {v.ref() for v in teacher.variables} & {
            v.ref() for v in student.variables
        }:
            raise ValueError(
                "Student and teacher share variables, so the teacher would not"
                " stay frozen: build or load the teacher a second time."
            )
        else:
            require_same_order(student, teacher)
        self.student = student
        # Past Keras' tracking: the teacher is no part of this model's weights.
        object.__setattr__(self, "_teacher", teacher)
        self.temperature = temperature
        self.loss_weights = {
            term: weight
            for part, weight in weights.items()
            for term in self.terms_of(part)
            if weight > 0
        }
        self.micro_batch_size = micro_batch_size
        terms = self.loss_weights.keys() & {"hidden", "attention"}
        views = self.views()
        internals = InternalLosses(*views, terms) if terms else None
        object.__setattr__(self, "_views", views)
        object.__setattr__(self, "_internals", internals)
        self.pruner = pruner_of(student)
        self.mask_update = mask_update
        self._means = {
            name: keras.metrics.Mean(name=name) for name in self.reports()
        }
        # Projections are trained, so they are tracked.
        self.projections = internals.projections if internals else []

    @property
    def teacher(self) -> keras.Model | None:
        return self._teacher

    def call(self, inputs, training=None):
        return self.student(inputs, training=training)

    # What a subclass with other losses overrides: the next five methods.

    def terms_of(self, part: str) -> tuple[str, ...]:
        """Terms of the loss that share the weight of a part of it."""
        return (part,)

    def reports(self) -> dict[str, str]:
        """What fit and evaluate report: names of terms and their normalizers.

        The mean over batches is weighted by the normalizer.
        """
        tokens = ("hidden", "attention")
        return {"loss": "examples"} | {
            name: "tokens" if name in tokens else "examples"
            for name in self.loss_weights
        }

    def views(self):
        """The models that are run, of student and teacher (None without)."""
        return self.student, self.teacher

    def normalizers(self, x, y, sample_weight) -> dict[str, tf.Tensor]:
        """Scalars that sums over the batch are divided by, before that.

        They are summed over replicas, so that a term is the mean over the
        global batch.
        """
        del y, sample_weight
        sizes = {"examples": tf.cast(_batch_size(x), tf.float32)}
        if self._internals:
            sizes["tokens"] = self._internals.normalizer(x)
        return sizes

    def loss_terms(self, x, y, sample_weight, normalizers, training):
        """Terms of the loss for one micro batch, each over the normalizers.

        Args:
            x, y, sample_weight: one micro batch.
            normalizers: of the global batch.
            training: bool.

        Returns:
            loss: scalar float32, what is minimized.
            terms: dict of scalar float32 that are reported.
        """
        student, teacher = self.run(x, training)
        count = tf.cast(_batch_size(x), tf.float32)
        share = count / normalizers["examples"]
        # Keras divides by the replica's (micro) batch and by the number of
        # replicas; undone, so that all terms are normalized in one way.
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        outputs = logits_of(student)
        y, sample_weight = self.unnamed(y), self.unnamed(sample_weight)
        hard = self.compiled_loss(
            y, outputs, sample_weight, regularization_losses=self.losses
        )
        self.compiled_metrics.update_state(y, outputs, sample_weight)
        terms = {"hard": hard * replicas * share}
        if "distillation" in self.loss_weights:
            divergence = soft_divergence(
                logits_of(teacher), outputs, self.temperature
            )
            terms["distillation"] = divergence / normalizers["examples"]
        if self._internals:
            terms |= self._internals.losses(
                x, student, teacher, normalizers["tokens"]
            )
        return self.weigh(terms), terms

    def run(self, x, training):
        """Outputs of student and frozen teacher (None without one)."""
        if self._internals:
            return self._internals(x, training)
        student, teacher = self._views
        outputs = student(x, training=training)
        return outputs, None if teacher is None else teacher(x, training=False)

    def train_step(self, data):
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        normalizers = self._sum_over_replicas(
            self.normalizers(x, y, sample_weight)
        )
        variables = self.trainable_variables

        def gradients_of(batch):
            def forward():
                loss, terms = self.loss_terms(
                    *batch, normalizers, training=True
                )
                scaled = loss
                if isinstance(self.optimizer, _LossScaleOptimizer):
                    scaled = self.optimizer.get_scaled_loss(loss)
                return scaled, terms | {"loss": loss}

            return ordered_gradients(forward, variables)

        gradients, logs = self._accumulate(gradients_of, (x, y, sample_weight))
        if isinstance(self.optimizer, _LossScaleOptimizer):
            gradients = self.optimizer.get_unscaled_gradients(gradients)
        self.optimizer.apply_gradients(zip(gradients, variables))
        return self._logs(logs, normalizers)

    def test_step(self, data):
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        normalizers = self._sum_over_replicas(
            self.normalizers(x, y, sample_weight)
        )
        loss, terms = self.loss_terms(
            x, y, sample_weight, normalizers, training=False
        )
        return self._logs(terms | {"loss": loss}, normalizers)

    def weigh(self, terms) -> tf.Tensor:
        """Sum of the terms that have a weight, times it; scalar float32."""
        return ordered_sum(
            [w * terms[k] for k, w in self.loss_weights.items() if k in terms]
        )

    def _logs(self, terms, normalizers):
        terms = self._sum_over_replicas(terms)
        for name, normalizer in self.reports().items():
            if name in terms:
                weight = normalizers[normalizer]
                self._means[name].update_state(terms[name], weight)
        # compiled_loss keeps a mean of its own, also named "loss".
        metrics = [*self.compiled_metrics.metrics, *self._means.values()]
        return {m.name: m.result() for m in metrics}

    def _sum_over_replicas(self, scalars):
        context = tf.distribute.get_replica_context()
        if context is None or context.num_replicas_in_sync == 1:
            return scalars
        names = sorted(scalars)
        summed = context.all_reduce(
            tf.distribute.ReduceOp.SUM, tf.stack([scalars[n] for n in names])
        )
        return dict(zip(names, tf.unstack(summed, len(names))))

    def _accumulate(self, function, batch):
        """Sums `function` over the micro batches of `batch`."""
        size = self.micro_batch_size
        total = _batch_size(batch[0])
        if not size or (isinstance(total, int) and total <= size):
            return function(batch)
        even = isinstance(total, int) and total % size == 0
        if self._jit_compile and not even:
            raise ValueError(
                f"micro_batch_size {size} does not divide the batch of {total}"
                " examples that a replica gets, as XLA needs: choose a divisor"
                " and batches of one size (drop_remainder=True)."
            )

        def micro_batch(i):
            def rows(tensor):
                if tensor is None:  # No sample weights.
                    return None
                if even:  # Shapes as static as the batch's.
                    sizes = tf.shape(tensor)
                    rest = [
                        sizes[axis] if n is None else n
                        for axis, n in enumerate(tensor.shape)
                    ][1:]
                    return tf.reshape(tensor, [total // size, size, *rest])[i]
                return tensor[i * size : (i + 1) * size]

            return tf.nest.map_structure(rows, batch)

        first = function(micro_batch(0))
        _, sums = tf.while_loop(
            lambda i, _: i < -(-total // size),
            lambda i, sums: (
                i + 1,
                tf.nest.map_structure(
                    tf.add, sums, function(micro_batch(i))
                ),
            ),
            (tf.constant(1), first),
            parallel_iterations=1,
        )
        return sums


_LossScaleOptimizer = keras.mixed_precision.LossScaleOptimizer


def soft_divergence(teacher, student, temperature: float) -> tf.Tensor:
    """T^2 KL(teacher^(1/T) || student^(1/T)), summed over the batch.

    Args:
        teacher: logits [batch, ..., classes], one tensor or a structure of
            tensors that weigh the same (the .5 and .5 of start and end
            logits): the mean over them, and over the axes between, is taken.
            One class is a score (regression): there is no distribution to
            soften then, and the squared difference is taken.
        student: the same structure and shapes.
        temperature: T.

    Returns:
        scalar float32.
    """
    pairs = list(zip(tf.nest.flatten(teacher), tf.nest.flatten(student)))
    total = 0.0
    for from_teacher, from_student in pairs:
        if from_student.shape[-1] == 1:
            difference = tf.cast(from_teacher, tf.float32) - tf.cast(
                from_student, tf.float32
            )
            total += tf.reduce_sum(tf.square(difference))
            continue
        target = tf.cast(from_teacher, tf.float32) / temperature
        logits = tf.cast(from_student, tf.float32) / temperature
        log_target = tf.nn.log_softmax(target)
        divergence = tf.reduce_sum(
            tf.exp(log_target) * (log_target - tf.nn.log_softmax(logits)), -1
        )
        if divergence.shape.rank > 1:
            divergence = tf.reduce_mean(
                divergence, list(range(1, divergence.shape.rank))
            )
        total += temperature**2 * tf.reduce_sum(divergence)
    return total / len(pairs)


def logits_of(outputs):
    """What of a model's outputs is compared with labels and with a teacher.

    Of a dict the entries named "...logits" where it has some: the tensor
    itself if there is one, else a dict. Anything else is taken whole.
    """
    if not isinstance(outputs, dict):
        return outputs
    named = {k: v for k, v in outputs.items() if k.endswith("logits")}
    if len(named) == 1:
        return next(iter(named.values()))
    return named or outputs


def _batch_size(x):
    first = tf.nest.flatten(x)[0]
    return first.shape[0] or tf.shape(first)[0]
