"""Quantized models in fit: ranges, phases, locks, precisions."""

import tf_pof

import numpy as np
import pytest
import tensorflow as tf

from tests.quantization import small
from tf_pof._keras import keras
from tf_pof.pruning import lock
from tf_pof.quantization import Phase, QuantizationSchedule
from tf_pof.training import optimizer as optimizers


def dense_model(dtype=None):
    """y = x w of 4 inputs and 2 outputs."""
    inputs = keras.Input([4])
    layer = keras.layers.Dense(2, use_bias=False, name="d", dtype=dtype)
    return keras.Model(inputs, layer(inputs))


def batches(count, seed=0):
    """[count, 8, 4] float32; batches of growing ranges."""
    x = np.random.default_rng(seed).normal(size=(count, 8, 4))
    return (x * np.arange(1, count + 1)[:, None, None]).astype(np.float32)


def fit(model, x, callbacks=(), optimizer=None, **arguments):
    """An epoch over the batches of x, in their order."""
    model.compile(optimizer or keras.optimizers.SGD(0.0), "mse", **arguments)
    data = tf.data.Dataset.from_tensor_slices((x, np.ones((*x.shape[:2], 2))))
    return model.fit(data, verbose=0, callbacks=list(callbacks))


def averaged(x, decay):
    """Moving average of the batches' ranges, with 0 in each."""
    found = None
    for batch in x:
        now = np.array([min(batch.min(), 0), max(batch.max(), 0)])
        found = now if found is None else decay * found + (1 - decay) * now
    return found


@pytest.mark.parametrize("decay", [0.99, 0.5])
def test_first_batch_sets_ranges_and_others_move_them(decay):
    model = tf_pof.quantize(dense_model(), range_decay=decay)
    x = batches(5)
    x[:, :, 0] = np.abs(x[:, :, 0])
    fit(model, x)
    np.testing.assert_allclose(
        model.ranges()["d_input_quantizer"], averaged(x, decay), rtol=1e-5
    )
    # Positive numbers: the range begins at 0.
    model = tf_pof.quantize(dense_model())
    fit(model, np.abs(x) + 1)
    assert model.ranges()["d_input_quantizer"][0] == 0


def test_ranges_of_channels_move_one_by_one():
    inputs = keras.Input([4])
    dense = keras.layers.Dense(4, "linear", False, "identity", name="d")
    outputs = keras.layers.Add()([inputs, dense(inputs)])
    model = keras.Model(inputs, outputs[:, :2])
    model = tf_pof.quantize(model, range_decay=0.5)
    # Observing, so that the inputs reach the Dense as they are.
    model.phase = Phase.OBSERVE
    x = batches(3)
    fit(model, x)
    expected = np.transpose(
        [averaged(x[:, :, i], 0.5) for i in range(x.shape[-1])]
    )
    np.testing.assert_allclose(
        model.ranges()["d_output_quantizer"], expected, rtol=1e-5
    )


def test_inference_leaves_ranges_alone():
    model = tf_pof.quantize(dense_model())
    x = batches(3)
    fit(model, x[:1])
    before = model.ranges()
    model.predict(10 * x[1], verbose=0)
    model.evaluate(10 * x[1], np.ones((8, 2)), verbose=0)
    model(10 * x[1])
    assert model.ranges() == before


