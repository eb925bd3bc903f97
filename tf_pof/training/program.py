"""The training program of teacher preparation and of student pruning."""

import dataclasses
import os
import shlex
import time
from typing import Annotated

import pydantic
import rich.console

from tf_pof._keras import keras
from tf_pof.data import inputs, records, vocabulary
from tf_pof.models import resolve as models, saving
from tf_pof.pruning.wrapper import prune
from tf_pof.training import checkpoint, ending, fingerprints, loop, report
from tf_pof.training import precision, run_folder, strategy as strategies
from tf_pof.training.pretraining import PretrainingDistiller
from tf_pof.training.settings import Name, Steps, TrainingSettings

# Tokens; no position table of BERT is near it.
_LONGEST = 2**16

# Tables are padded to multiples of 8 to 128.
_MOST_SPARE = 128


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings(TrainingSettings):
    """What a run is; the flags of the commands say what each field means."""

    data: Name
    sequence_length: (
        Annotated[int, pydantic.Field(ge=1, le=_LONGEST)] | None
    ) = None
    mask_rate: Annotated[float, pydantic.Field(gt=0, lt=1)] = 0.15
    evaluate_batches: Steps = 0

    def free_to_change(self):
        return (*super().free_to_change(), "evaluate_batches")

    def paths(self):
        return super().paths() | {"data": self.data}


def run(settings: Settings, console: rich.console.Console) -> dict:
    """Trains, or goes on training, and writes `<output>/model`.

    `<output>` also holds settings.json, curve.jsonl, tensorboard/ and
    checkpoints/ while the run lasts, and report.json at its end. The model is
    there before it is evaluated.

    Returns:
        The contents of report.json.

    Raises:
        ValueError: for settings, models or data that do not fit together, for
            an output that holds another run, and on divergence.
        OSError: if something cannot be written, or another process works on
            the output.
    """
    strategy = strategies.get_strategy(settings.strategy)
    chief = strategies.is_chief(strategy)
    if not chief:
        console = rich.console.Console(quiet=True)
    with run_folder.held(settings, chief):
        return _run(settings, strategy, chief, console)


def _run(settings, strategy, chief, console):
    began = time.monotonic()
    meta = records.verify(settings.data)
    settings = precision.decide(settings, console)
    longer = run_folder.check(settings)
    finished = report.read(settings)
    if finished:
        ending.say(console, f"{settings.output} is finished already.")
        report.show(finished, console)
        ending.say(console, next_command(settings))
        return finished
    records.require_split(settings.data, meta, "validation")
    hashes = {
        "data": fingerprints.of_pretraining_data(settings.data),
        **fingerprints.of_models(settings.model, settings.teacher),
    }
    run_folder.check_hashes(settings, hashes)
    if longer:
        ending.say(console, longer)
    keras.utils.set_random_seed(settings.seed)
    keras.mixed_precision.set_global_policy(settings.precision)
    with strategy.scope():
        distiller = build(settings, meta)
    saving.check_savable(distiller.student)
    loop.train(
        settings,
        distiller,
        loop.Data(
            batches=lambda step: training_data(settings, strategy, step),
            examples=meta.num_train,
            hashes=hashes,
            readable_errors=lambda: records.readable_errors(settings.data),
        ),
        loop.Evaluation(
            metrics=lambda: evaluate(
                distiller, settings, settings.evaluate_batches
            ),
            every=settings.evaluate_every,
        ),
        console,
    )
    trained = time.monotonic() - began
    path = os.path.join(settings.output, run_folder.MODEL)
    if chief:
        # What follows may fail; the model is not to be lost by it.
        with ending.saving_to(path):
            saving.save(
                distiller.student,
                path,
                vocab_file=os.path.join(settings.data, "vocab.txt"),
                sparsity=report.sparsity_of(settings.identity(), distiller),
            )
    with ending.after_saving(path):
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
            report.write(settings.output, result)
    if chief:
        if not settings.keep_checkpoints:
            folder = os.path.join(settings.output, run_folder.CHECKPOINTS)
            checkpoint.drop(folder)
        report.show(result, console)
        ending.say(console, f"Model: {path}")
        ending.say(console, next_command(settings))
    return result


def next_command(settings: Settings) -> str:
    """What is done with the model of a run, for the user."""
    model = f"--model={shlex.quote(settings.output)}"
    if settings.schedule is None:
        data = f"--data={shlex.quote(settings.data)}"
        return f"Next: bin/prune_pretrain {model} {data} --output=SPARSE"
    return f"Next: bin/finetune {model} --task=TASK --output=TASK_MODEL"


def build(
    settings: Settings, meta: records.PretrainingMeta
) -> PretrainingDistiller:
    """Student, teacher, pruning and optimizer, compiled; in scope."""
    student = models.resolve(
        settings.model, head="pretraining", **settings.model_overrides()
    )
    # Some tables have rows more, so that their number suits a processor; many
    # more are another vocabulary's, unless the model's own says otherwise.
    spare = student.config.vocabulary_size - meta.vocab_size
    if spare < 0 or (spare >= _MOST_SPARE and not student.vocab_file):
        raise ValueError(
            f"{settings.model} has a vocabulary of "
            f"{student.config.vocabulary_size} tokens, but the examples in "
            f"{settings.data} were made with {meta.vocab_size}: prepare them "
            "with the model's vocab.txt."
        )
    if student.vocab_file:
        digest = vocabulary.read(student.vocab_file).sha256
        records.check_vocabulary(settings.data, digest, settings.model)
    _check_tokenizer(student, settings.model, settings.data, meta)
    student.tokenizer_settings = meta.tokenizer_settings
    length = settings.sequence_length or meta.sequence_length
    if student.config.max_sequence_length < length:
        raise ValueError(
            f"{settings.model} has {student.config.max_sequence_length} "
            f"positions, but examples are {length} tokens long."
        )
    teacher = None
    if settings.teacher:
        teacher = models.resolve(settings.teacher, head="pretraining")
        _check_tokenizer(teacher, settings.teacher, settings.data, meta)
    if settings.schedule is not None:
        student = prune(student, settings.schedule, **settings.pruning)
    distiller = PretrainingDistiller(
        student, teacher, **settings.distillation()
    )
    distiller.compile(
        settings.optimizer(), jit_compile=settings.jit_compile
    )
    return distiller


def _check_tokenizer(model, spec, data, meta) -> None:
    """Raises ValueError if a model reads other text than was prepared."""
    own, wanted = model.tokenizer_settings, meta.tokenizer_settings
    if own not in (None, wanted):
        raise ValueError(
            f"{data} was prepared from {wanted.describe()} text, but {spec} "
            f"reads {own.describe()} text: prepare the data again with the "
            "model's own vocabulary file as --vocab."
        )


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
