"""The fine-tuning program: a task model with the zeros of its start."""

import dataclasses
import os
import re
import time

import rich.console

from tf_pof._keras import keras
from tf_pof.data import tokenizer_files, vocabulary
from tf_pof.distillation import Distiller
from tf_pof.models import bert, saving, weights
from tf_pof.pruning import lock as locks
from tf_pof.pruning.wrapper import prune
from tf_pof.quantization import quantize, saved
from tf_pof.tasks import between, distillers, evaluation, heads, inputs
from tf_pof.tasks import registry, scoring, summary, trained
from tf_pof.tasks.settings import Settings
from tf_pof.tasks.task import Task
from tf_pof.training import checkpoint, ending, fingerprints, loop, report
from tf_pof.training import precision, run_folder, strategy as strategies


def run(settings: Settings, console: rich.console.Console) -> dict:
    """Fine-tunes, or goes on, and writes `<output>/model`.

    `<output>` also holds settings.json, curve.jsonl, tensorboard/ and
    checkpoints/ while the run lasts, and predictions/ and report.json at its
    end. The model is there before it is evaluated; in best/ is the one of an
    evaluation before the end, if that was better.

    Returns:
        The contents of report.json.

    Raises:
        ValueError: for settings, models or data that do not fit together, for
            an output that holds another run, on divergence, and if a locked
            zero has moved.
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
    settings = precision.decide(settings, console)
    longer = run_folder.check(settings)
    finished = report.read(settings, summary.Report)
    if finished:
        ending.say(console, f"{settings.output} is finished already.")
        summary.show(finished, console)
        ending.say(console, summary.next_command(settings))
        return finished
    if longer:
        ending.say(console, longer)
    keras.utils.set_random_seed(settings.seed)
    keras.mixed_precision.set_global_policy(settings.precision)
    task = registry.create(**settings.task)
    hashes = _model_hashes(settings)
    run_folder.check_hashes(settings, hashes)
    with strategy.scope():
        student = load_student(settings, task)
    tokenizer = evaluation.load_tokenizer(settings.model, student)
    console.print(f"Reading {task.name}.")
    examples = task.examples(task.train_split)
    features = task.features(examples, tokenizer, training=True)
    if not len(features):
        raise ValueError(
            f"{task.name} has no example to train on: look at its files."
        )
    evaluation.check_length(student, task, features)
    # What is wrong with a split is better said before the training.
    splits = evaluation.Splits(task, tokenizer, settings.batch_size)
    for split in task.evaluation_splits:
        splits.read(split, student)
    for note in task.notes():
        ending.say(console, note)
    told = len(task.notes())
    hashes["task_data"] = task.fingerprint()
    run_folder.check_hashes(settings, hashes)
    steps = settings.train_steps or max(
        1, round(settings.epochs * len(features) / settings.batch_size)
    )
    planned = dataclasses.replace(
        settings, train_steps=steps, by_epochs=not settings.train_steps
    )
    quantization = planned.quantization_schedule()
    with strategy.scope():
        distiller = build(planned, task, student)
    for note in task.notes()[told:]:
        ending.say(console, note)
    saving.check_savable(distiller.student)
    if distiller.teacher is not None:
        evaluation.check_length(
            distiller.teacher, task, features, f"The teacher {settings.teacher}"
        )
    locked = locks.locked(student)
    if locked:
        console.print(
            f"Locked {len(locked)} kernels with "
            f"{summary.of_locked(locked)['sparsity']:.2%} zeros."
        )
    if settings.qat and student.new_weights:
        ending.say(
            console,
            f"{settings.model} has no {task.head} head trained on "
            f"{task.name}: quantization is better learned after fine-tuning.",
        )
    if not task.evaluation_splits:
        console.print(
            f"{task.name} has no labelled split beside its training: nothing "
            "will be scored."
        )
    result = {
        "settings": settings.identity(),
        "train_steps": steps,
        "examples": len(features),
    }

    def save(path: str) -> keras.Model:
        """Saves the present model, which is returned as it was saved."""
        result.update(
            summary.state(settings, distiller.student, locked, quantization)
        )
        trained_model = distiller.student
        if quantization:
            # Levels are exact in float32 alone, as in the exported file.
            trained_model = saved.as_float32(trained_model)
        with ending.saving_to(path):
            saving.save(
                trained_model,
                path,
                vocab_file=student.vocab_file,
                sparsity=summary.provenance(student, result),
            )
        return trained_model

    best = between.best(planned, task, quantization, save)
    loop.train(
        planned,
        distiller,
        loop.Data(
            batches=lambda step: inputs.training_data(
                features,
                strategy,
                settings.batch_size,
                settings.seed,
                step,
                settings.group_by_length,
                0 if _wants_one_shape(settings) else scoring.LENGTH_MULTIPLE,
            ),
            examples=len(features),
            hashes=hashes,
        ),
        between.evaluation(
            planned, splits, distiller, len(features), best
        ),
        console,
        callbacks=[quantization] if quantization else [],
    )
    locks.check(student)
    result["seconds"] = time.monotonic() - began
    if not chief:
        return result
    path = os.path.join(settings.output, run_folder.MODEL)
    # What follows may fail; the model is not to be lost by it.
    trained_model = save(path)
    with ending.after_saving(path):
        result["metrics"] = {
            split: splits.score(
                trained_model,
                split,
                console,
                os.path.join(settings.output, run_folder.PREDICTIONS),
            )
            for split in task.evaluation_splits
        }
        result["notes"] = task.notes()
        own = next(iter(result["metrics"].values()), {})
        kept = best and best.compare(own)
        if kept:
            result["best"] = dict(kept)
        report.write(settings.output, result)
    if not settings.keep_checkpoints:
        checkpoint.drop(os.path.join(settings.output, run_folder.CHECKPOINTS))
    summary.show(result, console)
    ending.say(console, f"Model: {path}")
    if kept:
        ending.say(
            console,
            f"Step {kept.step} was better, with {kept.metric} "
            f"{kept.value:.4f}: its model is {best.folder}.",
        )
    ending.say(console, summary.next_command(settings))
    return result


def _model_hashes(settings):
    """Hashes of what the run loads, by the settings' names."""
    specs = {"model": settings.model, "teacher": settings.teacher}
    hashes = {
        name: fingerprints.of_model(trained.locate(spec))
        for name, spec in specs.items()
        if spec is not None
    }
    if settings.vocab:
        hashes["vocab"] = fingerprints.of_files([settings.vocab])
    return hashes


