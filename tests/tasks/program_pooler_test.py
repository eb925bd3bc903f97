"""Fine-tuning of models that were stored without a pooler."""

import json

import tf_pof

import pytest

from tests.tasks import tiny


@pytest.mark.parametrize(
    "head, architecture",
    [
        ("pretraining", "BertForMaskedLM"),
        ("span", "BertForQuestionAnswering"),
    ],
)
def test_what_was_trained_is_saved(
    tiny_tasks, tiny_vocab, tmp_path, head, architecture
):
    start = tmp_path / "start"
    tiny.save_model(start, tiny_vocab, head=head, pooler=False)
    config = json.loads((start / "config.json").read_text())
    assert config["architectures"] == [architecture]
    given = tiny.settings(
        tiny_tasks["sst2"], str(start), tmp_path / "run", **tiny.SHORT
    )
    tiny.run(given)
    model = tf_pof.load(tmp_path / "run")
    assert (model.head, model.new_weights) == ("classifier", ())
    assert model.labels == ("negative", "positive")
