"""Labelled examples out of TFDS data sets, prepared or to be downloaded."""

import os
from typing import Any

from tf_pof.data import tfds_text


def examples(
    name: str,
    split: str,
    data_dir: str | None = None,
    download: bool = False,
) -> list[dict[str, Any]]:
    """Reads a whole split in the order of its prepared files.

    Args:
        name: as TFDS writes it, such as "glue/sst2" or "squad/v1.1".
        split: its name, such as "validation".
        data_dir: folder of prepared data sets, TFDS' own by default.
        download: whether what is not prepared is downloaded and prepared.
            Otherwise the network is never touched.

    Returns:
        For each example the features by name, nested as in TFDS, as numpy
        values; texts are bytes.

    Raises:
        ValueError: if the data set is not there or has no such split.
        OSError: if it cannot be downloaded.
    """
    builder = _with_split(name, split, data_dir, download)
    dataset = builder.as_dataset(
        split=split, shuffle_files=False, read_config=tfds_text.ordered()
    )
    return list(dataset.as_numpy_iterator())


def paths(
    name: str,
    split: str,
    data_dir: str | None = None,
    download: bool = False,
) -> list[str]:
    """The files that a split was prepared in; arguments as of `examples`."""
    builder = _with_split(name, split, data_dir, download)
    return [os.fspath(path) for path in builder.info.splits[split].filepaths]


def _with_split(name: str, split: str, data_dir: str | None, download: bool):
    """The builder of a data set that has examples in that split."""
    builder = _builder(name, data_dir, download)
    splits = builder.info.splits
    if split not in splits or not splits[split].num_examples:
        full = [key for key, value in splits.items() if value.num_examples]
        raise ValueError(
            f'The TFDS data set {name} has no example in a split "{split}": '
            f"choose {' or '.join(sorted(full)) or 'another data set'}."
        )
    return builder


def _builder(name: str, data_dir: str | None, download: bool):
    """The builder of a data set that is prepared by now."""
    builder = tfds_text.find_prepared(name, data_dir)
    if builder is not None:
        return builder
    place = tfds_text.data_folder(data_dir)
    if not download:
        raise ValueError(
            f"The TFDS data set {name} is not prepared in {place}: name the "
            "folder it is in with --tfds_data_dir, fetch it with --download, "
            "or read the official files with --raw_dir."
        )
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder(name, data_dir=place)
        builder.download_and_prepare()
    except (OSError, tfds.download.DownloadError) as error:
        raise OSError(
            f"The TFDS data set {name} could not be downloaded to {place} "
            f"({' '.join(str(error).split())}): try again, or read the "
            "official files with --raw_dir."
        ) from error
    return builder
