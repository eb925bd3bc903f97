"""Pre-training of a model whose table has more rows than tokens."""

import dataclasses

import tf_pof

import pytest

from tf_pof.data import records
from tf_pof.models import bert, saving
from tf_pof.training import program


@pytest.fixture
def settings(data, model, tmp_path):
    return program.Settings(
        model=model,
        teacher=None,
        data=data,
        output=str(tmp_path / "run"),
        train_steps=1,
        batch_size=8,
        learning_rate=1e-2,
        hard_loss_weight=1.0,
        distillation_weight=0.0,
        schedule=None,
    )


@pytest.mark.parametrize(
    "rows, has_vocabulary, fits",
    [
        (22, False, True),
        (24, False, True),
        (24, True, True),
        (300, True, True),
        (300, False, False),
        (21, True, False),
    ],
)
def test_only_a_table_for_other_tokens_is_refused(
    settings, vocab_file, tmp_path, rows, has_vocabulary, fits
):
    config = tf_pof.load(settings.model).config
    made = bert.build(
        dataclasses.replace(config, vocabulary_size=rows), "pretraining"
    )
    vocabulary = vocab_file if has_vocabulary else None
    path = saving.save(made, tmp_path / "model", vocabulary)
    given = dataclasses.replace(settings, model=path)
    meta = records.verify(given.data)
    if fits:
        student = program.build(given, meta).student
        assert student.get_layer("token_embedding").input_dim == rows
    else:
        with pytest.raises(ValueError, match=f"vocabulary of {rows} tokens"):
            program.build(given, meta)
