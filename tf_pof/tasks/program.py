"""The fine-tuning program: a task model with the zeros of its start."""

import dataclasses
import os
import re
import time

import rich.console

from tf_pof._keras import keras
from tf_pof.data import tokenizer_files, vocabulary
from tf_pof.distillation import Distiller
from tf_pof import files
from tf_pof.models import bert, saving, weights
from tf_pof.pruning import lock as locks
from tf_pof.pruning.wrapper import prune
from tf_pof.quantization import quantize, saved
from tf_pof.tasks import distillers, evaluation, heads, inputs, registry
from tf_pof.tasks import scoring, trained
from tf_pof.tasks.settings import Settings
from tf_pof.tasks.task import Task
from tf_pof.training import loop, report, strategy as strategies


def run(settings: Settings, console: rich.console.Console) -> dict:
    """Fine-tunes, or goes on, and writes `<output>/model`.

    `<output>` also holds settings.json, curve.jsonl, tensorboard/ and
    checkpoints/ while the run lasts, and predictions/ and report.json at its
    end.

    Returns:
        The contents of report.json.

    Raises:
        ValueError: for settings, models or data that do not fit together, for
            an output that holds another run, on divergence, and if a locked
            zero has moved.
        OSError: if something cannot be written.
    """
    began = time.monotonic()
    strategy = strategies.get_strategy(settings.strategy)
    chief = strategies.is_chief(strategy)
    if not chief:
        console = rich.console.Console(quiet=True)
    settings.check_output()
    finished = report.read(settings.output)
    if finished:
        console.print(f"{settings.output} is finished already.")
        show(finished, console)
        return finished
    keras.utils.set_random_seed(settings.seed)
    keras.mixed_precision.set_global_policy(settings.precision)
    task = registry.create(**settings.task)
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
        console.print(note, soft_wrap=True)
    told = len(task.notes())
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
        console.print(note, soft_wrap=True)
    if distiller.teacher is not None:
        evaluation.check_length(
            distiller.teacher, task, features, f"The teacher {settings.teacher}"
        )
    locked = locks.locked(student)
    if locked:
        console.print(
            f"Locked {len(locked)} kernels with "
            f"{_summary(locked)['sparsity']:.2%} zeros."
        )
    if settings.qat and student.new_weights:
        console.print(
            f"{settings.model} has no {task.head} head trained on "
            f"{task.name}: quantization is better learned after fine-tuning.",
            soft_wrap=True,
        )

    def evaluate():
        # The first split is the task's own.
        metrics = {}
        for split in task.evaluation_splits[:1]:
            metrics |= splits.score(distiller.student, split)
        return metrics

    loop.train(
        planned,
        distiller,
        lambda step: inputs.training_data(
            features,
            strategy,
            settings.batch_size,
            settings.seed,
            step,
            settings.group_by_length,
            0 if _wants_one_shape(settings) else scoring.LENGTH_MULTIPLE,
        ),
        evaluate,
        console,
        callbacks=[quantization] if quantization else [],
    )
    locks.check(student)
    result = {
        "settings": settings.identity(),
        "train_steps": steps,
        "examples": len(features),
        "seconds": time.monotonic() - began,
    }
    if not chief:
        return result
    trained_model = distiller.student
    if quantization:
        # Levels are exact in float32 alone, as in the file that is exported.
        trained_model = saved.as_float32(trained_model)
        result["quantization"] = {
            "start_step": quantization.start_step,
            "freeze_step": quantization.freeze_step,
            "range_decay": settings.qat_range_decay,
            **trained_model.quantization_state(),
        }
    result["metrics"] = {
        split: splits.score(
            trained_model,
            split,
            console,
            os.path.join(settings.output, "predictions"),
        )
        for split in task.evaluation_splits
    }
    result["notes"] = task.notes()
    if settings.schedule is not None:
        result["sparsity"] = distiller.student.pruner.report()
    elif locked:
        result["sparsity"] = _summary(locked)
    path = os.path.join(settings.output, "model")
    saving.save(
        trained_model,
        path,
        vocab_file=student.vocab_file,
        sparsity=_provenance(student, result),
    )
    files.write_json(os.path.join(settings.output, "report.json"), result)
    show(result, console)
    console.print(f"Model: {path}")
    return result


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


def show(result: dict, console: rich.console.Console) -> None:
    """Prints metrics, zeros and time of a run."""
    evaluation.show(result["metrics"], console)
    if "sparsity" in result:
        console.print(
            f"Zeros: {result['sparsity']['sparsity']:.4%} of "
            f"{len(result['sparsity']['tensors'])} kernels"
        )
    if "quantization" in result:
        layers = result["quantization"]["layers"]
        console.print(f"Quantized to int8: {len(layers)} kernels and tables")
    console.print(f"Time: {result['seconds'] / 60:.1f} min")


def _has_zeros(model) -> bool:
    """Whether a model was pruned: a dense one has nothing to lock."""
    return any(
        not value.all()
        for path, value in weights.effective(model)
        if re.match(f"{bert.PRUNABLE[:-1]}/kernel", path)
    )


def _summary(tensors: dict[str, dict]) -> dict:
    """What `Pruner.report` says, of locked kernels."""
    zeros = sum(tensor["zeros"] for tensor in tensors.values())
    size = sum(tensor["size"] for tensor in tensors.values())
    return {
        "sparsity": zeros / size,
        "zeros": zeros,
        "size": size,
        "tensors": tensors,
    }


def _provenance(student, result):
    """Contents of sparsity.json: how it was pruned, and what came then."""
    if "sparsity" not in result:
        return None
    before = dict(getattr(student, "sparsity", None) or {})
    tensors = {
        name: {**before.get("tensors", {}).get(name, {}), **tensor}
        for name, tensor in result["sparsity"]["tensors"].items()
    }
    qat = "quantization" in result
    return {
        **before,
        **result["sparsity"],
        "tensors": tensors,
        "quantization" if qat else "fine_tuning": result["settings"],
    }


def _wants_one_shape(settings):
    return settings.jit_compile or settings.strategy == "tpu"
