"""Distribution strategies by name."""

import tensorflow as tf

NAMES = ("default", "mirrored", "multi_worker", "tpu", "parameter_server")


def get_strategy(name: str = "default") -> tf.distribute.Strategy:
    """The strategy of that name; call it before anything else of TensorFlow.

    Args:
        name: "default": one device. "mirrored": all GPUs of this machine (or
            all logical CPUs). "multi_worker": the processes that TF_CONFIG
            lists, with all-reduce. "tpu": the TPU that the environment names.

    Raises:
        ValueError: for an unknown name, when what the strategy needs is not
            there, and for "parameter_server", with the reason.
    """
    if name == "default":
        return tf.distribute.get_strategy()
    if name == "mirrored":
        logical = tf.config.list_logical_devices
        devices = logical("GPU") or logical("CPU")
        return tf.distribute.MirroredStrategy([d.name for d in devices])
    if name == "multi_worker":
        resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver()
        if not resolver.cluster_spec().as_dict():
            raise ValueError(
                "--strategy=multi_worker needs the environment variable "
                "TF_CONFIG, with the cluster and this task's place in it."
            )
        return tf.distribute.MultiWorkerMirroredStrategy()
    if name == "tpu":
        try:
            resolver = tf.distribute.cluster_resolver.TPUClusterResolver()
        except ValueError as error:
            raise ValueError(
                "--strategy=tpu found no TPU: set TPU_NAME, or run on a TPU "
                "host."
            ) from error
        tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
        return tf.distribute.TPUStrategy(resolver)
    if name == "parameter_server":
        raise ValueError(
            "--strategy=parameter_server updates weights out of order, but "
            "mask selection, means over the global batch and exact resumption "
            "need steps in order: use multi_worker."
        )
    raise ValueError(f"strategy must be one of {', '.join(NAMES)}, not {name}.")


def fix_order_of_sums() -> None:
    """Lets equal commands end in equal bits; call it before the first step.

    What TensorFlow calls arithmetic optimization joins sums of pairs to one
    AddN, whose order depends on threads (`tf_pof.distillation.sums`). It is
    off from here on, in this process; a training step is no slower for it.
    """
    tf.config.optimizer.set_experimental_options(
        {"arithmetic_optimization": False}
    )


def per_replica_batch_size(
    strategy: tf.distribute.Strategy, global_batch_size: int
) -> int:
    """Examples that each replica gets of a global batch.

    Raises:
        ValueError: if the replicas cannot share it evenly.
    """
    replicas = strategy.num_replicas_in_sync
    if global_batch_size % replicas:
        raise ValueError(
            f"The batch of {global_batch_size} examples cannot be shared by "
            f"{replicas} replicas: make --batch_size a multiple."
        )
    return global_batch_size // replicas


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this process writes the outputs."""
    resolver = strategy.cluster_resolver
    if resolver is None or not resolver.task_type:
        return True
    if resolver.task_type == "chief":
        return True
    has_chief = "chief" in resolver.cluster_spec().as_dict()
    return not has_chief and (resolver.task_id or 0) == 0
