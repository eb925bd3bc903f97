"""Runs the stages of a preparation on a runner of Apache Beam.

The elements that Beam handles are descriptions of coarse work (about 4 MB of
text, or one shard), because its overhead for each element is large; the data
itself goes through files in the work folder, which every worker must see.
"""

from collections.abc import Callable, Sequence
import contextlib
import difflib
import functools
import io
import logging
from typing import Literal

import apache_beam as beam
from apache_beam.options import pipeline_options
from apache_beam.runners import runner as beam_runners

from tf_pof import untrusted
from tf_pof.data import work

_EXAMPLE = "--beam_args='--runner=FlinkRunner --flink_master=host:8081'"


class _Error(untrusted.Schema):
    """An error of a worker; Beam itself passes on a traceback's text."""

    kind: Literal["input", "system"]
    message: str


def parse_options(
    arguments: Sequence[str],
) -> pipeline_options.PipelineOptions:
    """Reads options of Beam, none of which may be unknown to it.

    Raises:
        ValueError: in one sentence, if one is unknown or has a bad value, or
            if none names a runner.
    """
    stray = [
        argument
        for before, argument in zip(["", *arguments], arguments)
        if not argument.startswith("--")
        and ("=" in before or not before.startswith("--"))
    ]
    options = pipeline_options.PipelineOptions(list(arguments))
    printed = io.StringIO()
    try:
        with contextlib.redirect_stderr(printed):
            known = options.get_all_options()
            every = options.get_all_options(retain_unknown_options=True)
    except (SystemExit, ValueError) as error:
        lines = printed.getvalue().strip().splitlines() or [str(error)]
        raise ValueError(
            "--beam_args has an option that Beam does not take "
            f"({lines[-1].rpartition('error: ')[2]})."
        ) from None
    unknown = [f"--{name}" for name in every if name not in known] + stray
    if unknown:
        near = difflib.get_close_matches(
            unknown[0].lstrip("-"), list(known), n=1
        )
        raise ValueError(
            f"Beam has no option {unknown[0]}, which stands in --beam_args"
            + (f": did you mean --{near[0]}?" if near else ".")
        )
    name = options.view_as(pipeline_options.StandardOptions).runner
    if not name:
        raise ValueError(
            f"--beam_args must name a runner, such as {_EXAMPLE}; without "
            "--beam_args the work is done on this machine."
        )
    try:
        beam_runners.create_runner(name)
    except (ValueError, ImportError, AttributeError) as error:
        text = " ".join(str(error).split())
        raise ValueError(
            f"Beam cannot use the runner {name} of --beam_args ({text})."
        ) from None
    return options


def _report(path: str, function: Callable, element) -> None:
    """Calls a function; leaves the sentence of an error at `path`."""
    try:
        function(element)
    except (ValueError, OSError) as error:
        kind = "input" if isinstance(error, ValueError) else "system"
        message = " ".join(str(error).split())
        # The disk may be full: then Beam's own message must do.
        with contextlib.suppress(OSError):
            work.write_mark(path, _Error(kind=kind, message=message))
        raise


def execute(
    options: pipeline_options.PipelineOptions,
    error_path: str,
    function: Callable,
    elements: Sequence,
) -> None:
    """Calls `function` with each element, as one pipeline.

    Args:
        options: from `parse_options`.
        error_path: where workers leave the sentence of an error.
        function: that can be pickled.
        elements: of the work.

    Raises:
        ValueError: with the sentence of a worker that met bad input.
        OSError: with that of a worker that could not read or write, or if
            the runner fails.
    """
    call = functools.partial(_report, error_path, function)
    # Beam logs a worker's traceback; the sentence is in the error's file.
    logger = logging.getLogger("apache_beam")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        with beam.Pipeline(options=options) as pipeline:
            _ = (
                pipeline
                | "Work" >> beam.Create(list(elements))
                | "Spread" >> beam.Reshuffle()
                | "Do" >> beam.Map(call)
            )
    except Exception as error:
        report = work.read_mark(error_path, _Error)
        if report is None:
            lines = str(error).strip().splitlines() or [type(error).__name__]
            raise OSError(
                f"Beam's runner failed ({lines[-1].strip()}): the same "
                "command goes on from here."
            ) from error
        kind = ValueError if report.kind == "input" else OSError
        raise kind(report.message) from error
    finally:
        logger.setLevel(level)
