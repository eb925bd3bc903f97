"""bin/prune_pretrain: prunes a prepared teacher on pre-training text."""

from absl import flags
import rich.console

from tf_pof.cli import common, training_flags

FLAGS = flags.FLAGS

training_flags.define(learning_rate_schedule="rewind")
training_flags.define_pruning()


def main(argv):
    del argv
    common.require_flags("model", "data", "output")
    distils = FLAGS.distillation_weight or (
        FLAGS.hidden_loss_weight or FLAGS.attention_loss_weight
    )
    settings = training_flags.settings(
        teacher=(FLAGS.teacher or FLAGS.model) if distils else None,
        schedule=training_flags.schedule(),
        pruning={
            "pattern": FLAGS.pattern,
            "budget": FLAGS.budget,
            "keep_pruned_values": FLAGS.keep_pruned_values,
        },
        ramp_end_step=FLAGS.pruning_ramp_end_step,
    )
    from tf_pof.training import program

    program.run(settings, rich.console.Console())


def run():
    """Console entry point."""
    common.run(main)


if __name__ == "__main__":
    run()
