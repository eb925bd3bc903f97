"""bin/evaluate: scores a fine-tuned model on a task."""

from absl import flags
import rich.console

from tf_pof.cli import common, task_flags

FLAGS = flags.FLAGS

flags.DEFINE_string(
    "model",
    None,
    "What to score: the output of bin/finetune, the prefix of one of its "
    "checkpoints, or a fine-tuned model folder of tf_pof or Hugging Face.",
)
flags.DEFINE_string(
    "output",
    None,
    "Folder for metrics.json and the predictions in the official submission "
    "format; none are written without it.",
)
flags.DEFINE_list(
    "split",
    None,
    "Splits to score, all labelled ones by default; for a test split "
    "predictions alone are written.",
)
flags.DEFINE_integer(
    "batch_size", 32, "Sequences computed together.", lower_bound=1
)
flags.DEFINE_enum(
    "precision",
    "float32",
    ["float32", "mixed_bfloat16", "mixed_float16"],
    "Precision of the forward pass.",
)
flags.DEFINE_string(
    "vocab", None, "Vocabulary, for models that come without a vocab.txt."
)
flags.DEFINE_bool(
    "lowercase",
    None,
    "Whether the vocabulary is of lower-cased text; by default as the model's "
    "tokenizer_config.json says, else true.",
)
task_flags.define()


def main(argv):
    del argv
    common.require_flags("task", "model")
    from tf_pof.tasks import evaluation

    evaluation.run(
        FLAGS.model,
        task_flags.options(),
        rich.console.Console(),
        splits=FLAGS.split,
        output=FLAGS.output,
        batch_size=FLAGS.batch_size,
        precision=FLAGS.precision,
        vocab=FLAGS.vocab,
        lowercase=FLAGS.lowercase,
    )


def run():
    """Console entry point."""
    common.run(main)


if __name__ == "__main__":
    run()
