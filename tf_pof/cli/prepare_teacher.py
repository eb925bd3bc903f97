"""bin/prepare_teacher: trains a dense BERT on pre-training text."""

import rich.console

from tf_pof.cli import common, training_flags

training_flags.define_pretraining(learning_rate_schedule="linear")


def main(argv):
    common.require_no_arguments(argv)
    settings = training_flags.pretraining_settings()
    from tf_pof.training import program

    program.run(settings, rich.console.Console())


def run():
    """Console entry point."""
    common.run(
        main,
        required=("model", "data", "output"),
        example="--model=bert-base-uncased --data=EXAMPLES --output=TEACHER",
    )


if __name__ == "__main__":
    run()
