"""Settings that make no sense are refused where they are made."""

import math

import tf_pof  # noqa: F401  (legacy Keras before TensorFlow)

import pytest

from tf_pof.tasks.settings import Settings as TaskSettings
from tf_pof.training.program import Settings
from tf_pof.training.settings import TrainingSettings

GOOD = {
    "model": "bert_tiny",
    "output": "run",
    "train_steps": 10,
    "batch_size": 8,
    "learning_rate": 1e-3,
}
SHARED = [
    {"model": ""},
    {"output": "  "},
    {"batch_size": 0},
    {"batch_size": 10**9},
    {"batch_size": 8.0},
    {"batch_size": True},
    {"micro_batch_size": -1},
    {"micro_batch_size": 10**9},
    {"train_steps": -1},
    {"train_steps": 2**31},
    {"learning_rate": -1.0},
    {"learning_rate": math.nan},
    {"learning_rate": math.inf},
    {"learning_rate": "1e-3"},
    {"warmup_fraction": 1.5},
    {"weight_decay": -0.1},
    {"weight_decay": math.inf},
    {"clip_norm": math.nan},
    {"clip_norm": -1.0},
    {"adam_beta_1": 1.5},
    {"adam_beta_1": 1.0},
    {"adam_beta_2": -0.1},
    {"adam_epsilon": 0.0},
    {"dropout": 1.0},
    {"dropout": math.nan},
    {"seed": -1},
    {"seed": 2**32},
    {"hard_loss_weight": -1.0},
    {"hard_loss_weight": 0.0},
    {"distillation_weight": math.inf},
    {"temperature": 0.0},
    {"temperature": math.inf},
    {"hidden_loss_weight": math.nan},
    {"attention_loss_weight": -2.0},
    {"precision": "float64"},
    {"strategy": "cloud"},
    {"checkpoint_every": 0},
    {"log_every": 0},
    {"evaluate_every": -1},
    {"pruning": {"pattern": "99999999999x1"}},
    {"pruning": {"pattern": "1:99999999999"}},
    {"pruning": {"pattern": "threefold"}},
]


@pytest.mark.parametrize("changes", SHARED, ids=str)
def test_values_out_of_bounds_are_refused_by_name(changes):
    assert TrainingSettings(**GOOD)
    (name,) = changes
    with pytest.raises(ValueError, match=name.replace("pruning", "pattern")):
        TrainingSettings(**GOOD | changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"mask_rate": 0.0},
        {"mask_rate": 1.0},
        {"mask_rate": math.nan},
        {"sequence_length": 0},
        {"sequence_length": 10**9},
        {"evaluate_batches": -5},
        {"train_steps": 0},
        {"data": ""},
    ],
    ids=str,
)
def test_those_of_pre_training_too(changes):
    good = GOOD | {"data": "examples"}
    assert Settings(**good)
    with pytest.raises(ValueError, match=next(iter(changes))):
        Settings(**good | changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"epochs": math.inf},
        {"epochs": -1.0},
        {"train_steps": 0, "epochs": 0.0},
        {"evaluate_every": "year"},
        {"evaluate_every": -1},
        {"qat_start_step": -1},
        {"qat_freeze_step": 0},
        {"qat_range_decay": 1.0},
        {"qat_range_decay": math.nan},
        {"vocab": ""},
        {"lock": 1},
    ],
    ids=str,
)
def test_those_of_fine_tuning_too(changes):
    good = GOOD | {"task": {"name": "sst2"}}
    assert TaskSettings(**good).evaluate_every == "epoch"
    with pytest.raises(ValueError, match=next(iter(changes))):
        TaskSettings(**good | changes)


def test_what_lies_at_the_bounds_is_taken():
    TrainingSettings(
        **GOOD
        | {
            "learning_rate": 0.0,
            "clip_norm": 0,
            "adam_beta_1": 0.0,
            "seed": 2**32 - 1,
            "warmup_fraction": 1.0,
            "dropout": 0.0,
        }
    )


def test_a_teacher_alone_may_teach_but_something_must():
    taught = GOOD | {"teacher": "dense", "hard_loss_weight": 0.0}
    TrainingSettings(**taught, distillation_weight=1.0)
    TrainingSettings(**taught, attention_loss_weight=0.1)
    with pytest.raises(ValueError, match="nothing to learn.*distillation"):
        TrainingSettings(**taught)
    # Without a teacher its weights count for nothing.
    alone = taught | {"teacher": None, "distillation_weight": 1.0}
    with pytest.raises(ValueError, match="nothing to learn: hard_loss_weight"):
        TrainingSettings(**alone)
