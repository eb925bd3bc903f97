"""Times the re-selection of all BERT-Base masks, and TF-MOT's way.

    python -m benchmarks.pruning.select

Prints seconds for the 73 pruned kernels of BERT-Base (85.5 M weights) at 90 %:
selection alone, the whole `Pruner.update` (reading weights, selecting,
assigning masks) per pattern and budget, and TF-MOT 0.8.1's full sort of the
same tensors, measured on one encoder layer and scaled.
"""

import time

from absl import app, flags

NUM_LAYERS = flags.DEFINE_integer(
    "num_layers", 12, "Encoder layers of hidden size 768 to select masks for."
)
SORT = flags.DEFINE_bool(
    "sort", True, "Also times TF-MOT's mask update on one encoder layer."
)
HIDDEN, INTERMEDIATE, SPARSITY = 768, 3072, 0.9


def build(keras, num_layers: int):
    """Dense layers with the kernels of `num_layers` encoder layers."""
    x = inputs = keras.Input([HIDDEN])
    for i in range(num_layers):
        for name in ("query", "key", "value", "attention_output"):
            x = keras.layers.Dense(HIDDEN, name=f"layer_{i}_{name}")(x)
        x = keras.layers.Dense(INTERMEDIATE, name=f"layer_{i}_in")(x)
        x = keras.layers.Dense(HIDDEN, name=f"layer_{i}_out")(x)
    x = keras.layers.Dense(HIDDEN, name="pooler")(x)
    return keras.Model(inputs, x)


def best(function, repeats: int = 3) -> float:
    """Seconds of the fastest of some runs; the first warms up."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


def main(argv):
    del argv
    from tf_pof._keras import keras

    import tensorflow_model_optimization as tfmot

    from tf_pof.pruning import selection, wrapper

    constant = tfmot.sparsity.keras.ConstantSparsity(SPARSITY, 0, frequency=1)
    model = build(keras, NUM_LAYERS.value)
    kernels = [
        layer.kernel.numpy() for layer in model.layers if layer.weights
    ]
    print(f"{sum(k.size for k in kernels) / 1e6:.1f} M weights", flush=True)
    seconds = best(lambda: [selection.select(k, SPARSITY) for k in kernels])
    print(f"{'selection alone':<32}{seconds:8.2f} s", flush=True)
    for pattern, budget in (
        ("unstructured", "uniform"),
        ("unstructured", "global"),
        ("unstructured", "erk"),
        ("1x4", "uniform"),
        ("4x1", "uniform"),
        ("1x16", "uniform"),
        ("16x4", "uniform"),
        ("2:4", "uniform"),
    ):
        pruned = wrapper.prune(
            model,
            constant,
            pattern=pattern,
            budget=budget,
            prunable=lambda layer: bool(layer.weights),
        )
        seconds = best(lambda: pruned.pruner.update(0))
        print(f"{f'update {pattern} {budget}':<32}{seconds:8.2f} s", flush=True)
    if SORT.value:
        layer = build(keras, 1)
        stock = tfmot.sparsity.keras.prune_low_magnitude(layer, constant)

        def update():
            for wrapped in stock.layers[1:-1]:
                wrapped.pruning_step.assign(1)
                wrapped.pruning_obj.conditional_mask_update()

        seconds = best(update, 1) * NUM_LAYERS.value
        print(f"{'TF-MOT, scaled from one layer':<32}{seconds:8.2f} s")


if __name__ == "__main__":
    app.run(main)
