"""Flags of the commands that train."""

import dataclasses

from absl import app, flags

from tf_pof.cli import common, help as helps

FLAGS = flags.FLAGS

# Far above all that memory holds.
_MAX_BATCH = 1 << 20
_LOSS_WEIGHTS = (
    "hard_loss_weight",
    "distillation_weight",
    "hidden_loss_weight",
    "attention_loss_weight",
)


@helps.group("Data")
def define_pretraining(learning_rate_schedule: str) -> None:
    """Defines what prepare_teacher and prune_pretrain share."""
    define(
        train_steps=100_000,
        batch_size=256,
        learning_rate=5e-5,
        learning_rate_schedule=learning_rate_schedule,
        warmup_fraction=0.01,
        seed_of="weights, masking and dropout",
    )
    flags.DEFINE_string(
        "data", None, "Folder of examples made by bin/prepare_data."
    )
    flags.DEFINE_integer(
        "sequence_length",
        None,
        "Tokens that examples are padded to; by default as prepared.",
        lower_bound=1,
    )
    flags.DEFINE_float(
        "mask_rate", 0.15, "Share of the tokens to predict.", 0.0, 1.0
    )
    common.positive("mask_rate", below=1)
    flags.DEFINE_integer(
        "evaluate_batches",
        20,
        "Batches of an evaluation before the end; 0 for all.",
        lower_bound=0,
    )


@helps.group("Training")
def define(
    train_steps: int,
    batch_size: int,
    learning_rate: float,
    learning_rate_schedule: str,
    warmup_fraction: float,
    seed_of: str,
    epochs: bool = False,
) -> None:
    """Defines what all share, with a command's own defaults.

    Args:
        train_steps, batch_size, learning_rate, learning_rate_schedule,
            warmup_fraction: defaults.
        seed_of: what the help of --seed says.
        epochs: whether the command knows passes over its data.
    """
    flags.DEFINE_string(
        "model",
        None,
        "Model to train: a folder of tf_pof, Hugging Face or keras-nlp, the "
        "prefix of a Google checkpoint, a bundled name, or a size such as "
        "bert_tiny for random weights.",
    )
    flags.DEFINE_string(
        "output",
        None,
        "Folder of the run; the model is written to its subfolder model. The "
        "same command goes on with an interrupted run.",
    )
    flags.DEFINE_integer(
        "train_steps",
        train_steps,
        "Optimizer steps of the run"
        + ("." if train_steps else "; 0 for those of --epochs."),
        lower_bound=0 if not train_steps else 1,
    )
    flags.DEFINE_integer(
        "batch_size",
        batch_size,
        "Examples of a step, of all replicas.",
        lower_bound=1,
        upper_bound=_MAX_BATCH,
    )
    flags.DEFINE_integer(
        "micro_batch_size",
        0,
        "Examples that a replica holds in memory at a time, whose gradients "
        "are accumulated; 0 for its whole share of the batch.",
        lower_bound=0,
    )
    flags.DEFINE_float("learning_rate", learning_rate, "Peak learning rate.")
    flags.DEFINE_enum(
        "learning_rate_schedule",
        learning_rate_schedule,
        ["linear", "rewind", "flat_then_linear"],
        "linear: warm-up, then linear to 0. rewind: a linear fall that is "
        "taken back at each selection until --pruning_ramp_end_step. "
        "flat_then_linear: flat until that step, then linear to 0.",
    )
    flags.DEFINE_float(
        "warmup_fraction",
        warmup_fraction,
        "Share of the steps that warm up.",
        0.0,
        1.0,
    )
    flags.DEFINE_float("weight_decay", 0.01, "Decoupled weight decay.", 0.0)
    flags.DEFINE_float(
        "clip_norm", 1.0, "Bound on the norm of all gradients; 0 for none.", 0.0
    )
    flags.DEFINE_float("adam_beta_1", 0.9, "Adam's first-moment decay.", 0.0)
    flags.DEFINE_float(
        "adam_beta_2", 0.999, "Adam's second-moment decay.", 0.0
    )
    flags.DEFINE_float("adam_epsilon", 1e-8, "Adam's epsilon.")
    common.positive("learning_rate", "adam_epsilon")
    flags.DEFINE_float(
        "dropout", None, "Dropout rate in place of the model's own.", 0.0, 1.0
    )
    common.below(1, "adam_beta_1", "adam_beta_2", "dropout")
    flags.DEFINE_integer(
        "seed",
        0,
        f"Seed of {seed_of}.",
        lower_bound=0,
        upper_bound=2**32 - 1,
    )
    flags.DEFINE_enum(
        "precision",
        "float32",
        ["auto", "float32", "mixed_bfloat16", "mixed_float16"],
        "Precision of the forward and backward pass. auto: mixed_bfloat16 "
        "where the processor, GPU or TPU has instructions for it, else "
        "float32; a run that goes on keeps its own.",
    )
    flags.DEFINE_bool("jit_compile", False, "Compile the step with XLA.")
    flags.DEFINE_enum(
        "strategy",
        "default",
        ["default", "mirrored", "multi_worker", "tpu", "parameter_server"],
        "Distribution: one device, all local GPUs, the workers of TF_CONFIG "
        "with all-reduce, or a TPU. Parameter servers are refused: training "
        "needs its steps in order.",
    )
    flags.DEFINE_integer(
        "checkpoint_every", 1000, "Steps between checkpoints.", lower_bound=1
    )
    flags.DEFINE_integer(
        "log_every", 50, "Steps between points of the curve.", lower_bound=1
    )
    flags.DEFINE_bool(
        "keep_checkpoints",
        False,
        "Whether the last checkpoints stay when the run is finished, so that "
        "it can go on with more --train_steps.",
    )
    help_text = (
        "Steps between evaluations on the validation split; 0 for one at the "
        "end only."
    )
    if epochs:
        flags.DEFINE(
            StepsOrEpoch(),
            "evaluate_every",
            "epoch",
            f"{help_text} epoch: after each pass over the training split.",
        )
    else:
        flags.DEFINE_integer("evaluate_every", 0, help_text, lower_bound=0)


