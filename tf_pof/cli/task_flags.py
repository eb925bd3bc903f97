"""Flags that name a task and its data: of bin/finetune and bin/evaluate."""

from absl import app, flags

from tf_pof.cli import help as helps

FLAGS = flags.FLAGS

_NAMES = (
    "sst2",
    "mnli",
    "qqp",
    "qnli",
    "mrpc",
    "cola",
    "stsb",
    "rte",
    "wnli",
    "squad",
    "squad_v2",
    "custom",
)
# Flags that are arguments of the tasks; None is the task's own default.
_OPTIONS = (
    "raw_dir",
    "tfds_data_dir",
    "download",
    "train_file",
    "validation_file",
    "test_file",
    "text_column",
    "pair_column",
    "label_column",
    "labels",
    "regression",
    "sequence_length",
    "doc_stride",
    "max_query_length",
    "n_best_size",
    "max_answer_length",
    "null_score_diff_threshold",
)


@helps.group("Task and data")
def define() -> None:
    """Defines them."""
    flags.DEFINE_enum(
        "task",
        None,
        _NAMES,
        "A GLUE task, SQuAD v1.1 (squad) or v2.0, or custom: your own files.",
    )
    flags.DEFINE_string(
        "raw_dir",
        None,
        "Folder of the official files: GLUE's (or one task's), or SQuAD's.",
    )
    flags.DEFINE_string(
        "tfds_data_dir",
        None,
        "Folder of TFDS data sets; ~/tensorflow_datasets by default.",
    )
    flags.DEFINE_bool(
        "download", None, "Whether TFDS may download what is not prepared."
    )
    for split in ("train", "validation"):
        flags.DEFINE_string(
            f"{split}_file",
            None,
            f"The {split} split of a custom task (.csv, .tsv or .jsonl) or of "
            "SQuAD (.json).",
        )
    flags.DEFINE_string(
        "test_file", None, "Texts of a custom task to predict, labelled or not."
    )
    flags.DEFINE_string("text_column", None, "Column of a custom task's text.")
    flags.DEFINE_string(
        "pair_column", None, "Column of the second text, for pairs."
    )
    flags.DEFINE_string("label_column", None, "Column of the labels.")
    flags.DEFINE_list(
        "labels",
        None,
        "Labels of a custom task in the order of their ids; by default those "
        "of the training file, sorted.",
    )
    flags.DEFINE_bool(
        "regression", None, "Whether a custom task's labels are scores."
    )
    flags.DEFINE_integer(
        "sequence_length",
        None,
        "Longest sequence, in tokens: 128 by default, 384 for SQuAD.",
        lower_bound=1,
    )
    flags.DEFINE_integer(
        "doc_stride",
        None,
        "Tokens between the windows of a long SQuAD context; 128 by default.",
        lower_bound=1,
    )
    flags.DEFINE_integer(
        "max_query_length",
        None,
        "Longest SQuAD question, in tokens; 64 by default.",
        lower_bound=1,
    )
    flags.DEFINE_integer(
        "n_best_size",
        None,
        "Start and end positions that SQuAD's answers are made of; 20 by "
        "default.",
        lower_bound=1,
    )
    flags.DEFINE_integer(
        "max_answer_length",
        None,
        "Longest SQuAD answer, in tokens; 30 by default.",
        lower_bound=1,
    )
    flags.DEFINE_float(
        "null_score_diff_threshold",
        None,
        "SQuAD v2.0: how much better than an answer none must score; 0 by "
        "default.",
    )


def options() -> dict:
    """"name" and the options that were given, for `registry.create`.

    Raises:
        app.UsageError: for an option that the task does not have, or needs.
    """
    from tf_pof.tasks import registry

    given = {name: FLAGS[name].value for name in _OPTIONS}
    given = {k: v for k, v in given.items() if v is not None}
    try:
        registry.constructor(FLAGS.task, **given)
    except ValueError as error:
        raise app.UsageError(str(error)) from None
    return {"name": FLAGS.task, **given}
