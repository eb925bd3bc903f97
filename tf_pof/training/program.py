"""The training program of teacher preparation and of student pruning."""

import dataclasses
import hashlib
import json
import os
import time
from typing import Any

import rich.console

from tf_pof._keras import keras
from tf_pof.data import inputs, records
from tf_pof.models import folder, resolve as models
from tf_pof.pruning.wrapper import prune
from tf_pof.training import optimizer as optimizers
from tf_pof.training import report, strategy as strategies
from tf_pof.training.callbacks import Progress, SaveCheckpoints
from tf_pof.training.checkpoint import Checkpointer
from tf_pof.training.pretraining import PretrainingDistiller


@dataclasses.dataclass(frozen=True)
class Settings:
    """What a run is; the flags of the commands say what each field means."""

    model: str
    data: str
    output: str
    train_steps: int
    batch_size: int
    learning_rate: float
    teacher: str | None = None
    micro_batch_size: int = 0
    sequence_length: int | None = None
    learning_rate_schedule: str = "linear"
    warmup_fraction: float = 0.01
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    adam_beta_1: float = 0.9
    adam_beta_2: float = 0.999
    adam_epsilon: float = 1e-8
    mask_rate: float = 0.15
    dropout: float | None = None
    seed: int = 0
    hard_loss_weight: float = 1.0
    distillation_weight: float = 0.0
    temperature: float = 2.0
    hidden_loss_weight: float = 0.0
    attention_loss_weight: float = 0.0
    # A TF-MOT PruningSchedule and the arguments of `prune`; None: no pruning.
    schedule: Any = None
    pruning: dict[str, Any] | None = None
    ramp_end_step: int = 0
    precision: str = "float32"
    jit_compile: bool = False
    strategy: str = "default"
    checkpoint_every: int = 1000
    log_every: int = 50
    evaluate_every: int = 0
    evaluate_batches: int = 0

    def identity(self) -> dict[str, Any]:
        """The settings that a resumed run must share, ready for JSON."""
        values = dataclasses.asdict(dataclasses.replace(self, schedule=None))
        for name in _FREE_TO_CHANGE:
            del values[name]
        values["schedule"] = self.schedule and self.schedule.get_config()
        return json.loads(json.dumps(values))


# They change where and how fast a run computes, not what.
_FREE_TO_CHANGE = (
    "output",
    "strategy",
    "micro_batch_size",
    "jit_compile",
    "checkpoint_every",
    "log_every",
    "evaluate_every",
    "evaluate_batches",
)


def run(settings: Settings, console: rich.console.Console) -> dict:
    """Trains, or goes on training, and writes `<output>/model`.

    `<output>` also holds settings.json, curve.jsonl, tensorboard/ and
    checkpoints/ while the run lasts, and report.json at its end.

    Returns:
        The contents of report.json.

    Raises:
        ValueError: for settings, models or data that do not fit together, for
            an output that holds another run, and on divergence.
        OSError: if something cannot be written.
    """
    began = time.monotonic()
    strategy = strategies.get_strategy(settings.strategy)
    chief = strategies.is_chief(strategy)
    meta = records.verify(settings.data)
    finished = report.read(settings.output)
    _check_output(settings)
    if finished:
        console.print(f"{settings.output} is finished already.")
        report.show(finished, console)
        return finished
    keras.utils.set_random_seed(settings.seed)
    keras.mixed_precision.set_global_policy(settings.precision)
    with strategy.scope():
        distiller = build(settings, meta)
        checkpointer = Checkpointer(
            distiller, os.path.join(settings.output, "checkpoints")
        )
        step = checkpointer.restore()
    if chief:
        # Only now: a command that failed must not claim the folder.
        report.write_json(_settings_path(settings), settings.identity())
    if step:
        console.print(f"Going on from step {step} of {settings.train_steps}.")
    if not chief:
        console = rich.console.Console(quiet=True)
    progress = Progress(
        settings.output if chief else None,
        settings.train_steps,
        settings.batch_size,
        settings.log_every,
        console,
        lambda: evaluate(distiller, settings, settings.evaluate_batches),
        settings.evaluate_every,
    )
    if step < settings.train_steps:
        try:
            with records.readable_errors(settings.data):
                distiller.fit(
                    training_data(settings, strategy, step),
                    steps_per_epoch=settings.train_steps - step,
                    callbacks=[
                        progress,
                        SaveCheckpoints(
                            checkpointer, settings.checkpoint_every
                        ),
                    ],
                    verbose=0,
                )
        finally:
            progress.close()
        if settings.train_steps % settings.checkpoint_every:
            checkpointer.save()
    trained = time.monotonic() - began
    console.print("Evaluating on the validation split.")
    result = report.make(
        settings.identity(),
        distiller,
        student=evaluate(distiller, settings),
        teacher=distiller.teacher
        and evaluate(_judge(distiller.teacher, strategy), settings),
        seconds=trained,
    )
    if chief:
        path = os.path.join(settings.output, "model")
        folder.save(
            distiller.student,
            path,
            vocab_file=os.path.join(settings.data, "vocab.txt"),
            sparsity=result.get("sparsity"),
        )
        report.write(settings.output, result)
        report.show(result, console)
        console.print(f"Model: {path}")
    return result


