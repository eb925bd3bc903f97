"""Models that are sparse before they are pruned, and what is saved of them."""

import json
import logging

import numpy as np
import pytest

import tf_pof
from tf_pof._keras import keras
from tf_pof.models import bert
from tf_pof.models.config import BertConfig
from tf_pof.pruning import schedules, wrapper

X = np.random.default_rng(0).normal(size=(64, 10)).astype(np.float32)


def sparse_model(zeros=60):
    """A kernel of 10 x 10 with `zeros` zeros at the positions that we know."""
    keras.utils.set_random_seed(1)
    inputs = keras.Input([10])
    x = keras.layers.Dense(10, "tanh", name="d")(inputs)
    model = keras.Model(inputs, keras.layers.Dense(1, name="out")(x), name="m")
    kernel = np.random.default_rng(1).uniform(0.1, 1, [10, 10])
    kernel.reshape(-1)[np.random.default_rng(2).permutation(100)[:zeros]] = 0
    model.get_layer("d").kernel.assign(kernel)
    return model, kernel != 0


def ramp(initial=0.0):
    return schedules.PruneOnceSchedule(initial, 0.9, 2, 10, 10, 2)


def told(caplog):
    texts = [record.getMessage() for record in caplog.records]
    return [text for text in texts if "zero already" in text]


def test_pruning_a_sparse_model_below_its_sparsity_says_so(caplog):
    caplog.set_level(logging.WARNING)
    wrapper.prune(sparse_model()[0], ramp())
    (text,) = told(caplog)
    assert "60.0 % of what is pruned in m" in text
    assert "keep_zeros=True" in text and "initial_sparsity=0.6" in text


@pytest.mark.parametrize(
    "zeros, initial, keep", [(60, 0.6, False), (60, 0, True), (0, 0, False)]
)
def test_nothing_is_said_where_zeros_stay(zeros, initial, keep, caplog):
    caplog.set_level(logging.WARNING)
    model, _ = sparse_model(zeros)
    wrapper.prune(model, ramp(initial), keep_zeros=keep)
    assert not told(caplog)


@pytest.mark.parametrize("keep_pruned_values", [True, False])
@pytest.mark.parametrize("pattern", ["unstructured", "2x1"])
@pytest.mark.parametrize("budget", ["uniform", "global"])
def test_kept_zeros_never_return(keep_pruned_values, pattern, budget):
    model, live = sparse_model()
    model = wrapper.prune(
        model,
        ramp(),
        pattern=pattern,
        budget=budget,
        keep_pruned_values=keep_pruned_values,
        keep_zeros=True,
    )
    kernel, mask, _ = model.layers[1].pruning_vars[0]
    seen = []

    class Check(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            assert not (mask.numpy() & ~live).any()
            assert not kernel.numpy()[~live].any()
            seen.append(100 - np.count_nonzero(mask))

    optimizer = keras.optimizers.AdamW(0.05, weight_decay=0.1)
    model.compile(optimizer, "mse")
    model.fit(X, X[:, :1], batch_size=4, verbose=0, callbacks=[Check()])
    assert seen[0] == 60 and seen == sorted(seen)
    # 9 of 10 of the weights or of the 50 blocks of two.
    assert seen[-1] == 90 if pattern == "unstructured" else seen[-1] >= 90


def test_without_keeping_them_zeros_return():
    model, live = sparse_model()
    model = wrapper.prune(model, ramp())
    model.compile(keras.optimizers.Adam(0.05), "mse")
    model.fit(X, X[:, :1], batch_size=32, verbose=0)
    kernel = model.layers[1].pruning_vars[0][0].numpy()
    assert np.count_nonzero(kernel[~live]) == 60


def test_kept_zeros_are_in_the_config():
    model = wrapper.prune(sparse_model()[0], ramp(), keep_zeros=True)
    again = keras.models.model_from_json(model.to_json())
    assert again.layers[1].keep_zeros
    (tensor,) = model.pruner.report()["tensors"].values()
    assert tensor["keep_zeros"] and tensor["zeros"] == 60


def small_bert():
    config = BertConfig(
        vocabulary_size=30,
        num_layers=1,
        num_heads=2,
        hidden_dim=8,
        intermediate_dim=16,
        max_sequence_length=16,
    )
    return bert.build(config, "classifier")


@pytest.mark.parametrize("stripped", [True, False])
def test_a_script_s_model_is_saved_with_its_sparsity(stripped, tmp_path):
    schedule = schedules.PruneOnceSchedule(0.5, 0.5, 0, 0, 0, 1)
    model = tf_pof.prune(small_bert(), schedule, pattern="4x1")
    model.pruner.update(0)
    saved = tf_pof.strip(model) if stripped else model
    tf_pof.save(saved, tmp_path / "m")
    sparsity = json.loads((tmp_path / "m" / "sparsity.json").read_text())
    # Four square kernels, two of 8 x 16, and the pooler.
    size = 4 * 64 + 2 * 128 + 64
    assert (sparsity["size"], sparsity["zeros"]) == (size, size // 2)
    assert len(sparsity["tensors"]) == 7
    tensor = sparsity["tensors"]["layer_0_query/kernel"]
    assert tensor["shape"] == [8, 8] and tensor["zeros"] == 32
    assert tensor["pattern"] == "4x1"
    assert tensor["schedule"]["config"]["final_sparsity"] == 0.5
    assert sparsity == json.loads(json.dumps(model.pruner.report()))
    loaded = tf_pof.load(tmp_path / "m")
    assert loaded.sparsity["zeros"] == size // 2


def test_saving_a_model_inside_its_ramp_says_so(tmp_path, caplog):
    caplog.set_level(logging.WARNING)
    schedule = schedules.PruneOnceSchedule(0.25, 0.5, 0, 2, 2, 1)
    model = tf_pof.prune(small_bert(), schedule)
    for step, count in ((0, 1), (2, 0)):
        model.pruner.update(step)
        caplog.clear()
        tf_pof.save(model, tmp_path / "m")
        assert caplog.text.count("its schedule ends at 50.00 %") == count


@pytest.mark.parametrize("schedule", [{"final_sparsity": 0.9}, None, 0.9])
def test_what_is_no_schedule_is_refused(schedule):
    with pytest.raises(ValueError, match="must be a tf_pof.PruneOnceSchedule"):
        tf_pof.prune(sparse_model()[0], schedule)
