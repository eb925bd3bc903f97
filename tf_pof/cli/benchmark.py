"""bin/benchmark: times a .tflite in LiteRT and under the delegate."""

import os

from absl import flags
import rich.console

from tf_pof.cli import common

FLAGS = flags.FLAGS

flags.DEFINE_string(
    "model", None, "The .tflite of bin/export_tflite that is timed."
)
flags.DEFINE_string(
    "compare",
    None,
    "Another .tflite with the same inputs, to be timed in LiteRT beside it, "
    "as a dense model that LiteRT is fast at.",
)
flags.DEFINE_list(
    "sequence_lengths",
    None,
    "Tokens of a sequence, one row each; by default those of the file.",
)
flags.DEFINE_integer(
    "batch_size", 1, "Sequences computed together.", lower_bound=1
)
flags.DEFINE_list(
    "num_threads", ["1"], "Threads to compute with, one row for each number."
)
flags.DEFINE_integer(
    "rounds", 30, "Times that the engines take turns.", lower_bound=1
)
flags.DEFINE_bool(
    "memory",
    True,
    "Whether memory and the time to the first result are measured, in "
    "processes of their own.",
)
flags.DEFINE_bool(
    "profile",
    False,
    "Whether it is measured, too, how long each kind of step of the delegate "
    "takes.",
)
flags.DEFINE_string(
    "cache_dir",
    None,
    "Folder that the delegate keeps packed weights in. The first run fills it; "
    "times to the first result are those of later ones.",
)
flags.DEFINE_string(
    "isa",
    None,
    "Instructions of the delegate's kernels, as avx2 or neondot; the best that "
    "the machine has by default.",
)
flags.DEFINE_string("report", None, "JSON file for all that is measured.")


def main(argv):
    common.require_no_arguments(argv)
    from tf_pof import files
    from tf_pof.runtime import benchmark

    if FLAGS.report is not None:
        files.require_file_path(FLAGS.report, "The report")

    console = rich.console.Console()
    lengths = FLAGS.sequence_lengths
    settings = benchmark.Settings(
        model=_file(FLAGS.model),
        compare=FLAGS.compare and _file(FLAGS.compare),
        sequence_lengths=lengths
        and common.numbers("sequence_lengths", lengths),
        batch_size=FLAGS.batch_size,
        num_threads=common.numbers("num_threads", FLAGS.num_threads),
        rounds=FLAGS.rounds,
        memory=FLAGS.memory,
        profile=FLAGS.profile,
        options={
            name: FLAGS[name].value
            for name in ("isa", "cache_dir")
            if FLAGS[name].value
        },
    )
    found = benchmark.run(settings, console)
    if FLAGS.report:
        files.write_json(FLAGS.report, found)


def _file(path):
    path = os.path.expanduser(path)
    if not os.path.isfile(path):
        raise OSError(
            f"There is no file {path}: export it with bin/export_tflite."
        )
    return path


def run():
    """Console entry point."""
    common.run(
        main,
        required=("model",),
        example="--model=sst2.tflite --num_threads=1,2",
    )


if __name__ == "__main__":
    run()
