"""What every command shares: flagfiles by bare name, quiet logs, errors."""

import difflib
from importlib import import_module
import importlib.resources
import os
import sys
import warnings

from absl import app, flags, logging


def run(main) -> None:
    """Runs `main(argv)` as a command.

    A bare name on --flagfile that is not in the current folder is looked for
    among the package's recipes. TensorFlow's log noise is silenced (unless
    TF_CPP_MIN_LOG_LEVEL is set). Bad usage ends with exit code 2, and a
    ValueError or OSError with its one sentence and exit code 1.
    """
    _silence()
    app.run(lambda argv: sys.exit(guarded(main, argv)), flags_parser=_parse)


def _silence() -> None:
    """Quiets TensorFlow and its dependencies; errors still show."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    warnings.filterwarnings("ignore", category=FutureWarning)
    logging.set_verbosity(logging.ERROR)


def _import_tensorflow() -> None:
    """Imports TensorFlow without what it prints before it heeds log levels."""
    if os.environ["TF_CPP_MIN_LOG_LEVEL"] != "3":
        import_module("tf_pof._keras")
        return
    sys.stderr.flush()
    stderr = os.dup(2)
    with open(os.devnull, "wb") as null:
        os.dup2(null.fileno(), 2)
    try:
        import_module("tf_pof._keras")
        import_module("tensorflow_text")
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)


def guarded(main, argv) -> int:
    """Calls `main(argv)`; returns the exit code, having printed any error."""
    try:
        _import_tensorflow()
        return main(argv) or 0
    except (app.UsageError, flags.Error) as error:
        return _fail(error, 2)
    except KeyboardInterrupt:
        return _fail("interrupted; the same command goes on from here", 1)
    except (ValueError, OSError) as error:
        if os.environ.get("TF_POF_TRACEBACK"):
            raise
        return _fail(error, 1)


def recipe_path(name: str) -> str:
    """The path of a flagfile: as given, or of the package's recipe.

    Raises:
        app.UsageError: if there is neither, naming like recipes.
    """
    if os.path.exists(name):
        return name
    recipes = importlib.resources.files("tf_pof") / "flags"
    if os.sep not in name and (recipes / name).is_file():
        return str(recipes / name)
    known = sorted(r.name for r in recipes.iterdir() if r.suffix == ".flags")
    close = difflib.get_close_matches(name, known, n=5, cutoff=0.5) or known
    raise app.UsageError(
        f"There is no flagfile {name}; there are recipes {', '.join(close)}."
    )


def require_flags(*names: str) -> None:
    """Raises app.UsageError naming those flags that have no value."""
    missing = [f"--{n}" for n in names if flags.FLAGS[n].value in (None, [])]
    if missing:
        raise app.UsageError(
            f"{' and '.join(missing)} must be given: "
            + " ".join(f"{f[2:]}: {flags.FLAGS[f[2:]].help}" for f in missing)
        )


def _parse(argv):
    try:
        return flags.FLAGS(_with_recipe_paths(argv))
    except (flags.Error, app.UsageError) as error:
        sys.exit(_fail(error, 2))


def _with_recipe_paths(argv):
    result, awaits_path = [], False
    for i, arg in enumerate(argv):
        if arg == "--":
            return result + argv[i:]
        option = arg.lstrip("-")
        if awaits_path:
            arg, awaits_path = recipe_path(arg), False
        elif i and arg != option and option == "flagfile":
            awaits_path = True
        elif i and arg != option and option.startswith("flagfile="):
            arg = "--flagfile=" + recipe_path(option.partition("=")[2])
        result.append(arg)
    return result


def require_no_arguments(argv: list[str]) -> None:
    """Flags are all that most commands take.

    Raises:
        app.UsageError: if there is anything else.
    """
    if len(argv) > 1:
        raise app.UsageError(
            f"What is {argv[1]}? All is given by flags; --help lists them."
        )


def _fail(error, code: int) -> int:
    name = os.path.basename(sys.argv[0]).removesuffix(".py")
    print(f"{name}: {' '.join(str(error).split())}", file=sys.stderr)
    return code
