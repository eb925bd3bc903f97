"""bin/export_tflite: writes a quantized model as one .tflite."""

from absl import app, flags
import rich.console

from tf_pof.cli import common, task_flags

FLAGS = flags.FLAGS

flags.DEFINE_string(
    "model",
    None,
    "What to export: the output of bin/finetune --qat, the prefix of one of "
    "its checkpoints, or the folder of a quantized model.",
)
flags.DEFINE_string("output", None, "The .tflite to write.")
flags.DEFINE_list(
    "sequence_lengths",
    None,
    "Tokens of a sequence, as few or many as wanted: each is a signature "
    "seq_<length> of the file, and all share one copy of the weights; a single "
    "one is serving_default. By default the length the model was trained on.",
)
flags.DEFINE_integer(
    "batch_size",
    0,
    "Sequences of a batch; 0 leaves it to the client, batch by batch.",
    lower_bound=0,
)
flags.DEFINE_enum(
    "encoding",
    "dense",
    ["dense", "tflite_1x16", "packed"],
    "How weights are stored: int8 with their zeros, for every runtime; "
    "TensorFlow Lite's sparse tensors, for models pruned in 1x16 blocks; or "
    "packed, for the tf_pof delegate alone.",
)
flags.DEFINE_bool(
    "parity",
    True,
    "Whether the file is run in LiteRT and refused unless it computes what the "
    "model does: on the data of --task, or on sample texts without one.",
)
flags.DEFINE_integer(
    "parity_examples",
    200,
    "Examples that the file is compared with the model on.",
    lower_bound=1,
)
flags.DEFINE_string(
    "name", None, "Of the model, in the metadata; by default the folder's."
)
flags.DEFINE_string("author", "", "Who made the model, for the metadata.")
flags.DEFINE_string(
    "license", "", "License of the model, for the metadata, as Apache-2.0."
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
flags.DEFINE_string(
    "report", None, "JSON file for sizes, differences, time and memory."
)
task_flags.define()


def main(argv):
    common.require_no_arguments(argv)
    settings = {
        name: FLAGS[name].value
        for name in (
            "model",
            "output",
            "batch_size",
            "encoding",
            "parity",
            "parity_examples",
            "name",
            "author",
            "license",
            "vocab",
            "lowercase",
            "report",
        )
    }
    settings["sequence_lengths"] = _sequence_lengths()
    settings["task"] = _task()
    from tf_pof.export import program

    program.run(program.Settings(**settings), rich.console.Console())


def _sequence_lengths():
    if not FLAGS.sequence_lengths:
        return None
    return sorted(
        set(common.numbers("sequence_lengths", FLAGS.sequence_lengths))
    )


def _task():
    if FLAGS.task is not None:
        return task_flags.options()
    for flag in FLAGS.flags_by_module_dict()[task_flags.__name__]:
        if flag.present:
            raise app.UsageError(
                f"--{flag.name} needs --task, whose data it is about."
            )
    return None


def run():
    """Console entry point."""
    common.run(
        main,
        required=("model", "output"),
        example="--model=runs/int8 --output=sst2.tflite --task=sst2 "
        "--raw_dir=GLUE --sequence_lengths=64,128",
    )


if __name__ == "__main__":
    run()