def test_schedule_observes_then_rounds_then_freezes():
    model = tf_pof.quantize(dense_model(), range_decay=0.5)
    x, seen = batches(6), []

    class Watch(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            seen.append((model.phase, model.ranges()["d_input_quantizer"]))

    schedule = QuantizationSchedule(start_step=2, freeze_step=4)
    fit(model, x, [schedule, Watch()])
    phases = [phase for phase, _ in seen]
    assert phases == [
        *[Phase.OBSERVE] * 2,
        *[Phase.QUANTIZE] * 2,
        *[Phase.FROZEN] * 2,
    ]
    for i, (_, range_) in enumerate(seen):
        expected = averaged(x[: min(i + 1, 4)], 0.5)
        np.testing.assert_allclose(range_, expected, rtol=1e-5)
    assert seen[3][1] == seen[5][1]
    # A second fit goes on where the optimizer's steps are.
    assert int(model.optimizer.iterations.numpy()) == 6
    model.phase = Phase.OBSERVE
    data = tf.data.Dataset.from_tensor_slices((x, np.ones((6, 8, 2))))
    model.fit(data, verbose=0, callbacks=[schedule])
    assert model.phase is Phase.FROZEN
    assert model.ranges()["d_input_quantizer"] == seen[5][1]


def test_nothing_is_rounded_while_ranges_are_observed():
    plain = small.model()
    model = small.calibrated(plain)
    x = small.inputs()
    model.phase = Phase.OBSERVE
    for key, value in model(x).items():
        np.testing.assert_array_equal(value, plain(x)[key])
    rounded = []
    for model.phase in (Phase.QUANTIZE, Phase.FROZEN):
        rounded.append(model(x)["logits"].numpy())
    np.testing.assert_array_equal(*rounded)
    assert (rounded[0] != plain(x)["logits"].numpy()).any()


@pytest.mark.parametrize("steps", [(-1, None), (0, 0), (5, 4)])
def test_schedules_out_of_order_are_refused(steps):
    with pytest.raises(ValueError, match="must be"):
        QuantizationSchedule(*steps)


def test_a_model_that_is_not_quantized_has_no_schedule():
    with pytest.raises(ValueError, match="no quantized model in it"):
        fit(dense_model(), batches(1), [QuantizationSchedule()])


def test_gradients_are_those_of_the_rounded_model():
    """Of a loss that is linear in the outputs: x^T g where none is clipped."""
    model = tf_pof.quantize(dense_model())
    ranges = {"d_input_quantizer": (-2, 2), "d_output_quantizer": (-99, 99)}
    model.set_ranges(ranges)
    model.phase = Phase.FROZEN
    (x,) = batches(1)
    g = np.random.default_rng(1).normal(size=(8, 2)).astype(np.float32)
    kernel = model.get_layer("d").kernel
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(model(x, training=True) * g)
    rounded = small.round_activations(x, (-2, 2))
    expected = rounded.T @ g
    np.testing.assert_allclose(
        tape.gradient(loss, kernel), expected, rtol=1e-4, atol=1e-5
    )
    assert np.abs(expected - x.T @ g).max() > 1e-3


def sparse_model(dtype=None):
    """A BERT with 3/4 zeros in its prunable kernels."""
    model = small.model(dtype=dtype)
    rng = np.random.default_rng(0)
    for layer in model.layers:
        if layer.name.startswith(("layer_0_", "pooler")) and layer.weights:
            kernel, bias = layer.get_weights()
            if kernel.ndim == 2:
                kernel[rng.random(kernel.shape) < 0.75] = 0
                layer.set_weights([kernel, bias])
    return model


def train(model, jit_compile=False, steps=6):
    optimizer = optimizers.adamw(1e-2, weight_decay=0.1)
    if "float16" == model.layers[-1].compute_dtype:
        optimizer = keras.mixed_precision.LossScaleOptimizer(optimizer)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, {"logits": loss}, jit_compile=jit_compile)
    x = small.inputs(batch=8 * steps)
    y = {"logits": x["token_ids"][:, 0] % 3}
    schedule = QuantizationSchedule(2, 4)
    return model.fit(x, y, 8, verbose=0, callbacks=[schedule], epochs=2)


