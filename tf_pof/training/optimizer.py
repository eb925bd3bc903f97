"""AdamW as BERT uses it, and its learning-rate schedules."""

from tf_pof._keras import keras

import tensorflow as tf

# Names of variables that are not decayed: norms and biases.
_NO_DECAY = ("layer_norm", "bias")

# Kinds of `learning_rate_schedule`.
SCHEDULES = ("linear", "rewind", "flat_then_linear")


@keras.utils.register_keras_serializable(package="tf_pof")
class LearningRate(keras.optimizers.schedules.LearningRateSchedule):
    """Warm-up, a plateau, then linear to zero.

    Rate at step t, 0-based: peak * t / warmup_steps during the warm-up, peak
    until `flat_steps`, then linear to 0 at `train_steps`.
    """

    def __init__(self, peak, train_steps, warmup_steps=0, flat_steps=0):
        if not 0 <= warmup_steps <= train_steps:
            raise ValueError(
                f"warmup_steps {warmup_steps} is not within the {train_steps} "
                "training steps."
            )
        if not 0 <= flat_steps < train_steps:
            raise ValueError(
                f"The learning rate falls from step {flat_steps} on, which is "
                f"not within the {train_steps} training steps."
            )
        self.peak = peak
        self.train_steps = train_steps
        self.warmup_steps = warmup_steps
        self.flat_steps = flat_steps

    def __call__(self, step):
        step = tf.cast(step, tf.float32)
        start = max(self.flat_steps, self.warmup_steps)
        rising = step / max(self.warmup_steps, 1)
        falling = (self.train_steps - step) / max(self.train_steps - start, 1)
        rising = tf.where(step < self.warmup_steps, rising, 1.0)
        return self.peak * tf.clip_by_value(
            tf.minimum(rising, falling), 0.0, 1.0
        )

    def get_config(self):
        return {
            "peak": self.peak,
            "train_steps": self.train_steps,
            "warmup_steps": self.warmup_steps,
            "flat_steps": self.flat_steps,
        }


@keras.utils.register_keras_serializable(package="tf_pof")
class RewindingLearningRate(keras.optimizers.schedules.LearningRateSchedule):
    """Warm-up, a fall that is taken back at each selection, then to zero.

    With N = train_steps, a ramp of R = ramp_end_step - ramp_begin_step steps
    from b = ramp_begin_step on, selections every f steps and a warm-up of W,
    the rate at step t, 0-based, is

        peak * t / W                                        while t < W
        peak * (N - R - t) / (N - R - W)                    before the ramp
        peak * (N - R - b - (t - b) mod f) / (N - R - W)    in the ramp
        peak * (N - t) / (N - R - W)                        after it

    So the ramp takes no part of the fall, and with b < W its rate is a little
    above the peak. Zafrir et al. 2021 describe this as learning-rate
    rewinding; the formula is that of their published code.
    """

    def __init__(
        self,
        peak,
        train_steps,
        warmup_steps=0,
        ramp_begin_step=0,
        ramp_end_step=0,
        frequency=1,
    ):
        if not 0 <= ramp_begin_step <= ramp_end_step < max(train_steps, 1):
            raise ValueError(
                "The learning rate is rewound from step "
                f"{ramp_begin_step} to step {ramp_end_step}, which is not "
                f"within the {train_steps} training steps."
            )
        falling = train_steps - (ramp_end_step - ramp_begin_step)
        if not 0 <= warmup_steps < falling:
            raise ValueError(
                f"warmup_steps {warmup_steps} is not within the {falling} "
                f"training steps that are outside the sparsity's ramp."
            )
        if frequency < 1:
            raise ValueError(f"frequency is {frequency}, but must be >= 1.")
        self.peak = peak
        self.train_steps = train_steps
        self.warmup_steps = warmup_steps
        self.ramp_begin_step = ramp_begin_step
        self.ramp_end_step = ramp_end_step
        self.frequency = frequency

    def __call__(self, step):
        step = tf.cast(step, tf.float32)
        begin, end = self.ramp_begin_step, self.ramp_end_step
        falling = self.train_steps - (end - begin)
        # Steps of the fall that lie behind.
        past = tf.where(
            step < end,
            begin + (step - begin) % self.frequency,
            step - (end - begin),
        )
        past = tf.where(step < begin, step, past)
        rate = tf.maximum(falling - past, 0.0) / (falling - self.warmup_steps)
        rising = step / max(self.warmup_steps, 1)
        return self.peak * tf.where(step < self.warmup_steps, rising, rate)

    def get_config(self):
        return {
            "peak": self.peak,
            "train_steps": self.train_steps,
            "warmup_steps": self.warmup_steps,
            "ramp_begin_step": self.ramp_begin_step,
            "ramp_end_step": self.ramp_end_step,
            "frequency": self.frequency,
        }


