import json
import os
import socket
import subprocess
import sys
import textwrap

import tf_pof  # noqa: F401  (legacy Keras before TensorFlow)

import numpy as np
import pytest
from safetensors.numpy import load_file

from tf_pof.training import strategy

FLAGS = [
    "--train_steps=10",
    "--batch_size=8",
    "--learning_rate=1e-3",
    "--dropout=0",
    "--final_sparsity=0.5",
    "--pruning_ramp_end_step=4",
    "--pruning_end_step=6",
    "--pruning_frequency=2",
    "--checkpoint_every=5",
    "--log_every=5",
    "--evaluate_every=5",
    "--keep_checkpoints",
]


def start(data, model, output, name, **environment):
    return subprocess.Popen(
        [
            sys.executable,
            "-m",
            "tf_pof.cli.prune_pretrain",
            *FLAGS,
            f"--data={data}",
            f"--model={model}",
            f"--output={output}",
            f"--strategy={name}",
        ],
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(*processes):
    """Waits for success; the failure of one is told with what all printed."""
    printed = [process.communicate(timeout=300)[0] for process in processes]
    codes = [process.returncode for process in processes]
    assert not any(codes), "\n".join([str(codes), *printed])


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for s in sockets:
        s.bind(("localhost", 0))
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def assert_same_model(a, b):
    a, b = (
        load_file(os.path.join(p, "model", "model.safetensors"))
        for p in (a, b)
    )
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_allclose(a[name], b[name], atol=2e-5, err_msg=name)
        np.testing.assert_array_equal(a[name] == 0, b[name] == 0, err_msg=name)


@pytest.fixture(scope="module")
def one_device(data, model, tmp_path_factory):
    output = str(tmp_path_factory.mktemp("one_device") / "run")
    finish(start(data, model, output, "default"))
    return output


def test_two_processes_equal_one_at_the_same_global_batch(
    data, model, one_device, tmp_path
):
    two = str(tmp_path / "two")
    addresses = [f"localhost:{port}" for port in free_ports(2)]
    workers = [
        start(
            data,
            model,
            two,
            "multi_worker",
            TF_CONFIG=json.dumps(
                {
                    "cluster": {"worker": addresses},
                    "task": {"type": "worker", "index": i},
                }
            ),
        )
        for i in range(2)
    ]
    finish(*workers)
    assert_same_model(one_device, two)
    with open(os.path.join(two, "curve.jsonl")) as file:
        assert [json.loads(line)["step"] for line in file] == [5, 10]
    left = os.listdir(os.path.join(two, "checkpoints"))
    assert not [name for name in left if "discard" in name]


def test_mirrored_replicas_equal_one_device(
    data, model, one_device, tmp_path
):
    two = str(tmp_path / "two")
    # Logical devices must be set before TensorFlow starts: a new process.
    script = """
        import sys, tf_pof, tensorflow as tf
        tf.config.set_logical_device_configuration(
            tf.config.list_physical_devices("CPU")[0],
            [tf.config.LogicalDeviceConfiguration()] * 2)
        from tf_pof.cli import prune_pretrain
        prune_pretrain.run()
    """
    arguments = [
        *FLAGS,
        f"--data={data}",
        f"--model={model}",
        f"--output={two}",
        "--strategy=mirrored",
    ]
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), *arguments],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert_same_model(one_device, two)


@pytest.mark.parametrize(
    "name,what",
    [
        ("multi_worker", "TF_CONFIG"),
        ("parameter_server", "use multi_worker"),
        ("tpu", "TPU"),
        ("cloud", "must be one of"),
    ],
)
def test_a_strategy_that_cannot_be_had_says_what_it_needs(
    name, what, monkeypatch
):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    with pytest.raises(ValueError, match=what):
        strategy.get_strategy(name)


def test_batch_is_shared_evenly_or_refused():
    one = strategy.get_strategy()
    assert strategy.per_replica_batch_size(one, 7) == 7

    class Three:
        num_replicas_in_sync = 3

    assert strategy.per_replica_batch_size(Three, 9) == 3
    with pytest.raises(ValueError, match="8 examples .* 3 replicas"):
        strategy.per_replica_batch_size(Three, 8)
