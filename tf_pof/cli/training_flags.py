"""Flags of bin/prepare_teacher and bin/prune_pretrain."""

import dataclasses

from absl import app, flags

from tf_pof.cli import common

FLAGS = flags.FLAGS


def define(learning_rate_schedule: str) -> None:
    """Defines what both commands share."""
    flags.DEFINE_string(
        "model",
        None,
        "Model to train: a folder of tf_pof, Hugging Face or keras-nlp, the "
        "prefix of a Google checkpoint, a bundled name, or a size such as "
        "bert_tiny for random weights.",
    )
    flags.DEFINE_string(
        "data", None, "Folder of examples made by bin/prepare_data."
    )
    flags.DEFINE_string(
        "output",
        None,
        "Folder of the run; the model is written to its subfolder model. The "
        "same command goes on with an interrupted run.",
    )
    flags.DEFINE_integer(
        "train_steps", 100_000, "Optimizer steps of the run.", lower_bound=1
    )
    flags.DEFINE_integer(
        "batch_size", 256, "Examples of a step, of all replicas.", lower_bound=1
    )
    flags.DEFINE_integer(
        "micro_batch_size",
        0,
        "Examples that a replica holds in memory at a time, whose gradients "
        "are accumulated; 0 for its whole share of the batch.",
        lower_bound=0,
    )
    flags.DEFINE_integer(
        "sequence_length",
        None,
        "Tokens that examples are padded to; by default as prepared.",
        lower_bound=1,
    )
    flags.DEFINE_float("learning_rate", 5e-5, "Peak learning rate.")
    flags.DEFINE_enum(
        "learning_rate_schedule",
        learning_rate_schedule,
        ["linear", "rewind"],
        "linear: warm-up, then linear to 0. rewind: warm-up, flat until "
        "--pruning_ramp_end_step, then linear to 0.",
    )
    flags.DEFINE_float(
        "warmup_fraction", 0.01, "Share of the steps that warm up.", 0.0, 1.0
    )
    flags.DEFINE_float("weight_decay", 0.01, "Decoupled weight decay.", 0.0)
    flags.DEFINE_float(
        "clip_norm", 1.0, "Bound on the norm of all gradients; 0 for none.", 0.0
    )
    flags.DEFINE_float("adam_beta_1", 0.9, "Adam's first-moment decay.")
    flags.DEFINE_float("adam_beta_2", 0.999, "Adam's second-moment decay.")
    flags.DEFINE_float("adam_epsilon", 1e-8, "Adam's epsilon.")
    flags.DEFINE_float(
        "mask_rate", 0.15, "Share of the tokens to predict.", 0.0, 1.0
    )
    flags.DEFINE_float(
        "dropout", None, "Dropout rate in place of the model's own.", 0.0, 1.0
    )
    flags.DEFINE_integer("seed", 0, "Seed of weights, masking and dropout.")
    flags.DEFINE_enum(
        "precision",
        "float32",
        ["float32", "mixed_bfloat16", "mixed_float16"],
        "Precision of the forward and backward pass.",
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
    flags.DEFINE_integer(
        "evaluate_every",
        0,
        "Steps between evaluations on the validation split, a multiple of "
        "--log_every; 0 for one at the end only.",
        lower_bound=0,
    )
    flags.DEFINE_integer(
        "evaluate_batches",
        20,
        "Batches of an evaluation before the end; 0 for all.",
        lower_bound=0,
    )


def define_pruning() -> None:
    """Defines what bin/prune_pretrain has besides."""
    flags.DEFINE_string(
        "teacher", None, "Prepared teacher; by default the same as --model."
    )
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
        "final_sparsity", 0.9, "Share of zeros at the end.", 0.0, 1.0
    )
    flags.DEFINE_integer("pruning_begin_step", 0, "First selection.")
    flags.DEFINE_integer(
        "pruning_ramp_end_step", 50_000, "Step of the final sparsity."
    )
    flags.DEFINE_integer(
        "pruning_end_step", 80_000, "Last selection; masks stay from there."
    )
    flags.DEFINE_integer("pruning_frequency", 1000, "Steps between selections.")
    flags.DEFINE_bool(
        "keep_pruned_values",
        True,
        "Whether a pruned weight keeps its value and may return; otherwise it "
        "is zero for good.",
    )
    flags.DEFINE_float(
        "hard_loss_weight", 0.5, "Weight of the labels' cross-entropy.", 0.0
    )
    flags.DEFINE_float(
        "distillation_weight",
        0.5,
        "Weight of the divergence from the teacher; 0 for no distillation.",
        0.0,
    )
    flags.DEFINE_float("temperature", 2.0, "Of both distributions.")
    flags.DEFINE_float(
        "hidden_loss_weight", 0.0, "Weight of the hidden-state loss.", 0.0
    )
    flags.DEFINE_float(
        "attention_loss_weight", 0.0, "Weight of the attention loss.", 0.0
    )


def settings(**more):
    """`Settings` of the flags' values and of `more`.

    Raises:
        app.UsageError: naming flags that are missing or contradict.
    """
    from tf_pof.training.program import Settings

    common.require_flags("model", "data", "output")
    if FLAGS.evaluate_every % FLAGS.log_every:
        raise app.UsageError(
            f"--evaluate_every={FLAGS.evaluate_every} is not a multiple of "
            f"--log_every={FLAGS.log_every}."
        )
    values = {
        field.name: FLAGS[field.name].value
        for field in dataclasses.fields(Settings)
        if field.name in FLAGS
    }
    return Settings(**(values | more))


def schedule():
    """The TF-MOT `PruningSchedule` of the flags."""
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
