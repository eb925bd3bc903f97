"""Documents out of any prepared TFDS data set, by name."""

from collections.abc import Iterator
import dataclasses
import hashlib
import os

from tf_pof.data import storage
from tf_pof.data.documents import PIECE_BYTES, Piece


@dataclasses.dataclass(frozen=True)
class ExampleRange:
    """Examples start..end of a split; each is a document.

    `stamp` identifies the prepared files by their times and sizes.
    """

    name: str
    data_dir: str | None
    split: str
    feature: str
    start: int
    end: int
    stamp: str = ""

    def read(self) -> Iterator[str]:
        """Yields the texts in the order of the prepared files."""
        dataset = _builder(self.name, self.data_dir).as_dataset(
            split=f"{self.split}[{self.start}:{self.end}]",
            shuffle_files=False,
            read_config=ordered(),
        )
        for index, example in enumerate(dataset.as_numpy_iterator()):
            try:
                text = example[self.feature].decode("utf-8")
            except UnicodeDecodeError as error:
                raise ValueError(
                    f'The feature "{self.feature}" of example '
                    f"{self.start + index} of {self.name} ({self.split}) is "
                    f"not UTF-8 at byte {error.start}: choose another feature "
                    "or prepare the data set again."
                ) from None
            if text.strip():
                yield text


def find_prepared(name: str, data_dir: str | None = None):
    """Finds a prepared data set on disk, without the network.

    `tfds.load` of what is not there tries downloads for minutes before it
    fails; only what is prepared is looked for here.

    Args:
        name: as TFDS writes it, with configuration and version if wanted.
        data_dir: folder of prepared data sets, TFDS' own by default.

    Returns:
        The data set's read-only `tfds.core.DatasetBuilder`, or None.
    """
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core import read_only_builder

    try:
        return read_only_builder.builder_from_files(
            name, data_dir=data_folder(data_dir)
        )
    except (tfds.core.DatasetNotFoundError, ValueError):
        return None


def data_folder(data_dir: str | None = None) -> str:
    """The folder of prepared data sets: the one given, or TFDS' own."""
    return os.path.expanduser(data_dir or "~/tensorflow_datasets")


def ordered():
    """A `tfds.ReadConfig` that reads one file after the other.

    Otherwise the order would depend on timing.
    """
    import tensorflow_datasets as tfds

    return tfds.ReadConfig(
        interleave_cycle_length=1, interleave_block_length=1
    )


def _builder(name: str, data_dir: str | None):
    """`find_prepared`, or a sentence on what to do."""
    builder = find_prepared(name, data_dir)
    if builder is None:
        place = data_folder(data_dir)
        raise ValueError(
            f"The TFDS data set {name} is not prepared in {place}: name the "
            "folder with --tfds_data_dir, or prepare it once with `tfds build "
            f"{name.split(':')[0]} --data_dir={place}`."
        )
    return builder


def _stamp(folder: str) -> str:
    """Changes when a file of a prepared data set does; "" for remote ones."""
    if storage.is_remote(folder):
        return ""
    with os.scandir(folder) as entries:
        found = sorted(
            (entry.name, entry.stat().st_mtime_ns, entry.stat().st_size)
            for entry in entries
        )
    return hashlib.sha256(repr(found).encode()).hexdigest()


def plan(
    name: str,
    data_dir: str | None = None,
    split: str = "train",
    feature: str | None = None,
    piece_bytes: int = PIECE_BYTES,
) -> list[Piece]:
    """Cuts a TFDS split into pieces of about `piece_bytes`.

    Args:
        name: as TFDS writes it, with configuration and version if wanted,
            for example "wikipedia/20230601.en".
        data_dir: folder of prepared data sets, TFDS' own by default.
        split: its name.
        feature: the text feature, by default "text" or the only one.
        piece_bytes: size aimed at.

    Returns:
        The pieces in order.

    Raises:
        ValueError: if the data set, split or feature is not there.
    """
    import tensorflow_datasets as tfds

    builder = _builder(name, data_dir)
    info = builder.info
    if split not in info.splits:
        raise ValueError(
            f'The TFDS data set {name} has no split "{split}": choose '
            f"{' or '.join(sorted(info.splits))} with --tfds_split."
        )
    texts = [
        key
        for key, value in info.features.items()
        if isinstance(value, tfds.features.Text)
        or (value.dtype in (bytes, str) and value.shape == ())
    ]
    if feature is None:
        feature = "text" if "text" in texts else None
        if feature is None and len(texts) == 1:
            feature = texts[0]
    if feature not in texts:
        raise ValueError(
            f"Choose the text feature of the TFDS data set {name} with "
            f"--tfds_feature; it has {', '.join(sorted(texts)) or 'none'}."
        )
    examples = info.splits[split].num_examples
    size = info.splits[split].num_bytes
    if not examples:
        raise ValueError(
            f'The split "{split}" of the TFDS data set {name} is empty: '
            "choose another with --tfds_split."
        )
    count = min(examples, max(1, round(size / piece_bytes)))
    stamp = _stamp(os.fspath(builder.data_dir))
    edges = [examples * i // count for i in range(count + 1)]
    return [
        Piece(
            (ExampleRange(name, data_dir, split, feature, start, end, stamp),),
            max(1, size * (end - start) // examples),
        )
        for start, end in zip(edges, edges[1:])
    ]
