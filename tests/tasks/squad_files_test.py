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
    assert squad_files.read_json(str(path), "1.1") == EXAMPLES


def test_reads_questions_without_answers(tmp_path):
    path = write(tmp_path / "dev.json", v2())
    assert squad_files.read_json(path, "2.0") == [*EXAMPLES, IMPOSSIBLE]


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


def _twice():
    document = copy.deepcopy(V1)
    document["data"].append(document["data"][0])
    return document


_ARTICLE = 'article 1 "Café"'


@pytest.mark.parametrize(
    "document, version, message",
    [
        (v2(), "1.1", 'paragraph 1, question "q3": .* squad_v2 or'),
        (V1, "2.0", '"q1": there is no "is_impossible".*the task squad or'),
        (_with_no_answers(), "1.1", 'question "q2": there is no answer'),
        ([], "1.1", 'there is no list "data": give a file in the format'),
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
            _without(*_QUESTIONS, 1, "id"),
            "1.1",
            'paragraph 1, question 2: there is no text "id"',
        ),
        (
            _without(*_QUESTIONS, 0, "question"),
            "1.1",
            'question "q1": there is no text "question"',
        ),
        (
            _without(*_QUESTIONS, 0, "answers"),
            "1.1",
            'question "q1": there is no list "answers"',
        ),
        (
            _without(*_QUESTIONS, 0, "answers", 1, "answer_start"),
            "1.1",
            'question "q1": there is no number "answer_start"',
        ),
        (
            _without(*_QUESTIONS, 0, "answers", 1, "text"),
            "1.1",
            'question "q1": there is no text "text"',
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
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b'{\n "data": nope}', "is not json at line 2, column 10"),
        (b'{"data": "\xe9"}', "is not UTF-8 at byte 10"),
        (None, "cannot be read"),
    ],
)
def test_says_what_is_not_json(tmp_path, content, message):
    path = tmp_path / "file.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=f"{path} {message}.*v1.1 json"):
        squad_files.read_json(str(path), "1.1")


def test_an_impossible_question_has_no_answers(tmp_path):
    document = v2()
    question = document["data"][0]["paragraphs"][0]["qas"][2]
    question["answers"] = question["plausible_answers"]
    path = write(tmp_path / "a.json", document)
    assert squad_files.read_json(path, "2.0")[2] == IMPOSSIBLE
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
