"""Tables of embeddings with more rows than the vocabulary has tokens."""

import numpy as np
import pytest

import tf_pof
from tests.tasks import tiny
from tf_pof.tasks import evaluation, program, registry

ROWS = len(tiny.VOCABULARY) + 6


@pytest.fixture
def padded(tiny_vocab, tmp_path):
    return tiny.save_model(
        tmp_path / "padded",
        tiny_vocab,
        head="classifier",
        labels=("negative", "positive"),
        vocabulary_size=ROWS,
    )


def test_a_padded_table_is_read_with_its_vocabulary(padded, tmp_path):
    model = tf_pof.load(padded)
    tokenizer = evaluation.load_tokenizer(padded, model)
    assert len(tokenizer.vocabulary) == ROWS - 6
    # And keeps its rows.
    table = model.get_layer("token_embedding").embeddings.numpy()
    again = tf_pof.load(tf_pof.save(model, tmp_path / "again"))
    found = again.get_layer("token_embedding").embeddings.numpy()
    assert len(table) == ROWS
    np.testing.assert_array_equal(found, table)


def test_a_vocabulary_longer_than_the_table_is_refused(tiny_vocab, tmp_path):
    folder = tiny.save_model(
        tmp_path / "short", tiny_vocab, vocabulary_size=ROWS - 7
    )
    message = f"has {ROWS - 6} tokens, but .* with {ROWS - 7}"
    with pytest.raises(ValueError, match=message):
        evaluation.load_tokenizer(folder, tf_pof.load(folder))


def test_teacher_and_student_may_be_padded_differently(
    padded, tiny_tasks, tiny_vocab, tmp_path
):
    task = registry.create(**tiny_tasks["sst2"])
    student = tf_pof.load(tiny.save_model(tmp_path / "student", tiny_vocab))
    teacher = program.load_teacher(padded, task, student)
    assert teacher.config.vocabulary_size == ROWS