class StepsOrEpoch(flags.ArgumentParser):
    """Parses a number of steps, or "epoch"."""

    syntactic_help = "a number of steps, or epoch"

    def parse(self, argument):
        if argument == "epoch":
            return argument
        try:
            return flags.IntegerParser(lower_bound=0).parse(argument)
        except ValueError:
            raise ValueError(
                f"{argument} is not {self.syntactic_help}"
            ) from None

    def flag_type(self):
        return "steps or epoch"


@helps.group("Pruning")
def define_pruning(
    final_sparsity: float | None = 0.9,
    ramp_end_step: int | None = 50_000,
    end_step: int | None = 80_000,
    frequency: int | None = 1000,
) -> None:
    """Defines how masks are selected; None is worked out by the command."""
    by_default = ""
    if ramp_end_step is None:
        by_default = "; by default the paper's share of --train_steps"
    flags.DEFINE_string(
        "pattern",
        "unstructured",
        "What is pruned together: unstructured, a block RxC of R outputs by C "
        "inputs such as 1x4, or n:m such as 2:4.",
    )
    flags.DEFINE_enum(
        "budget",
        "uniform",
        ["uniform", "global", "er", "erk"],
        "How sparsity is shared by the tensors.",
    )
    flags.DEFINE_enum(
        "pruning_schedule",
        "prune_once",
        ["prune_once", "constant", "polynomial"],
        "prune_once: cubic ramp, selection goes on, then hold. constant and "
        "polynomial are TF-MOT's ConstantSparsity and PolynomialDecay.",
    )
    flags.DEFINE_float(
        "initial_sparsity", 0.0, "Sparsity at the beginning.", 0.0, 1.0
    )
    flags.DEFINE_float(
        "final_sparsity",
        final_sparsity,
        "Share of zeros at the end"
        + ("." if final_sparsity else "; none: nothing is pruned."),
        0.0,
        1.0,
    )
    common.below(1, "initial_sparsity", "final_sparsity")
    flags.DEFINE_integer(
        "pruning_begin_step", 0, "First selection.", lower_bound=0
    )
    flags.DEFINE_integer(
        "pruning_ramp_end_step",
        ramp_end_step,
        f"Step of the final sparsity{by_default}.",
        lower_bound=0,
    )
    flags.DEFINE_integer(
        "pruning_end_step",
        end_step,
        f"Last selection; masks stay from there{by_default}.",
        lower_bound=0,
    )
    flags.DEFINE_integer(
        "pruning_frequency",
        frequency,
        f"Steps between selections{by_default}.",
        lower_bound=1,
    )
    flags.DEFINE_enum(
        "mask_update",
        "before_step",
        ["before_step", "after_step"],
        "Whether masks are what the schedule says at step t before that step "
        "or after it, as in the paper's code.",
    )
    flags.DEFINE_bool(
        "keep_pruned_values",
        True,
        "Whether a pruned weight keeps its value and may return; otherwise it "
        "is zero for good.",
    )


