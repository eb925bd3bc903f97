"""SQuAD's examples out of json files and of prepared TFDS folders."""

import copy
import json

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from tf_pof.tasks import squad_files
from tf_pof.tasks.squad_files import SquadExample

CONTEXT = "The café opened in 1895. It closed in 1943."
V1 = {
    "version": "1.1",
    "data": [
        {
            "title": "Café",
            "paragraphs": [
                {
                    "context": CONTEXT,
                    "qas": [
                        {
                            "id": "q1",
                            "question": "When did it open?",
                            "answers": [
                                {"text": "1895", "answer_start": 19},
                                {"text": "in 1895", "answer_start": 16},
                            ],
                        },
                        {
                            "id": "q2",
                            "question": "When did it close?",
                            "answers": [{"text": "1943", "answer_start": 38}],
                        },
                    ],
                }
            ],
        }
    ],
}
EXAMPLES = [
    SquadExample(
        "q1",
        "Café",
        "When did it open?",
        CONTEXT,
        ("1895", "in 1895"),
        (19, 16),
    ),
    SquadExample(
        "q2", "Café", "When did it close?", CONTEXT, ("1943",), (38,)
    ),
]
IMPOSSIBLE = SquadExample("q3", "Café", "Who owned it?", CONTEXT, (), ())


def v2():
    document = copy.deepcopy(V1)
    document["version"] = "v2.0"
    questions = document["data"][0]["paragraphs"][0]["qas"]
    for question in questions:
        question["is_impossible"] = False
    questions.append(
        {
            "id": "q3",
            "question": "Who owned it?",
            "answers": [],
            "plausible_answers": [{"text": "1895", "answer_start": 19}],
            "is_impossible": True,
        }
    )
    return document


def write(path, document):
    path.write_text(json.dumps(document), "utf-8")
    return str(path)


@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_reads_an_official_file(tmp_path, mark):
    path = tmp_path / "dev.json"
    path.write_text(mark + json.dumps(V1, ensure_ascii=False), "utf-8")
    assert squad_files.read_json(str(path), "1.1") == (EXAMPLES, [])


def test_reads_questions_without_answers(tmp_path):
    path = write(tmp_path / "dev.json", v2())
    found, _ = squad_files.read_json(path, "2.0")
    assert found == [*EXAMPLES, IMPOSSIBLE]


def _without(*keys):
    """The v1.1 document without what the keys lead to."""
    document = copy.deepcopy(V1)
    node = document
    for key in keys[:-1]:
        node = node[key]
    del node[keys[-1]]
    return document


_QUESTIONS = ("data", 0, "paragraphs", 0, "qas")


def _with_no_answers():
    document = copy.deepcopy(V1)
    document["data"][0]["paragraphs"][0]["qas"][1]["answers"] = []
    return document


def _changed(key, value):
    """The v1.1 document with another field of its second question."""
    document = copy.deepcopy(V1)
    document["data"][0]["paragraphs"][0]["qas"][1][key] = value
    return document


def _twice():
    document = copy.deepcopy(V1)
    document["data"].append(document["data"][0])
    return document


_ARTICLE = 'article 1 "Café"'


