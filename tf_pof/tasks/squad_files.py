"""SQuAD's examples out of its official json files or out of TFDS."""

from collections.abc import Iterable
import dataclasses
import json
from typing import Any

import tensorflow as tf

from tf_pof.tasks import tfds_source

VERSIONS = ("1.1", "2.0")
_KINDS = {str: "text", list: "list", int: "number", bool: "true or false"}


@dataclasses.dataclass(frozen=True, slots=True)
class SquadExample:
    """A question on a paragraph.

    Attributes:
        id: unique, as predictions name it.
        title: of the article, may be empty.
        question: its text.
        context: the paragraph.
        answers: texts that were marked in the context; none if the question
            cannot be answered from it (v2.0).
        answer_starts: characters of the context where they begin.
    """

    id: str
    title: str
    question: str
    context: str
    answers: tuple[str, ...]
    answer_starts: tuple[int, ...]


def read_json(path: str, version: str) -> list[SquadExample]:
    """Reads an official file, such as dev-v1.1.json.

    Args:
        path: the file.
        version: "1.1", where every question has answers, or "2.0", where
            each says whether it is impossible.

    Raises:
        ValueError: if it is not such a file.
    """
    advice = f"give an official SQuAD v{version} json file"
    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            content = file.read()
    except tf.errors.OpError as error:
        raise ValueError(
            f"{path} cannot be read ({error.message}): {advice}."
        ) from None
    if not content.strip():
        raise ValueError(f"{path} is empty: {advice}.")
    try:
        document = json.loads(content)
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{path} is not json at line {error.lineno}, column "
            f"{error.colno} ({error.msg}): {advice}."
        ) from None
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not UTF-8 at byte {error.start}: {advice}."
        ) from None
    return _unique(_of_document(document, path, version), path, version)


def read_tfds(
    version: str,
    split: str,
    data_dir: str | None = None,
    download: bool = False,
) -> list[SquadExample]:
    """Reads a split of TFDS' "squad/v1.1" or "squad/v2.0".

    Args:
        version: "1.1" or "2.0".
        split: "train" or "validation".
        data_dir: folder of prepared data sets, TFDS' own by default.
        download: whether it is fetched if it is not prepared.

    Raises:
        ValueError: if the data set is not there or malformed.
        OSError: if it cannot be downloaded.
    """
    name = f"squad/v{version}"
    rows = tfds_source.examples(name, split, data_dir, download)
    return _unique(
        (_of_tfds(row, name, version) for row in rows), name, version
    )


def _unique(
    examples: Iterable[SquadExample], source: str, version: str
) -> list[SquadExample]:
    """All of them, if each has an id of its own."""
    found = {}
    for example in examples:
        if example.id in found:
            raise ValueError(
                f'{source} has the question id "{example.id}" twice, last in '
                f'the article "{example.title}": give each question an id of '
                "its own."
            )
        found[example.id] = example
    if not found:
        raise ValueError(
            f"{source} holds no question: give an official SQuAD "
            f"v{version} file."
        )
    return list(found.values())


def _get(node: Any, key: str, kind: type, where: str, version: str) -> Any:
    """node[key], if it is of that kind."""
    value = node.get(key) if isinstance(node, dict) else None
    if not isinstance(value, kind):
        raise ValueError(
            f'{where}: there is no {_KINDS[kind]} "{key}": give a file in '
            f"the format of SQuAD v{version}."
        )
    return value


def _of_document(document: Any, path: str, version: str):
    """Yields the examples of a parsed file."""
    articles = _get(document, "data", list, path, version)
    for i, article in enumerate(articles, 1):
        title = article.get("title") if isinstance(article, dict) else None
        title = title if isinstance(title, str) else ""
        where = f"{path}, article {i}" + (f' "{title}"' if title else "")
        paragraphs = _get(article, "paragraphs", list, where, version)
        for j, paragraph in enumerate(paragraphs, 1):
            place = f"{where}, paragraph {j}"
            context = _get(paragraph, "context", str, place, version)
            questions = _get(paragraph, "qas", list, place, version)
            for k, question in enumerate(questions, 1):
                found = _get(
                    question, "id", str, f"{place}, question {k}", version
                )
                yield _of_question(
                    question,
                    title,
                    context,
                    f'{place}, question "{found}"',
                    version,
                )


def _of_question(
    question: dict[str, Any],
    title: str,
    context: str,
    where: str,
    version: str,
) -> SquadExample:
    """Checks an entry of "qas"."""
    text = _get(question, "question", str, where, version)
    impossible = question.get("is_impossible", False)
    if version == "2.0":
        if "is_impossible" not in question:
            raise ValueError(
                f'{where}: there is no "is_impossible", so this is not SQuAD '
                "v2.0: choose the task squad or give a v2.0 file."
            )
        impossible = _get(question, "is_impossible", bool, where, version)
    # The test sets of v2.0 leave the answers of impossible questions out.
    answers = []
    if not impossible:
        answers = _get(question, "answers", list, where, version)
    if not answers and (version == "1.1" or not impossible):
        wrong = "choose the task squad_v2 or give a v1.1 file"
        if version == "2.0":
            wrong = 'mend the question or set its "is_impossible"'
        raise ValueError(
            f"{where}: there is no answer, which SQuAD v{version} does not "
            f"allow here: {wrong}."
        )
    return SquadExample(
        question["id"],
        title,
        text,
        context,
        tuple(_get(a, "text", str, where, version) for a in answers),
        tuple(_get(a, "answer_start", int, where, version) for a in answers),
    )


def _of_tfds(row: dict[str, Any], name: str, version: str) -> SquadExample:
    """An example of the builder, checked as one of a file."""
    where = f'{name}, question "{row["id"].decode("utf-8", "replace")}"'

    def decode(value: bytes) -> str:
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(
                f"{where}: a text is not UTF-8 at byte {error.start}: "
                "prepare the data set again."
            ) from None

    answers = row["answers"]
    question = {
        "id": decode(row["id"]),
        "question": decode(row["question"]),
        "answers": [
            {"text": decode(text), "answer_start": int(start)}
            for text, start in zip(answers["text"], answers["answer_start"])
        ],
    }
    if "is_impossible" in row:
        question["is_impossible"] = bool(row["is_impossible"])
    return _of_question(
        question, decode(row["title"]), decode(row["context"]), where, version
    )
