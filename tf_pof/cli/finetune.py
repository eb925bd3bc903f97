"""bin/finetune: fine-tunes a model on a task, keeping its zeros."""

import dataclasses

from absl import app, flags
import rich.console

from tf_pof.cli import common, task_flags, training_flags

FLAGS = flags.FLAGS

training_flags.define(
    train_steps=0,
    batch_size=32,
    learning_rate=1e-4,
    learning_rate_schedule="linear",
    warmup_fraction=0.1,
    seed_of="the head, the order of the examples and dropout",
    epochs=True,
)
training_flags.define_pruning(
    final_sparsity=None, ramp_end_step=None, end_step=None, frequency=None
)
training_flags.define_distillation(
    "Dense model fine-tuned on the task, to distil from; without one the "
    "labels alone are learned.",
    hard_loss_weight=0.0,
    distillation_weight=1.0,
)
task_flags.define()
flags.DEFINE_float(
    "epochs", 3.0, "Passes over the training split.", lower_bound=0.0
)
common.positive("epochs")
flags.DEFINE_bool(
    "keep_best",
    True,
    "Whether the model of the best evaluation before the end is kept too, in "
    "the folder best of --output, if the last one is not better.",
)
flags.DEFINE_bool(
    "lock",
    True,
    "Whether pruned kernels keep their zeros; heads are dense in any case.",
)
flags.DEFINE_bool(
    "freeze_embeddings",
    False,
    "Whether token, position and segment embeddings stay as they are: faster "
    "steps, above all on short texts.",
)
flags.DEFINE_string(
    "vocab", None, "Vocabulary, for models that come without a vocab.txt."
)
flags.DEFINE_bool(
    "lowercase",
    None,
    "Whether the vocabulary is of lower-cased text; by default as the model's "
    "tokenizer files say, else as the vocabulary itself tells.",
)
flags.DEFINE_bool(
    "qat",
    False,
    "Whether weights and activations are rounded to int8 in training, which "
    "begins best from a fine-tuned model or run as --model.",
)
flags.DEFINE_integer(
    "qat_start_step",
    0,
    "First step that rounds; before it ranges of activations are observed.",
    lower_bound=0,
)
flags.DEFINE_integer(
    "qat_freeze_step",
    None,
    "First step with ranges that stay; by default half of the steps.",
    lower_bound=1,
)
flags.DEFINE_float(
    "qat_range_decay",
    0.99,
    "Decay of the ranges' moving averages, per batch.",
    0.0,
    1.0,
)
flags.DEFINE_bool(
    "group_by_length",
    True,
    "Whether a batch has texts of similar length: less padding to compute.",
)


def main(argv):
    common.require_no_arguments(argv)
    more = {"task": task_flags.options()}
    if FLAGS.teacher is None:
        more |= {
            "hard_loss_weight": 1.0,
            "distillation_weight": 0.0,
            "hidden_loss_weight": 0.0,
            "attention_loss_weight": 0.0,
        }
    _check_quantization()
    if FLAGS.final_sparsity:
        more |= _pruning_on_the_task()
    elif FLAGS.learning_rate_schedule != "linear":
        raise app.UsageError(
            f"--learning_rate_schedule={FLAGS.learning_rate_schedule} needs "
            "--final_sparsity: its rate depends on when sparsity rises."
        )
    from tf_pof.tasks import program

    fields = dataclasses.fields(program.Settings)
    given = training_flags.values(fields) | more
    settings = common.usage(program.Settings, **given)
    program.run(settings, rich.console.Console())


def _check_quantization() -> None:
    """Raises app.UsageError for flags that contradict --qat."""
    if FLAGS.qat and FLAGS.final_sparsity:
        raise app.UsageError(
            "--qat and --final_sparsity exclude each other: prune first, then "
            "give the run as --model to one with --qat."
        )
    for name in ("qat_start_step", "qat_freeze_step", "qat_range_decay"):
        if FLAGS[name].present and not FLAGS.qat:
            raise app.UsageError(f"--{name} needs --qat.")
    if FLAGS.qat_range_decay == 1:
        raise app.UsageError(
            "--qat_range_decay=1 would never move a range: choose less."
        )


def _pruning_on_the_task() -> dict:
    """Settings of a run that prunes while it learns the task."""
    if not FLAGS.train_steps:
        raise app.UsageError(
            "--final_sparsity needs --train_steps: the sparsity's steps are "
            "shares of it."
        )
    shares = {
        "pruning_ramp_end_step": 0.5,
        "pruning_end_step": 0.8,
        "pruning_frequency": 0.01,
    }
    for name, share in shares.items():
        if FLAGS[name].value is None:
            FLAGS[name].value = max(1, round(share * FLAGS.train_steps))
    return {
        "schedule": training_flags.schedule(),
        "pruning": training_flags.pruning(),
        "ramp_end_step": FLAGS.pruning_ramp_end_step,
        "lock": False,
    }


def run():
    """Console entry point."""
    common.run(
        main,
        required=("task", "model", "output"),
        example="--flagfile=sst2.flags --raw_dir=GLUE --model=minilm_l6_90 "
        "--output=runs/sst2",
    )


if __name__ == "__main__":
    run()
