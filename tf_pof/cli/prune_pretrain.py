"""bin/prune_pretrain: prunes a prepared teacher on pre-training text."""

from absl import flags
import rich.console

from tf_pof.cli import common, training_flags

FLAGS = flags.FLAGS

training_flags.define_pretraining(learning_rate_schedule="rewind")
training_flags.define_pruning()
training_flags.define_distillation(
    "Prepared teacher; by default the same as --model.",
    hard_loss_weight=0.5,
    distillation_weight=0.5,
)


def main(argv):
    common.require_no_arguments(argv)
    distils = FLAGS.distillation_weight or (
        FLAGS.hidden_loss_weight or FLAGS.attention_loss_weight
    )
    settings = training_flags.pretraining_settings(
        teacher=(FLAGS.teacher or FLAGS.model) if distils else None,
        schedule=training_flags.schedule(),
        pruning=training_flags.pruning(),
        ramp_end_step=FLAGS.pruning_ramp_end_step,
    )
    from tf_pof.training import program

    program.run(settings, rich.console.Console())


def run():
    """Console entry point."""
    common.run(
        main,
        required=("model", "data", "output"),
        example="--flagfile=bert_base.flags --model=TEACHER --data=EXAMPLES "
        "--output=OUTPUT",
    )


if __name__ == "__main__":
    run()
