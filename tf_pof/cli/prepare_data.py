"""bin/prepare_data: turns text into pre-training examples.

    bin/prepare_data --sample --output=/tmp/sample128
    bin/prepare_data --input='wiki/*.txt.xz' --output=wiki512 \
        --max_sequence_length=512
"""

import os
import shlex

from absl import app, flags, logging
import rich.console
import rich.progress
import rich.table

from tf_pof.cli import common

_INPUT = flags.DEFINE_multi_string(
    "input",
    [],
    "A text file or a glob of them, UTF-8, plain or .gz, .xz or .bz2; may be "
    "given several times. What exists is no glob. A compressed file is read "
    "by one worker.",
)
_TFDS = flags.DEFINE_string(
    "tfds",
    None,
    "Name of a prepared TFDS data set to take the text from, such as "
    "wikipedia/20230601.en; each of its examples is a document.",
)
_TFDS_DATA_DIR = flags.DEFINE_string(
    "tfds_data_dir",
    None,
    "The folder that holds prepared TFDS data sets; TFDS' own by default.",
)
_TFDS_SPLIT = flags.DEFINE_string(
    "tfds_split", "train", "The split of the TFDS data set to take."
)
_TFDS_FEATURE = flags.DEFINE_string(
    "tfds_feature",
    None,
    'The text feature of the TFDS data set; "text" or its only one by '
    "default.",
)
_SAMPLE = flags.DEFINE_bool(
    "sample", False, "Takes the 4 MB of English text that come with tf_pof."
)
_DOCUMENTS = flags.DEFINE_enum(
    "documents",
    "blank_line",
    ["blank_line", "line"],
    "What separates documents in text files: a blank line, or each line is a "
    "document.",
)
_OUTPUT = flags.DEFINE_string(
    "output", None, "The folder to make; it appears when it is complete."
)
_VOCAB = flags.DEFINE_string(
    "vocab",
    None,
    "The WordPiece vocabulary, one token a line, or a Hugging Face "
    "tokenizer.json that holds one; that of bert-base-uncased by "
    "default. It must be that of the model to train.",
)
_LOWERCASE = flags.DEFINE_bool(
    "lowercase",
    None,
    "Lower-cases the text and strips accents, as uncased models need it; by "
    "default as the files beside --vocab say, else as it tells itself.",
)
_MAX_SEQUENCE_LENGTH = flags.DEFINE_integer(
    "max_sequence_length",
    128,
    "The most tokens an example has, [CLS] and [SEP] included.",
    lower_bound=8,
    upper_bound=65536,
)
_SHORT_SEQUENCE_PROBABILITY = flags.DEFINE_float(
    "short_sequence_probability",
    0.1,
    "The share of examples that are made shorter on purpose.",
    lower_bound=0,
    upper_bound=1,
)
_NEXT_SENTENCE_PROBABILITY = flags.DEFINE_float(
    "next_sentence_probability",
    0.5,
    "The probability that the second segment follows the first instead of "
    "coming from another document.",
    lower_bound=0,
    upper_bound=1,
)
_VALIDATION_FRACTION = flags.DEFINE_float(
    "validation_fraction",
    0.05,
    "The share of documents that are kept for validation, chosen by a hash "
    "of their text. Where they are too few, the ends of some are kept.",
    lower_bound=0,
    upper_bound=0.9,
)
_WHOLE_WORD_MASKING = flags.DEFINE_bool(
    "whole_word_masking",
    False,
    "Masks all pieces of a word together when the data is trained on.",
)
_NUM_SHARDS = flags.DEFINE_integer(
    "num_shards",
    None,
    "The number of training files; about one for 32 MB of text by default, "
    "one for each KB at most.",
    lower_bound=1,
)
_NUM_WORKERS = flags.DEFINE_integer(
    "num_workers",
    None,
    "The number of processes; one a core by default, and no more than there "
    "are pieces of about 4 MB. The result does not depend on it.",
    lower_bound=1,
)
_SEED = flags.DEFINE_integer(
    "seed",
    0,
    "The seed of everything drawn.",
    lower_bound=0,
    upper_bound=2**32 - 1,
)
_BEAM_ARGS = flags.DEFINE_multi_string(
    "beam_args",
    [],
    "Options of Apache Beam to run elsewhere than in this process, such as "
    "--beam_args='--runner=FlinkRunner --flink_master=host:8081'. Every "
    "worker must see the input and output.",
)
_OVERWRITE = flags.DEFINE_bool(
    "overwrite",
    False,
    "Replaces a data set that is at --output already; other files stay there.",
)


def _pieces():
    """Plans the input that the flags name."""
    from tf_pof.data import documents, sample, tfds_text

    if (bool(_INPUT.value) + bool(_TFDS.value) + _SAMPLE.value) != 1:
        raise app.UsageError(
            "Give the text by exactly one of --input, --tfds and --sample."
        )
    if _TFDS.value:
        return tfds_text.plan(
            _TFDS.value,
            _TFDS_DATA_DIR.value,
            _TFDS_SPLIT.value,
            _TFDS_FEATURE.value,
        )
    patterns = sample.text_paths() if _SAMPLE.value else _INPUT.value
    return documents.plan_files(documents.find_files(patterns))