def learning_rate_schedule(
    kind: str,
    peak: float,
    train_steps: int,
    warmup_steps: int = 0,
    ramp_end_step: int = 0,
    ramp_begin_step: int = 0,
    frequency: int = 1,
) -> keras.optimizers.schedules.LearningRateSchedule:
    """The learning rate of a run.

    Args:
        kind: "linear": warm-up, then linear to 0 at `train_steps` (teacher
            preparation). "rewind": `RewindingLearningRate`, as the paper's
            code has it (Zafrir et al. 2021, section 3.2). "flat_then_linear":
            warm-up, flat at the peak until `ramp_end_step`, then linear to 0.
        peak: largest rate.
        train_steps: optimizer steps of the run.
        warmup_steps: steps of linear rise from 0.
        ramp_end_step: last step of the sparsity ramp; "linear" has none.
        ramp_begin_step: its first step, read by "rewind".
        frequency: steps between selections, read by "rewind".

    Raises:
        ValueError: for an unknown kind or steps outside the run.
    """
    if kind not in SCHEDULES:
        raise ValueError(
            f"The learning rate schedule must be one of {', '.join(SCHEDULES)}"
            f", not {kind}."
        )
    if kind == "rewind":
        return RewindingLearningRate(
            peak,
            train_steps,
            warmup_steps,
            ramp_begin_step,
            ramp_end_step,
            frequency,
        )
    flat_steps = ramp_end_step if kind == "flat_then_linear" else 0
    return LearningRate(peak, train_steps, warmup_steps, flat_steps)


@keras.utils.register_keras_serializable(package="tf_pof")
class AdamW(keras.optimizers.AdamW):
    """Keras' AdamW, with its update done by one fused op.

    Keras' own update makes ten passes over memory and its decay seven, here
    they are one and two; on a CPU that is a tenth of a small BERT's training
    step, and more of it where texts are short.
    """

    def _apply_weight_decay(self, variables):
        """Nothing: `update_step` decays, in fewer passes."""

    def update_step(self, gradient, variable):
        dtype = variable.dtype
        if self.weight_decay and self._use_weight_decay(variable):
            decay = tf.cast(self.learning_rate * self.weight_decay, dtype)
            variable.assign(variable * (1 - decay))
        index = self._index_dict[self._var_key(variable)]
        step = tf.cast(self.iterations + 1, dtype)
        beta_1 = tf.cast(self.beta_1, dtype)
        beta_2 = tf.cast(self.beta_2, dtype)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[index].handle,
            v=self._velocities[index].handle,
            beta1_power=tf.pow(beta_1, step),
            beta2_power=tf.pow(beta_2, step),
            lr=tf.cast(self.learning_rate, dtype),
            beta1=beta_1,
            beta2=beta_2,
            epsilon=tf.cast(self.epsilon, dtype),
            grad=tf.convert_to_tensor(gradient),
        )


def adamw(
    learning_rate,
    weight_decay: float = 0.01,
    clip_norm: float = 1.0,
    beta_1: float = 0.9,
    beta_2: float = 0.999,
    epsilon: float = 1e-8,
) -> AdamW:
    """AdamW without decay on norms and biases (Devlin et al. 2019).

    Args:
        learning_rate: float or schedule.
        weight_decay: decoupled, times the learning rate.
        clip_norm: bound on the norm of all gradients together; 0 for none.
        beta_1, beta_2, epsilon: of Adam (Kingma & Ba 2015).
    """
    optimizer = AdamW(
        learning_rate,
        weight_decay=weight_decay,
        beta_1=beta_1,
        beta_2=beta_2,
        epsilon=epsilon,
        global_clipnorm=clip_norm or None,
        jit_compile=False,
    )
    optimizer.exclude_from_weight_decay(var_names=list(_NO_DECAY))
    return optimizer