def build(
    settings: Settings, meta: records.PretrainingMeta
) -> PretrainingDistiller:
    """Student, teacher, pruning and optimizer, compiled; in scope."""
    overrides = {}
    if settings.dropout is not None:
        rate = settings.dropout
        overrides = {"dropout": rate, "attention_dropout": rate}
    student = models.resolve(
        settings.model, head="pretraining", **overrides
    )
    if student.config.vocabulary_size != meta.vocab_size:
        raise ValueError(
            f"{settings.model} has a vocabulary of "
            f"{student.config.vocabulary_size} tokens, but the examples in "
            f"{settings.data} were made with {meta.vocab_size}: prepare them "
            "with the model's vocab.txt."
        )
    if student.vocab_file:
        with open(student.vocab_file, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        records.check_vocabulary(settings.data, digest, settings.model)
    length = settings.sequence_length or meta.sequence_length
    if student.config.max_sequence_length < length:
        raise ValueError(
            f"{settings.model} has {student.config.max_sequence_length} "
            f"positions, but examples are {length} tokens long."
        )
    teacher = None
    if settings.teacher:
        teacher = models.resolve(settings.teacher, head="pretraining")
    if settings.schedule is not None:
        student = prune(student, settings.schedule, **settings.pruning)
    distiller = PretrainingDistiller(
        student,
        teacher,
        hard_loss_weight=settings.hard_loss_weight,
        distillation_weight=settings.distillation_weight,
        temperature=settings.temperature,
        hidden_loss_weight=settings.hidden_loss_weight,
        attention_loss_weight=settings.attention_loss_weight,
        micro_batch_size=settings.micro_batch_size,
    )
    optimizer = optimizers.adamw(
        optimizers.learning_rate_schedule(
            settings.learning_rate_schedule,
            settings.learning_rate,
            settings.train_steps,
            round(settings.warmup_fraction * settings.train_steps),
            settings.ramp_end_step,
        ),
        weight_decay=settings.weight_decay,
        clip_norm=settings.clip_norm,
        beta_1=settings.adam_beta_1,
        beta_2=settings.adam_beta_2,
        epsilon=settings.adam_epsilon,
    )
    if settings.precision == "mixed_float16":
        optimizer = keras.mixed_precision.LossScaleOptimizer(optimizer)
    distiller.compile(optimizer, jit_compile=settings.jit_compile)
    return distiller


def training_data(settings: Settings, strategy, start_step: int):
    """Batches from optimizer step `start_step` on, shared by the replicas."""
    size = strategies.per_replica_batch_size(strategy, settings.batch_size)

    def pipeline(context):
        replicas = strategy.num_replicas_in_sync // context.num_input_pipelines
        return inputs.pretraining_dataset(
            settings.data,
            "train",
            size,
            sequence_length=settings.sequence_length,
            seed=settings.seed,
            # Each replica takes a batch of its own at every step.
            start_step=start_step * replicas,
            mask_rate=settings.mask_rate,
            num_input_pipelines=context.num_input_pipelines,
            input_pipeline_id=context.input_pipeline_id,
        )

    return strategy.distribute_datasets_from_function(pipeline)


def evaluate(
    distiller: PretrainingDistiller, settings: Settings, batches: int = 0
) -> dict[str, float]:
    """Means over the validation split, or over its first `batches`."""
    size = settings.micro_batch_size or settings.batch_size
    dataset = inputs.pretraining_dataset(
        settings.data,
        "validation",
        min(size, 64),
        sequence_length=settings.sequence_length,
        seed=settings.seed,
        mask_rate=settings.mask_rate,
        repeat=False,
        shuffle=False,
    )
    if batches:
        dataset = dataset.take(batches)
    return distiller.evaluate(dataset, verbose=0, return_dict=True)


def _judge(model, strategy) -> PretrainingDistiller:
    """A distiller that only scores `model` on labels."""
    with strategy.scope():
        judge = PretrainingDistiller(model, hard_loss_weight=1.0)
        judge.compile()
    return judge


def _settings_path(settings: Settings) -> str:
    return os.path.join(settings.output, "settings.json")


def _check_output(settings: Settings) -> None:
    """Raises ValueError if the folder holds a run with other settings."""
    path = _settings_path(settings)
    if not os.path.exists(path):
        return
    identity = settings.identity()
    with open(path, encoding="utf-8") as file:
        noted = json.load(file)
    changed = [
        f"{k} {noted.get(k)!r} there, {identity.get(k)!r} now"
        for k in sorted(noted.keys() | identity.keys())
        if noted.get(k) != identity.get(k)
    ]
    if changed:
        raise ValueError(
            f"{settings.output} holds a run with other settings "
            f"({'; '.join(changed)}): choose another --output, or delete it."
        )
