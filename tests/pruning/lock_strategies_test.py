"""Locked zeros stay zero on every replica, worker and parameter server."""

import json
import os
import socket
import subprocess
import sys
import textwrap

# What every process does: trains locked models under `strategy`, and looks at
# each replica's own copy of the kernel.
COMMON = """
    import os
    import sys
    import tf_pof
    import numpy as np
    import tensorflow as tf
    from tf_pof._keras import keras
    from tf_pof.pruning import lock
    from tf_pof.training import optimizer as own

    rng = np.random.default_rng(0)
    x = rng.normal(size=(64, 12)).astype(np.float32)
    y = x[:, :2] - x[:, 2:4]
    values = rng.normal(size=(12, 16)).astype(np.float32)
    values[rng.random((12, 16)) < 0.75] = 0

    def shards(layer, kernel):
        bias = np.zeros(16, np.float32)
        number = sum("kernel" in w.name for w in layer.weights)
        return [*np.split(kernel, number), bias]

    def model_of(policy):
        keras.utils.set_random_seed(1)
        inputs = keras.Input([12])
        h = keras.layers.Dense(16, "tanh", name="a", dtype=policy)(inputs)
        outputs = keras.layers.Dense(2, dtype="float32")(h)
        model = keras.Model(inputs, outputs)
        layer = model.get_layer("a")
        layer.set_weights(shards(layer, values))
        return model

    def data():
        data = tf.data.Dataset.from_tensor_slices((x, y)).repeat()
        return data.batch(16, drop_remainder=True)

    def copies(model):
        kernel = model.get_layer("a").kernel
        kernel = getattr(kernel, "_variable", kernel)
        parts = getattr(kernel, "values", None) or [kernel]
        # Float32 and, if sharded, whole.
        return [tf.convert_to_tensor(part).numpy() for part in parts]

    def check(model, expected_copies=1):
        found = copies(model)
        assert len(found) == expected_copies, len(found)
        for copy in found:
            # Bitwise: no -0.0 either.
            assert not copy[values == 0].view(np.uint32).any(), copy
            assert (copy != values)[values != 0].mean() > 0.9, copy
        lock.check(model)
        zeros = sum(t["zeros"] for t in lock.locked(model).values())
        assert zeros == (values == 0).sum() > 100

    def adam(**kwargs):
        return keras.optimizers.Adam(0.1, use_ema=True, **kwargs)

    def scaled():
        return keras.mixed_precision.LossScaleOptimizer(own.adamw(0.1))
"""


def start(script, *arguments, **environment):
    script = textwrap.dedent(COMMON) + textwrap.dedent(script)
    return subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(*processes):
    for process in processes:
        printed, _ = process.communicate(timeout=300)
        assert process.returncode == 0, printed[-3000:]
        assert printed.splitlines()[-1] == "all good", printed[-3000:]


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for s in sockets:
        s.bind(("localhost", 0))
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


MIRRORED = """
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0],
        [tf.config.LogicalDeviceConfiguration()] * 2,
    )
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    for policy, optimizer in (
        ("float32", lambda: own.adamw(0.1)),
        ("mixed_bfloat16", adam),
        ("mixed_float16", scaled),
        ("mixed_bfloat16", lambda: keras.optimizers.legacy.Adam(0.1)),
    ):
        with strategy.scope():
            model = model_of(policy)
            model.compile(optimizer(), "mse")
        # Outside of the scope, as a user may do.
        tf_pof.lock(model)
        model.fit(data(), steps_per_epoch=5, verbose=0)
        check(model, 2)

    with strategy.scope():
        model = tf_pof.lock(model_of("mixed_bfloat16"))
        distiller = tf_pof.Distiller(
            model, model_of("mixed_bfloat16"), micro_batch_size=3
        )
        distiller.compile(own.adamw(0.1), "mse")
    distiller.fit(data(), steps_per_epoch=5, verbose=0)
    check(model, 2)

    # The lock is what does it.
    lock.unlock(model)
    distiller.fit(data(), steps_per_epoch=5, verbose=0)
    assert all((copy != 0).mean() > 0.9 for copy in copies(model))
    print("all good")
"""


def test_zeros_stay_on_both_mirrored_replicas():
    finish(start(MIRRORED))


MULTI_WORKER = """
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    assert strategy.num_replicas_in_sync == 2
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = (
        tf.data.experimental.AutoShardPolicy.DATA
    )
    for policy, optimizer in (
        ("mixed_bfloat16", lambda: own.adamw(0.1)),
        ("mixed_float16", scaled),
        ("float32", lambda: keras.optimizers.legacy.Adam(0.1)),
    ):
        with strategy.scope():
            model = tf_pof.lock(model_of(policy))
            model.compile(optimizer(), "mse")
        model.fit(
            data().with_options(options), steps_per_epoch=5, verbose=0
        )
        check(model)
    print("all good")
"""


def test_zeros_stay_in_both_worker_processes():
    addresses = [f"localhost:{port}" for port in free_ports(2)]
    finish(
        *(
            start(
                MULTI_WORKER,
                TF_CONFIG=json.dumps(
                    {
                        "cluster": {"worker": addresses},
                        "task": {"type": "worker", "index": i},
                    }
                ),
            )
            for i in range(2)
        )
    )


PARAMETER_SERVER = """
    ports = sys.argv[1:]
    cluster = tf.train.ClusterSpec(
        {
            "ps": [f"localhost:{port}" for port in ports[:1]],
            "worker": [f"localhost:{port}" for port in ports[1:]],
        }
    )
    # With a thread for each core only, servers in one process wait for ever.
    config = tf.compat.v1.ConfigProto(inter_op_parallelism_threads=8)
    servers = [
        tf.distribute.Server(cluster, job, i, protocol="grpc", config=config)
        for job, i in (("ps", 0), ("worker", 0), ("worker", 1))
    ]
    strategy = tf.distribute.ParameterServerStrategy(
        tf.distribute.cluster_resolver.SimpleClusterResolver(
            cluster, rpc_layer="grpc"
        ),
        variable_partitioner=lambda shape, dtype: [
            2 if SHARDED and len(shape) == 2 else 1
        ] + [1] * (len(shape) - 1),
    )
    for SHARDED, policy, optimizer in (
        (False, "mixed_bfloat16", lambda: own.adamw(0.1)),
        (False, "float32", lambda: keras.optimizers.legacy.Adam(0.1)),
        (True, "float32", adam),
    ):
        with strategy.scope():
            model = model_of(policy)
            model.compile(optimizer(), "mse")
        tf_pof.lock(model)
        model.fit(data(), steps_per_epoch=10, verbose=0)
        assert len(lock.locked(model)) == (2 if SHARDED else 1)
        check(model)
    print("all good")
    sys.stdout.flush()
    os._exit(0)  # Servers cannot be stopped.
"""


def test_zeros_stay_on_a_parameter_server_of_two_workers():
    ports = [str(port) for port in free_ports(3)]
    finish(start(PARAMETER_SERVER, *ports))