@helps.group("Distillation")
def define_distillation(
    teacher: str, hard_loss_weight: float, distillation_weight: float
) -> None:
    """Defines what is learned from a teacher.

    Args:
        teacher: help of --teacher.
        hard_loss_weight, distillation_weight: defaults.
    """
    flags.DEFINE_string("teacher", None, teacher)
    flags.DEFINE_float(
        "hard_loss_weight",
        hard_loss_weight,
        "Weight of the labels' loss.",
        0.0,
    )
    flags.DEFINE_float(
        "distillation_weight",
        distillation_weight,
        "Weight of the divergence from the teacher; 0 for no distillation.",
        0.0,
    )
    flags.DEFINE_float("temperature", 2.0, "Of both distributions.")
    common.positive("temperature")
    flags.DEFINE_float(
        "hidden_loss_weight", 0.0, "Weight of the hidden-state loss.", 0.0
    )
    flags.DEFINE_float(
        "attention_loss_weight", 0.0, "Weight of the attention loss.", 0.0
    )


def values(fields) -> dict:
    """Values of the flags that are named like these dataclass fields.

    Raises:
        app.UsageError: naming flags that contradict.
    """
    losses = [name for name in _LOSS_WEIGHTS if name in FLAGS]
    if losses and not any(FLAGS[name].value for name in losses):
        raise app.UsageError(
            f"{', '.join(f'--{name}' for name in losses)} are all 0: nothing "
            "would be learned."
        )
    return {
        field.name: FLAGS[field.name].value
        for field in fields
        if field.name in FLAGS
    }


def pretraining_settings(**more):
    """`Settings` of pre-training: the flags' values, and `more`.

    Raises:
        app.UsageError: naming flags that are missing or contradict.
    """
    from tf_pof.training.program import Settings

    given = values(dataclasses.fields(Settings)) | more
    return common.usage(Settings, **given)


def pruning() -> dict:
    """Arguments of `tf_pof.prune`.

    Raises:
        app.UsageError: for a pattern that there is not.
    """
    from tf_pof.pruning.patterns import Pattern

    common.usage(Pattern.parse, FLAGS.pattern)
    return {
        "pattern": FLAGS.pattern,
        "budget": FLAGS.budget,
        "keep_pruned_values": FLAGS.keep_pruned_values,
    }


def schedule():
    """The TF-MOT `PruningSchedule` of the flags.

    Raises:
        app.UsageError: for steps that contradict.
    """
    return common.usage(_schedule)


def _schedule():
    from tensorflow_model_optimization.sparsity import keras as tfmot

    from tf_pof.pruning.schedules import PruneOnceSchedule

    if FLAGS.pruning_schedule == "constant":
        return tfmot.ConstantSparsity(
            FLAGS.final_sparsity,
            begin_step=FLAGS.pruning_begin_step,
            end_step=FLAGS.pruning_end_step,
            frequency=FLAGS.pruning_frequency,
        )
    if FLAGS.pruning_schedule == "polynomial":
        return tfmot.PolynomialDecay(
            FLAGS.initial_sparsity,
            FLAGS.final_sparsity,
            begin_step=FLAGS.pruning_begin_step,
            end_step=FLAGS.pruning_ramp_end_step,
            frequency=FLAGS.pruning_frequency,
        )
    return PruneOnceSchedule(
        FLAGS.initial_sparsity,
        FLAGS.final_sparsity,
        begin_step=FLAGS.pruning_begin_step,
        ramp_end_step=FLAGS.pruning_ramp_end_step,
        end_step=FLAGS.pruning_end_step,
        frequency=FLAGS.pruning_frequency,
    )