@pytest.mark.parametrize(
    "dtype,jit_compile",
    [
        ("mixed_bfloat16", False),
        pytest.param(None, False, marks=pytest.mark.slow),
        pytest.param(None, True, marks=pytest.mark.slow),
        pytest.param("mixed_bfloat16", True, marks=pytest.mark.slow),
        pytest.param("mixed_float16", False, marks=pytest.mark.slow),
    ],
)
def test_locked_zeros_stay_zero_bit_by_bit(dtype, jit_compile):
    plain = sparse_model(dtype)
    tf_pof.lock(plain)
    before = {name: value.copy() for name, value in kernels(plain).items()}
    model = tf_pof.quantize(plain)
    history = train(model, jit_compile).history
    assert history["loss"][-1] < history["loss"][0]
    lock.check(model)
    assert len(lock.locked(model)) == 7
    after = kernels(plain)
    for name in lock.locked(model):
        start, end = before[name], after[name]
        zeros = start == 0
        assert zeros.mean() > 0.6
        assert not end[zeros].view(np.uint32).any(), name
        assert (end != start)[~zeros].mean() > 0.9, name
        # float32, never rounded to the other precision.
        assert end.dtype == np.float32
        layer = model.get_layer(name.split("/")[0])
        rounded = layer.quantized_weight().numpy()
        assert not rounded[zeros].view(np.uint32).any(), name
        # A live weight is 0 on the grid if it is below half a level only.
        half = np.abs(end).max(0) / 254
        assert (np.abs(end) <= 1.001 * half)[rounded == 0].all()
    assert not any(range_ == (0, 0) for range_ in model.ranges().values())


def test_a_quantized_model_can_be_locked_too():
    plain = sparse_model()
    model = tf_pof.lock(tf_pof.quantize(plain))
    assert lock.locked(model) == lock.locked(plain)
    assert list(lock.locked(model))[0] == "layer_0_query/kernel"


def kernels(model):
    return {
        f"{layer.name}/kernel": layer.kernel.numpy()
        for layer in model.layers
        if hasattr(layer, "kernel")
    }


def test_mixed_precision_rounds_in_float32():
    quantized = []
    for dtype in (None, "mixed_bfloat16"):
        model = tf_pof.quantize(dense_model(dtype))
        kernel = np.random.default_rng(2).normal(size=(4, 2))
        model.get_layer("d").kernel.assign(kernel)
        model.set_ranges(
            {"d_input_quantizer": (-4, 4), "d_output_quantizer": (-9, 9)}
        )
        layer = model.get_layer("d")
        assert layer.quantized_weight().dtype == tf.float32
        quantized.append(layer.quantized_weight().numpy())
    np.testing.assert_array_equal(*quantized)
    assert model.compute_dtype == "float32"
    outputs = model(batches(1)[0])
    assert outputs.dtype == tf.bfloat16
    # What bfloat16 makes of the levels of the output.
    levels = outputs.numpy().astype(np.float32) / (18 / 255)
    np.testing.assert_allclose(levels, np.rint(levels), atol=0.5)


@pytest.mark.parametrize(
    "micro_batch_size", [4, pytest.param(0, marks=pytest.mark.slow)]
)
def test_a_teacher_is_distilled_from(micro_batch_size):
    student = tf_pof.quantize(small.model(seed=1))
    teacher = small.model(seed=2)
    distiller = tf_pof.Distiller(
        student,
        teacher,
        hard_loss_weight=0.0,
        distillation_weight=1.0,
        micro_batch_size=micro_batch_size,
    )
    x = small.inputs(batch=32)
    y = np.zeros(32, np.int32)
    distiller.compile(
        keras.optimizers.Adam(1e-2),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    history = distiller.fit(
        x,
        y,
        8,
        epochs=4,
        verbose=0,
        callbacks=[QuantizationSchedule(freeze_step=8)],
    ).history["distillation"]
    assert history[-1] < 0.5 * history[0]
    assert student.phase is Phase.FROZEN
    assert not any(range_ == (0, 0) for range_ in student.ranges().values())


def test_a_checkpoint_has_ranges(tmp_path):
    model = tf_pof.quantize(dense_model())
    fit(model, batches(3))
    path = tf.train.Checkpoint(m=model).write(str(tmp_path / "checkpoint"))
    other = tf_pof.quantize(dense_model())
    status = tf.train.Checkpoint(m=other).read(path)
    status.assert_existing_objects_matched()
    assert other.ranges() == model.ranges()
    x = batches(1)[0]
    np.testing.assert_array_equal(other(x), model(x))