def _arguments() -> dict:
    """The flags that the data depends on, for meta.json."""
    names = (
        "input tfds tfds_split tfds_feature sample documents lowercase "
        "max_sequence_length short_sequence_probability "
        "next_sentence_probability validation_fraction whole_word_masking "
        "seed"
    )
    return {name: flags.FLAGS[name].value for name in names.split()}


def _report(console, meta, seconds):
    statistics = meta.statistics
    megabytes = statistics["text_bytes"] / 1e6
    examples = meta.num_train + meta.num_validation
    written = sum(meta.train_bytes + meta.validation_bytes)
    share = statistics["random_next"] / max(1, examples)
    table = rich.table.Table("prepared", "", title=_OUTPUT.value)
    table.columns[1].justify = "right"
    for row in (
        ("documents", f"{statistics['documents']:,}"),
        ("sentences", f"{statistics['sentences']:,}"),
        ("tokens", f"{statistics['tokens']:,}"),
        ("training examples", f"{meta.num_train:,}"),
        ("validation examples", f"{meta.num_validation:,}"),
        ("random next sentences", f"{share:.1%}"),
        ("shards", str(len(meta.train_shards + meta.validation_shards))),
        ("words", meta.tokenizer_settings.describe()),
        ("size", f"{written / 1e6:.1f} MB"),
        ("text", f"{megabytes:.1f} MB in {seconds:.1f} s"),
    ):
        table.add_row(*row)
    console.print(table)
    for sentence in _remarks(meta, share):
        console.print(sentence, soft_wrap=True)


def _remarks(meta, random_share: float) -> list[str]:
    """Says what a user may not expect of the data, a sentence each."""
    statistics, remarks = meta.statistics, []
    if not meta.num_validation:
        remarks.append(
            "Without validation examples prepare_teacher and prune_pretrain "
            "do not take this data set: see --validation_fraction."
        )
    if statistics["cut_documents"]:
        remarks.append(
            f"The text has {statistics['documents']:,} documents, too few to "
            "keep whole ones alone for validation: the end of one is kept, "
            "and the rest of it is trained on."
        )
    if statistics["train_documents"] < 2 and random_share:
        remarks.append(
            "There is one document to train on: random next sentences come "
            "from elsewhere in it."
        )
    wanted = _NEXT_SENTENCE_PROBABILITY.value
    if (random_share == 1 and wanted > 0) or (not random_share and wanted < 1):
        remarks.append(
            f"{'All' if random_share else 'No'} next sentences are random "
            "ones, from which a model cannot learn to tell them: give "
            "documents of several sentences, or set "
            "--next_sentence_probability=1."
        )
    return remarks


def _beam_args() -> list[str]:
    """The options for Beam, one by one.

    Raises:
        app.UsageError: if Beam does not take one, or none names a runner.
    """
    found = []
    try:
        for text in _BEAM_ARGS.value:
            found += shlex.split(text)
    except ValueError as error:
        raise app.UsageError(
            f"--beam_args={text} cannot be split into options ({error})."
        ) from None
    if _BEAM_ARGS.value:
        from tf_pof.data import beam_runner

        common.usage(beam_runner.parse_options, found)
    return found


def _check_flags():
    """Refuses what can be told before anything is read.

    Raises:
        app.UsageError: naming the flag.
    """
    if not _OUTPUT.value.strip() or not os.path.basename(
        os.path.abspath(_OUTPUT.value)
    ):
        raise app.UsageError(
            f"--output={_OUTPUT.value} names no folder that can be made."
        )


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(
            f"What is {argv[1]}? Text files are given by --input."
        )
    _check_flags()
    beam_args = _beam_args()
    logging.set_verbosity(logging.ERROR)  # Beam's import has much to say
    import time

    from tf_pof.data import examples, pipeline, sample

    pieces = _pieces()
    console = rich.console.Console()
    began = time.monotonic()
    columns = (
        rich.progress.TextColumn("{task.description:<14}"),
        rich.progress.BarColumn(),
        rich.progress.TaskProgressColumn(),
        rich.progress.TimeElapsedColumn(),
        rich.progress.TimeRemainingColumn(),
    )
    with rich.progress.Progress(*columns, console=console) as bar:
        tasks = {}

        def progress(stage, done, total):
            if stage not in tasks:
                tasks[stage] = bar.add_task(stage, total=total)
            bar.update(tasks[stage], completed=done, total=total)

        meta = pipeline.prepare(
            pieces,
            _OUTPUT.value,
            _VOCAB.value or sample.vocab_path(),
            examples.PairOptions(
                _MAX_SEQUENCE_LENGTH.value,
                _SHORT_SEQUENCE_PROBABILITY.value,
                _NEXT_SENTENCE_PROBABILITY.value,
            ),
            separator=_DOCUMENTS.value,
            lowercase=_LOWERCASE.value,
            validation_fraction=_VALIDATION_FRACTION.value,
            whole_word_masking=_WHOLE_WORD_MASKING.value,
            num_shards=_NUM_SHARDS.value,
            num_workers=_NUM_WORKERS.value,
            seed=_SEED.value,
            beam_args=beam_args,
            overwrite=_OVERWRITE.value,
            arguments=_arguments(),
            progress=progress,
        )
    _report(console, meta, time.monotonic() - began)


def run():
    """Console entry point."""
    common.run(
        main,
        required=("output",),
        example="--input='wiki/*.txt' --output=wiki128",
    )


if __name__ == "__main__":
    run()
