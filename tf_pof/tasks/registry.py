"""Tasks by name."""

import inspect
import os
from typing import Any

import pydantic

from tf_pof import untrusted
from tf_pof.tasks import glue
from tf_pof.tasks.squad import Squad
from tf_pof.tasks.table_files import Table
from tf_pof.tasks.task import Task

_SQUAD = {"squad": "1.1", "squad_v2": "2.0"}
NAMES = (*glue.NAMES, *_SQUAD, "custom")


def create(name: str, **options) -> Task:
    """The task of that name.

    Args:
        name: one of NAMES.
        **options: arguments of `Glue`, `Squad` or `Table`.

    Raises:
        ValueError: for an unknown name, an option that the task does not
            have, or one that it needs.
    """
    make, arguments = constructor(name, **options)
    return make(**arguments)


def constructor(name: str, **options) -> tuple[type[Task], dict[str, Any]]:
    """What `create` calls, and with which arguments; reads no file."""
    if name in glue.NAMES:
        make, fixed = glue.Glue, {"name": name}
    elif name in _SQUAD:
        make, fixed = Squad, {"version": _SQUAD[name]}
    elif name == "custom":
        # Which files are needed depends on what is done with the task.
        make, fixed = Table, {}
        options = {"train_file": None, "validation_file": None} | options
    else:
        raise ValueError(
            f"There is no task {name!r}: choose {', '.join(NAMES)}."
        )
    parameters = inspect.signature(make).parameters
    for option, value in options.items():
        if value is not None and option not in parameters.keys() - fixed:
            raise ValueError(
                f"--{option} is not an option of the task {name}: leave it "
                "out."
            )
    options = fixed | {
        k: os.fspath(v) if isinstance(v, os.PathLike) else v
        for k, v in options.items()
        if k in parameters
    }
    for option, parameter in parameters.items():
        if parameter.default is parameter.empty and option not in options:
            raise ValueError(f"The task {name} needs --{option}.")
    _check_types(name, parameters, options)
    return make, options


def _check_types(name, parameters, options) -> None:
    """Raises ValueError for an option of another type than it must have.

    Options are also read out of the settings of runs.
    """
    fields = {
        option: (parameter.annotation, parameter.default)
        for option, parameter in parameters.items()
        if option in options
    }
    schema = pydantic.create_model(
        "Options", __base__=untrusted.Schema, **fields
    )
    untrusted.fit(options, schema, f"The task {name}")