def load_student(settings: Settings, task: Task) -> keras.Model:
    """The model to fine-tune, with the task's head; in scope."""
    student = trained.load_float(
        settings.model,
        task.head,
        task.num_labels,
        **settings.model_overrides(),
    )
    if settings.qat and heads.is_trained(student):
        # Ranges are learned of what it is: it must be of the task.
        heads.put_in_order(student, task, settings.model)
    else:
        heads.adapt(student, task, settings.model)
    tokenizer_files.override(student, settings.vocab, settings.lowercase)
    if settings.freeze_embeddings:
        for layer in student.layers:
            if layer.name.endswith("_embedding"):
                layer.trainable = False
    return student


def build(settings: Settings, task: Task, student: keras.Model) -> Distiller:
    """Teacher, lock, pruning or quantization, optimizer; compiled, in scope."""
    teacher = None
    if settings.teacher:
        teacher = load_teacher(settings.teacher, task, student)
    if settings.schedule is not None:
        student = prune(student, settings.schedule, **settings.pruning)
    elif settings.lock and _has_zeros(student):
        locks.lock(student)
    if settings.qat:
        student = quantize(student, range_decay=settings.qat_range_decay)
    return distillers.make(
        task,
        student,
        teacher,
        settings.optimizer(),
        settings.jit_compile,
        **settings.distillation(),
    )


def load_teacher(spec: str, task: Task, student: keras.Model) -> keras.Model:
    """A fine-tuned model to distil from.

    Args:
        spec: of `trained.load`.
        task: that it was trained on.
        student: that is to learn from it.

    Raises:
        ValueError: if it was not trained on the task, or reads other tokens.
    """
    teacher = trained.load(spec)
    if (teacher.head, teacher.num_labels) != (task.head, task.num_labels):
        raise ValueError(
            f"The teacher {spec} was not fine-tuned for {task.name} (it has no "
            f"{task.head} of {task.num_labels} outputs): run bin/finetune on "
            "it first."
        )
    files = [teacher.vocab_file, student.vocab_file]
    if None not in files:
        words, own = (vocabulary.read(path).tokens for path in files)
        if words != own:
            raise ValueError(
                f"The teacher {spec} has another vocabulary than the student "
                f"({files[0]} and {files[1]} differ): they must read the same."
            )
    # Beyond their vocabulary tables may have rows that no token reads.
    elif teacher.config.vocabulary_size != student.config.vocabulary_size:
        raise ValueError(
            f"The teacher {spec} has a vocabulary of "
            f"{teacher.config.vocabulary_size} tokens and the student of "
            f"{student.config.vocabulary_size}: they must read the same."
        )
    read = [teacher.tokenizer_settings, student.tokenizer_settings]
    if None not in read and read[0] != read[1]:
        raise ValueError(
            f"The teacher {spec} reads {read[0].describe()} text and the "
            f"student {read[1].describe()}: they must read the same."
        )
    heads.put_in_order(teacher, task, f"The teacher {spec}")
    return teacher


def _has_zeros(model) -> bool:
    """Whether a model was pruned: a dense one has nothing to lock."""
    return any(
        not value.all()
        for path, value in weights.effective(model)
        if re.match(f"{bert.PRUNABLE[:-1]}/kernel", path)
    )


def _wants_one_shape(settings):
    return settings.jit_compile or settings.strategy == "tpu"
