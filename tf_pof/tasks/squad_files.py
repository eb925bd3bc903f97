"""SQuAD's examples out of its official json files or out of TFDS."""

from collections.abc import Iterable
import dataclasses
import re
from typing import Any

from tf_pof import untrusted
from tf_pof.tasks import tfds_source
from tf_pof.tasks.text_files import quoted, read_text

VERSIONS = ("1.1", "2.0")
# Names of questions that have none.
_NO_ID = "question-"
_INTEGER = re.compile(r"[-+]?\d{1,12}", re.ASCII)
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


def read_json(
    path: str, version: str
) -> tuple[list[SquadExample], list[str]]:
    """Reads an official file, such as dev-v1.1.json, or one like it.

    Files of other tools are read too: questions without articles around
    them, as a list or one a line, answers as a dict of lists, as Hugging
    Face's data sets have them, and numbers as ids or none at all.

    Args:
        path: the file.
        version: "1.1", where every question has answers, or "2.0", where
            those without any have none in their contexts.

    Returns:
        The questions, and sentences on what was met.

    Raises:
        OSError: if it cannot be read.
        ValueError: if it is not such a file.
    """
    document = _parse(read_text(path), path, version)
    notes = []
    examples = _unique(_of_document(document, path, version), path, version)
    unnamed = sum(example.id.startswith(_NO_ID) for example in examples)
    if unnamed:
        notes.append(
            f"{unnamed} of {len(examples)} questions of {path} have no id: "
            f"they are called {_NO_ID}1 and so on by their place in it."
        )
    return examples, notes


def _parse(text: str, path: str, version: str) -> Any:
    """The document, or the list of its lines' documents."""
    try:
        return untrusted.parse_json(text, Any, path)
    except ValueError as error:
        lines = [
            (number, line)
            for number, line in enumerate(text.split("\n"), 1)
            if line.strip()
        ]
        if len(lines) < 2 or not _is_object(lines[0][1]):
            raise ValueError(
                f"{str(error).removesuffix('.')}: give a file in the format "
                f"of SQuAD v{version}."
            ) from None
    try:
        # At once, which is faster than one by one.
        document = ",".join(line for _, line in lines)
        return untrusted.parse_json(f"[{document}]", list[dict[str, Any]])
    except ValueError:
        for number, line in lines:
            untrusted.parse_json(line, dict[str, Any], f"{path}:{number}:")
        raise


def _is_object(line: str) -> bool:
    try:
        untrusted.parse_json(line, dict[str, Any])
        return True
    except ValueError:
        return False


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
                f"{source} has the question id {quoted(example.id)} twice, "
                f"last in the article {quoted(example.title)}: give each "
                "question an id of its own."
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
    articles = document
    if isinstance(document, dict) and {"context", "question"} <= set(document):
        # A single line.
        articles = [document]
    elif not isinstance(document, list):
        articles = _get(document, "data", list, path, version)
    number = 0
    for i, article in enumerate(articles, 1):
        title = article.get("title") if isinstance(article, dict) else None
        title = title if isinstance(title, str) else ""
        where = f"{path}, article {i}" + (f" {quoted(title)}" if title else "")
        if isinstance(article, dict) and "paragraphs" not in article:
            if {"context", "question"} <= set(article):
                number += 1
                where = f"{path}, row {i}"
                context = _get(article, "context", str, where, version)
                yield _of_question(
                    article, number, title, context, where, version
                )
                continue
        paragraphs = _get(article, "paragraphs", list, where, version)
        for j, paragraph in enumerate(paragraphs, 1):
            place = f"{where}, paragraph {j}"
            context = _get(paragraph, "context", str, place, version)
            questions = _get(paragraph, "qas", list, place, version)
            for k, question in enumerate(questions, 1):
                number += 1
                yield _of_question(
                    question,
                    number,
                    title,
                    context,
                    f"{place}, question {k}",
                    version,
                )


def _of_question(
    question: Any,
    number: int,
    title: str,
    context: str,
    where: str,
    version: str,
) -> SquadExample:
    """Checks an entry of "qas", or a row that is like one.

    Args:
        question: the entry.
        number: of the question within its file, from 1.
        title, context: what it belongs to.
        where: begins the sentence of an error.
        version: of SQuAD.
    """
    text = _get(question, "question", str, where, version)
    found = question.get("id")
    if found is None:
        found = f"{_NO_ID}{number}"
    elif isinstance(found, int) and not isinstance(found, bool):
        found = str(found)
    else:
        found = _get(question, "id", str, where, version)
        where = f"{where} {quoted(found)}"
    answers = _answers(question, where, version)
    impossible = question.get("is_impossible")
    if impossible in (0, 1):
        impossible = bool(impossible)
    elif impossible is not None:
        impossible = _get(question, "is_impossible", bool, where, version)
    elif version == "2.0":
        impossible = not answers
    # The test sets of v2.0 leave the answers of impossible questions out.
    if impossible:
        answers = []
    if not answers and (version == "1.1" or not impossible):
        wrong = "choose the task squad_v2 or give a v1.1 file"
        if version == "2.0":
            wrong = 'mend the question or set its "is_impossible"'
        raise ValueError(
            f"{where}: there is no answer, which SQuAD v{version} does not "
            f"allow here: {wrong}."
        )
    texts = tuple(_get(a, "text", str, where, version) for a in answers)
    starts = tuple(_start(a, where, version) for a in answers)
    for answer, start in zip(texts, starts):
        if start < 0 or not answer.strip():
            raise ValueError(
                f"{where}: the answer {quoted(answer)} at {start} is no part "
                "of the context: give its text and where it begins, or leave "
                "out the answers of a question that has none (v2.0)."
            )
    return SquadExample(found, title, text, context, texts, starts)


def _answers(question: Any, where: str, version: str) -> list[Any]:
    """The list of answers, from a list or a dict of lists; [] if none."""
    answers = question.get("answers")
    if answers is None and (version == "2.0" or question.get("is_impossible")):
        return []
    if not isinstance(answers, dict):
        return _get(question, "answers", list, where, version)
    columns = []
    for key in ("text", "answer_start"):
        column = answers.get(key)
        columns.append(column if isinstance(column, list) else [column])
    if len(columns[0]) != len(columns[1]):
        raise ValueError(
            f"{where}: there are {len(columns[0])} texts of answers but "
            f"{len(columns[1])} places: give one for each."
        )
    return [
        {"text": text, "answer_start": start} for text, start in zip(*columns)
    ]


def _start(answer: Any, where: str, version: str) -> int:
    """Where an answer begins, though it be written as 12.0 or as text."""
    start = answer.get("answer_start") if isinstance(answer, dict) else None
    if isinstance(start, str) and _INTEGER.fullmatch(start.strip()):
        return int(start)
    if isinstance(start, float) and start.is_integer():
        return int(start)
    if isinstance(start, bool):
        answer = {}
    return _get(answer, "answer_start", int, where, version)


def _of_tfds(row: dict[str, Any], name: str, version: str) -> SquadExample:
    """An example of the builder, checked as one of a file."""
    where = f"{name}, question"

    def decode(value: bytes) -> str:
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(
                f"{where} {row['id']!r}: a text is not UTF-8 at byte "
                f"{error.start}: prepare the data set again."
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
    title, context = decode(row["title"]), decode(row["context"])
    return _of_question(question, 0, title, context, where, version)
