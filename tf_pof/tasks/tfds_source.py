"""Labelled examples out of TFDS data sets, prepared or to be downloaded."""

from collections.abc import Iterable
import os
from typing import Any
import urllib.error
import urllib.parse
import urllib.request

from tf_pof.data import tfds_text

# Seconds to wait for a server.
_PATIENCE = 5


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
        _require_network(builder.url_infos, place)
        builder.download_and_prepare()
    except (OSError, tfds.download.DownloadError) as error:
        raise OSError(
            f"The TFDS data set {name} could not be downloaded to {place} "
            f"({' '.join(str(error).split())}): try again, or read the "
            "official files with --raw_dir."
        ) from error
    return builder


def _require_network(urls: Iterable[str], place: str) -> None:
    """Makes sure that one of the servers can be reached.

    TFDS itself tries for minutes before it says that there is no network.
    What it has downloaded before needs none.

    Args:
        urls: of the files of a data set.
        place: folder of prepared data sets.

    Raises:
        OSError: if none can.
    """
    downloads = os.path.join(place, "downloads")
    if os.path.isdir(downloads) and os.listdir(downloads):
        return
    servers = {
        f"{parts.scheme}://{parts.netloc}"
        for parts in map(urllib.parse.urlsplit, urls)
        if parts.scheme in ("http", "https")
    }
    reason = None
    for server in sorted(servers):
        request = urllib.request.Request(server, method="HEAD")
        try:
            urllib.request.urlopen(request, timeout=_PATIENCE).close()
            return
        except urllib.error.HTTPError:
            # It answers, if not to this.
            return
        except OSError as error:
            reason = f"{server} cannot be reached: {error}"
    if reason:
        raise OSError(reason)