@pytest.mark.parametrize(
    "document, version, message",
    [
        (v2(), "1.1", 'paragraph 1, question 3 "q3": .* squad_v2 or'),
        (_with_no_answers(), "1.1", 'question 2 "q2": there is no answer'),
        (7, "1.1", 'there is no list "data": give a file in the format'),
        ([], "1.1", "holds no question"),
        ({"data": {}}, "1.1", 'there is no list "data"'),
        ({"data": []}, "1.1", "holds no question"),
        ({"data": [7]}, "1.1", 'article 1: there is no list "paragraphs"'),
        (_without("data", 0, "paragraphs"), "1.1", f"{_ARTICLE}: there is no"),
        (
            _without("data", 0, "paragraphs", 0, "context"),
            "1.1",
            f'{_ARTICLE}, paragraph 1: there is no text "context"',
        ),
        (_without(*_QUESTIONS), "1.1", 'paragraph 1: there is no list "qas"'),
        (
            _changed("id", [1]),
            "1.1",
            'paragraph 1, question 2: there is no text "id"',
        ),
        (
            _changed("answers", {"text": ["1943"], "answer_start": []}),
            "1.1",
            'question 2 "q2": there are 1 texts of answers but 0 places: give',
        ),
        (
            _changed("answers", [{"text": "1943", "answer_start": -1}]),
            "1.1",
            'question 2 "q2": the answer "1943" at -1 is no part of the cont',
        ),
        (
            _changed("answers", [{"text": " ", "answer_start": 3}]),
            "1.1",
            'question 2 "q2": the answer " " at 3 is no part of the context',
        ),
        (
            _changed("answers", [{"text": "1943", "answer_start": "x"}]),
            "1.1",
            'question 2 "q2": there is no number "answer_start"',
        ),
        (
            _changed("answers", [{"text": "1943", "answer_start": True}]),
            "1.1",
            'question 2 "q2": there is no number "answer_start"',
        ),
        (
            _without(*_QUESTIONS, 0, "question"),
            "1.1",
            'question 1: there is no text "question"',
        ),
        (
            _without(*_QUESTIONS, 0, "answers"),
            "1.1",
            'question 1 "q1": there is no list "answers"',
        ),
        (
            _without(*_QUESTIONS, 0, "answers", 1, "answer_start"),
            "1.1",
            'question 1 "q1": there is no number "answer_start"',
        ),
        (
            _without(*_QUESTIONS, 0, "answers", 1, "text"),
            "1.1",
            'question 1 "q1": there is no text "text"',
        ),
        (_twice(), "1.1", 'the question id "q1" twice, last in .* "Café"'),
    ],
)
def test_says_in_one_sentence_what_is_wrong_where(
    tmp_path, document, version, message
):
    path = write(tmp_path / "file.json", document)
    with pytest.raises(ValueError, match=message) as error:
        squad_files.read_json(path, version)
    assert str(error.value).startswith(path)
    assert str(error.value).endswith(".") and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", " is empty: give a file"),
        (b" \n", " is empty"),
        (
            b'{\n "data": nope}',
            r" is not valid JSON \(.* line 2 column 11\).*format of SQuAD v1.1",
        ),
        (b'{"data": "\xe9"}', ":1: not UTF-8 at byte 10"),
        (b"[" * 10**5, " is not valid JSON .*: give a file in the format"),
        (b'{"id": 1}\n{"id": 2}\n{"id": }\n', ":3: is not valid JSON"),
        (b'{"data": "\\ud83d"}', " is not valid JSON .*hex escape"),
        (None, " cannot be read .*: check the path"),
    ],
)
def test_says_what_is_not_json(tmp_path, content, message):
    path = tmp_path / "file.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises((ValueError, OSError), match=f"{path}{message}"):
        squad_files.read_json(str(path), "1.1")


def _rows(document):
    """Flat rows, as Hugging Face's data sets have them."""
    for article in document["data"]:
        for paragraph in article["paragraphs"]:
            for question in paragraph["qas"]:
                answers = question["answers"]
                yield {
                    "id": question["id"],
                    "title": article["title"],
                    "context": paragraph["context"],
                    "question": question["question"],
                    "answers": {
                        "text": [a["text"] for a in answers],
                        "answer_start": [a["answer_start"] for a in answers],
                    },
                }


@pytest.mark.parametrize("shape", ["list", "data", "lines", "line"])
@pytest.mark.parametrize("version", ["1.1", "2.0"])
def test_flat_rows_hold_the_same(tmp_path, shape, version):
    rows = list(_rows(V1 if version == "1.1" else v2()))
    expected = [*EXAMPLES, IMPOSSIBLE][: len(rows)]
    if shape == "line":
        rows, expected = rows[:1], expected[:1]
    path = tmp_path / "rows.json"
    if shape.startswith("line"):
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        write(path, rows if shape == "list" else {"data": rows})
    assert squad_files.read_json(str(path), version) == (expected, [])


@pytest.mark.parametrize("kind", [int, str, float])
def test_places_may_be_written_as_text(tmp_path, kind):
    rows = list(_rows(V1))
    for row in rows:
        starts = row["answers"]["answer_start"]
        row["answers"]["answer_start"] = [kind(start) for start in starts]
    found, _ = squad_files.read_json(write(tmp_path / "a.json", rows), "1.1")
    assert found == EXAMPLES


