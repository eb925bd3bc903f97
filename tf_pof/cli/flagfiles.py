"""Flagfiles: recipes by bare name, and flagfiles that name others.

absl's own reader knows paths alone. Here `--flagfile=sst2` is the recipe
sst2.flags of the package unless there is such a file, and so is a name inside
a flagfile, so that a user's file can begin with a recipe and change it.
"""

import difflib
import importlib.resources
import os

from absl import app

_SUFFIX = ".flags"
# Far above every recipe; a file of another kind is told by its contents.
_MAX_BYTES = 1 << 20


def expand(argv: list[str]) -> list[str]:
    """Replaces each --flagfile by the flags that its file holds.

    Raises:
        app.UsageError: if a file cannot be found or read, is no text, or
            names itself.
    """
    return argv[:1] + _expanded(argv[1:], ())


def _expanded(arguments, within):
    result, iterator = [], iter(arguments)
    for argument in iterator:
        if argument == "--":
            return [*result, argument, *iterator]
        name, equals, value = argument.partition("=")
        if name not in ("--flagfile", "-flagfile"):
            result.append(argument)
            continue
        if not equals:
            value = next(iterator, "")
        path = find(value, os.path.dirname(within[-1]) if within else "")
        result += _expanded(_lines(path, within), (*within, path))
    return result


def _lines(path, within):
    if os.path.abspath(path) in map(os.path.abspath, within):
        raise app.UsageError(f"The flagfile {path} names itself.")
    try:
        with open(path, "rb") as file:
            contents = file.read(_MAX_BYTES + 1)
        text = contents.decode()
    except OSError as error:
        raise app.UsageError(
            f"The flagfile {path} cannot be read: {error.strerror}."
        ) from None
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text or len(text) > _MAX_BYTES:
        raise app.UsageError(
            f"The flagfile {path} is no text: it must have one flag a line."
        )
    lines = [line.strip() for line in text.splitlines()]
    lines = [x for x in lines if x and not x.startswith(("#", "//"))]
    for line in lines:
        if not line.startswith("-"):
            raise app.UsageError(
                f"The flagfile {path} has the line {line[:40]!r}, which is no "
                "flag: it must have one flag a line, as --seed=1."
            )
    return lines


def find(name: str, beside: str = "") -> str:
    """The path of a flagfile: as given, or of the package's recipe.

    Args:
        name: a path, or the name of a recipe with or without ".flags".
        beside: the folder of the flagfile that names it.

    Raises:
        app.UsageError: if there is neither, naming like recipes.
    """
    if not name:
        raise app.UsageError("--flagfile must name a file, as sst2.flags.")
    path = os.path.expanduser(name)
    for candidate in (path, os.path.join(beside, path)):
        if os.path.exists(candidate) and not os.path.isdir(candidate):
            return candidate
    recipes = importlib.resources.files("tf_pof") / "flags"
    for recipe in (name, name + _SUFFIX):
        if os.sep not in name and (recipes / recipe).is_file():
            return str(recipes / recipe)
    if os.path.isdir(path):
        raise app.UsageError(f"The flagfile {name} is a folder: name a file.")
    known = sorted(r.name for r in recipes.iterdir() if r.suffix == _SUFFIX)
    stem = os.path.basename(name).removesuffix(_SUFFIX)
    near = [recipe for recipe in known if recipe.startswith(stem)][:5]
    near = near or difflib.get_close_matches(name, known, n=5, cutoff=0.5)
    raise app.UsageError(
        f"There is no flagfile {name}; "
        + (
            f"there are recipes {', '.join(near)}."
            if near
            else f"the recipes are in {recipes}."
        )
    )
