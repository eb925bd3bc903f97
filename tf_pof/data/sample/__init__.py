"""The bundled sample: 4 MB of free English text and BERT's vocabulary."""

from importlib import resources


def vocab_path() -> str:
    """Returns the path of the uncased English BERT vocabulary."""
    return str(resources.files(__name__) / "vocab.txt")


def text_paths() -> list[str]:
    """Returns the paths of the texts: UTF-8, .xz, a blank line a document."""
    folder = resources.files(__name__)
    return [
        str(folder / name)
        for name in ("gutenberg-prose.txt.xz", "factbook.txt.xz")
    ]