def test_an_answer_may_stand_without_lists(tmp_path):
    document = _changed("answers", {"text": "1943", "answer_start": 38})
    path = write(tmp_path / "a.json", document)
    assert squad_files.read_json(path, "1.1") == (EXAMPLES, [])


def test_ids_may_be_numbers_or_missing(tmp_path):
    path = write(tmp_path / "a.json", _changed("id", 56))
    found, notes = squad_files.read_json(path, "1.1")
    assert [e.id for e in found] == ["q1", "56"] and notes == []
    path = write(tmp_path / "b.json", _without(*_QUESTIONS, 1, "id"))
    found, notes = squad_files.read_json(path, "1.1")
    assert [e.id for e in found] == ["q1", "question-2"]
    assert notes == [
        f"1 of 2 questions of {path} have no id: they are called question-1 "
        "and so on by their place in it."
    ]


def test_without_is_impossible_the_answers_say_it(tmp_path):
    document = v2()
    for question in document["data"][0]["paragraphs"][0]["qas"]:
        del question["is_impossible"]
    path = write(tmp_path / "a.json", document)
    found, _ = squad_files.read_json(path, "2.0")
    assert found == [*EXAMPLES, IMPOSSIBLE]
    for question in document["data"][0]["paragraphs"][0]["qas"]:
        question["is_impossible"] = int(not question["answers"])
    path = write(tmp_path / "b.json", document)
    assert squad_files.read_json(path, "2.0")[0] == found


def test_an_impossible_question_has_no_answers(tmp_path):
    document = v2()
    question = document["data"][0]["paragraphs"][0]["qas"][2]
    question["answers"] = question["plausible_answers"]
    path = write(tmp_path / "a.json", document)
    assert squad_files.read_json(path, "2.0")[0][2] == IMPOSSIBLE
    question.update(is_impossible=False, answers=[])
    with pytest.raises(ValueError, match='"q3": .* mend the question'):
        squad_files.read_json(write(tmp_path / "b.json", document), "2.0")


def _tfds_rows(document):
    for question in document["data"][0]["paragraphs"][0]["qas"]:
        answers = question["answers"]
        row = {
            "id": question["id"],
            "title": "Café",
            "context": CONTEXT,
            "question": question["question"],
            "answers": {
                "text": np.array([a["text"] for a in answers], object),
                "answer_start": np.array(
                    [a["answer_start"] for a in answers], np.int32
                ),
            },
        }
        if "is_impossible" in question:
            row["is_impossible"] = question["is_impossible"]
            row["plausible_answers"] = row["answers"]
        yield row


@pytest.fixture(scope="module")
def tfds_folder(tmp_path_factory):
    """Both data sets with the features that their builders declare."""
    folder = str(tmp_path_factory.mktemp("tfds"))
    for config, document in (("v1.1", V1), ("v2.0", v2())):
        builder = tfds.builder(f"squad/{config}", data_dir=folder)
        dataset = tf.data.Dataset.from_generator(
            lambda document=document: _tfds_rows(document),
            output_signature=tf.nest.map_structure(
                lambda spec: tf.TensorSpec(spec.shape, spec.dtype),
                builder.info.features.get_tensor_spec(),
            ),
        )
        tfds.dataset_builders.store_as_tfds_dataset(
            name="squad",
            version=str(builder.version),
            config=config,
            features=builder.info.features,
            split_datasets={"train": dataset, "validation": dataset},
            data_dir=folder,
            disable_shuffling=True,
        )
    return folder


def test_reads_a_prepared_tfds_folder(tfds_folder):
    found = squad_files.read_tfds("1.1", "validation", tfds_folder)
    assert found == EXAMPLES
    found = squad_files.read_tfds("2.0", "train", tfds_folder)
    assert found == [*EXAMPLES, IMPOSSIBLE]


def test_says_that_tfds_has_not_prepared_it(tmp_path):
    with pytest.raises(ValueError, match="squad/v1.1 is not prepared in"):
        squad_files.read_tfds("1.1", "train", str(tmp_path))
