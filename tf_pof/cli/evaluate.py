"""bin/evaluate: scores a fine-tuned model on a task."""

import contextlib
import os

from absl import app, flags
import rich.console

from tf_pof import files
from tf_pof.cli import common, task_flags

FLAGS = flags.FLAGS
_NOTHING = contextlib.nullcontext()

flags.DEFINE_string(
    "model",
    None,
    "What to score: the output of bin/finetune, the prefix of one of its "
    "checkpoints, a fine-tuned model folder of tf_pof or Hugging Face, or a "
    ".tflite of bin/export_tflite.",
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
    "Precision of the forward pass; a .tflite has its own.",
)
flags.DEFINE_string(
    "vocab", None, "Vocabulary, instead of the one that comes with the model."
)
flags.DEFINE_bool(
    "lowercase",
    None,
    "Whether the vocabulary is of lower-cased text; by default as the model's "
    "tokenizer files say, else as the vocabulary itself tells.",
)
flags.DEFINE_bool(
    "delegate",
    False,
    "Whether tf_pof's delegate computes the layers of a .tflite that it is "
    "faster at, and all that no other runtime has; else LiteRT computes all.",
)
task_flags.define()


def main(argv):
    common.require_no_arguments(argv)
    values = {
        "splits": FLAGS.split,
        "output": FLAGS.output,
        "batch_size": FLAGS.batch_size,
        "vocab": FLAGS.vocab,
        "lowercase": FLAGS.lowercase,
    }
    path = os.path.expanduser(FLAGS.model)
    # Some systems write file names in capitals.
    is_file = path.lower().endswith(".tflite") and not os.path.isdir(path)
    if is_file and FLAGS["precision"].present:
        raise app.UsageError(
            "--precision is of models in Keras; a .tflite computes as it was "
            "exported: leave the flag out."
        )
    if FLAGS.delegate and not is_file:
        raise app.UsageError(
            "--delegate is of a .tflite: leave the flag out, or export the "
            "model with bin/export_tflite."
        )
    if is_file:
        from tf_pof import runtime
        from tf_pof.export import evaluation

        if FLAGS.delegate:
            threads = os.cpu_count() or 1
            values["delegates"] = [runtime.delegate(threads)]
    else:
        from tf_pof.tasks import evaluation

        values["precision"] = FLAGS.precision
    if FLAGS.output is not None:
        files.require_folder_path(FLAGS.output, "The output")
    with files.only_writer(FLAGS.output) if FLAGS.output else _NOTHING:
        evaluation.run(
            path,
            task_flags.options(),
            rich.console.Console(),
            **values,
        )


def run():
    """Console entry point."""
    common.run(
        main,
        required=("task", "model"),
        example="--task=sst2 --raw_dir=GLUE --model=runs/sst2",
    )


if __name__ == "__main__":
    run()
