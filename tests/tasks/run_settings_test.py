"""settings.json of a run, whoever wrote it: restored from, or a sentence."""

import json
import shutil

import tf_pof

from hypothesis import HealthCheck, given, settings, strategies as st
import numpy as np
import pytest
import tensorflow as tf

from tests.tasks import tiny
from tf_pof.data.tokenizer_settings import TokenizerSettings
from tf_pof.pruning.schedules import PruneOnceSchedule
from tf_pof.tasks import registry, trained

LABELS = ("negative", "positive")


@pytest.fixture(scope="module")
def run(tmp_path_factory, tiny_tasks, tiny_vocab):
    """A run that has but one checkpoint, of the model it began with."""
    root = tmp_path_factory.mktemp("run")
    model = tiny.save_model(root / "start", tiny_vocab, head="classifier")
    (root / "run").mkdir()
    checkpoint = tf.train.Checkpoint(student=tf_pof.load(model))
    checkpoint.save(str(root / "run/checkpoints/ckpt"))
    told = {"model": model, "task": tiny_tasks["sst2"], "vocab": tiny_vocab}
    (root / "run/settings.json").write_text(json.dumps(told))
    return root / "run"


def _with(run, folder, told):
    copy = shutil.copytree(run, folder / "copy", dirs_exist_ok=True)
    text = told if isinstance(told, str) else json.dumps(told)
    (copy / "settings.json").write_text(text)
    return str(copy)


def _told(run):
    return json.loads((run / "settings.json").read_text())


def test_what_is_left_out_has_its_default(run, tmp_path):
    model = trained.load(str(run))
    assert model.labels == LABELS
    assert model.tokenizer_settings == TokenizerSettings(True)
    told = _told(run)
    vocab = told.pop("vocab")
    model = trained.load(_with(run, tmp_path, told | {"lowercase": False}))
    assert model.vocab_file != vocab
    assert model.tokenizer_settings == TokenizerSettings(False)
    expected = tf_pof.load(told["model"]).get_weights()
    for value, other in zip(model.get_weights(), expected, strict=True):
        np.testing.assert_array_equal(value, other)


SCHEDULE = PruneOnceSchedule(0.0, 0.5, 0, 2, 4, 1).get_config()


@pytest.mark.parametrize(
    "changes, what",
    [
        ("[]", "settings.json does not hold what it should: input should be"),
        ("", "settings.json is not valid JSON"),
        ("[" * 10**5, "settings.json is not valid JSON"),
        ({"model": None}, "settings.json has a wrong 'model'"),
        ({"model": 5}, "settings.json has a wrong 'model'"),
        ({"model": "nowhere"}, "'nowhere' is neither a model folder"),
        ({"task": None}, "settings.json has a wrong 'task'"),
        ({"task": {}}, "settings.json names a task that is none: it has no n"),
        ({"task": {"name": ["sst2"]}}, "that is none: it has no name"),
        ({"task": {"name": "x"}}, "that is none: There is no task 'x'"),
        ({"task": {"name": "sst2", "x": 1}}, "none: --x is not an option"),
        (
            {"task": {"name": "sst2", "sequence_length": "9"}},
            "none: The task sst2 has a wrong 'sequence_length': input should",
        ),
        ({"task": {"name": "custom", "text_column": 1}}, "wrong 'text_column'"),
        ({"vocab": {}}, "settings.json has a wrong 'vocab'"),
        ({"lowercase": "yes"}, "settings.json has a wrong 'lowercase'"),
        ({"qat": "no"}, "settings.json has a wrong 'qat'"),
        ({"schedule": 3}, "settings.json has a wrong 'schedule'"),
        ({"schedule": {"class_name": "X", "config": {}}}, "has a schedule"),
        ({"schedule": {"x": 1}}, "has a schedule that no model can be pruned"),
        ({"schedule": SCHEDULE | {"config": []}}, "has a schedule that no"),
        (
            {"schedule": {"class_name": "tf_pof>Gelu", "config": {}}},
            "has a schedule that no model can be pruned by",
        ),
        (
            {"schedule": SCHEDULE, "pruning": {"pattern": "0x0"}},
            "has a schedule that no model can be pruned by",
        ),
        (
            {"schedule": SCHEDULE, "pruning": {"flavour": 1}},
            "has a schedule that no model can be pruned by",
        ),
    ],
)
def test_settings_that_cannot_be_are_named(run, tmp_path, changes, what):
    told = changes if isinstance(changes, str) else _told(run) | changes
    path = _with(run, tmp_path, told)
    with pytest.raises(ValueError, match=what) as error:
        trained.load(path)
    assert "\n" not in str(error.value) and str(error.value).endswith(".")


@pytest.mark.parametrize("key", ["model", "task"])
def test_settings_that_lack_a_key(run, tmp_path, key):
    told = _told(run)
    del told[key]
    with pytest.raises(ValueError, match="lacks 'model'|of pre-training"):
        trained.load(_with(run, tmp_path, told))


def test_a_run_that_begins_with_itself_is_refused(run, tmp_path):
    told = _told(run) | {"model": str(tmp_path / "copy")}
    with pytest.raises(ValueError, match="did so too, 20 times: give a model"):
        trained.load(_with(run, tmp_path, told))


_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2)
    | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)
_KEYS = [*trained.RunSettings.model_fields, "other"]


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.sampled_from(_KEYS), _VALUES)
def test_any_value_is_restored_from_or_named(run, tmp_path, key, value):
    told = _told(run) | {key: value}
    try:
        model = trained.load(_with(run, tmp_path, json.dumps(told)))
    except (ValueError, OSError) as error:
        assert "\n" not in str(error) and str(error).endswith(".")
    else:
        assert model.labels == LABELS


@pytest.mark.parametrize(
    "name, option, value",
    [
        ("sst2", "raw_dir", 5),
        ("sst2", "download", "yes"),
        ("squad", "doc_stride", 1.5),
        ("squad_v2", "null_score_diff_threshold", float("nan")),
        ("custom", "labels", "neg"),
        ("custom", "labels", [1, 2]),
    ],
)
def test_options_of_another_type_are_refused(name, option, value):
    options = {"text_column": "text"} if name == "custom" else {}
    with pytest.raises(ValueError, match=f"{name} has a wrong '{option}"):
        registry.create(name, **options, **{option: value})
