"""The text of --help: a command's own flags in groups, required ones first."""

from collections.abc import Iterator, Sequence
import contextlib
import os
import re
import shutil
import sys
import textwrap

from absl import flags

# Titles of groups in their order, and the names of their flags.
_GROUPS: dict[str, list[str]] = {}
_INDENT = " " * 6
_EVERYWHERE = (
    (
        "--flagfile=NAME",
        "A file that has one flag a line, or the name of a recipe, as "
        "sst2.flags. Flags behind it win.",
    ),
    ("-h, --help", "Prints this."),
    ("--version", "Prints the version."),
)
# What stands for a value, by absl's names of the types.
_PLACES = {"int": "N", "float": "X", "comma separated list of strings": "A,B"}


@contextlib.contextmanager
def group(title: str) -> Iterator[None]:
    """Lists the flags that are defined inside under a title of their own."""
    before = set(flags.FLAGS)
    yield
    new = [name for name in flags.FLAGS if name not in before]
    _GROUPS.setdefault(title, []).extend(new)


def program() -> str:
    """The name that the command was started by."""
    return os.path.basename(sys.argv[0]).removesuffix(".py")


def text(about: str, required: Sequence[str], example: str) -> str:
    """What --help prints.

    Args:
        about: the docstring of the command's module.
        required: names of the flags that must be given.
        example: the arguments of an example.
    """
    width = min(shutil.get_terminal_size().columns, 100)
    own = _own_flags()
    groups = {"Required": [name for name in required if name in own]}
    listed = set(required)
    for title, names in {**_GROUPS, "Other": sorted(own)}.items():
        groups[title] = [n for n in names if n in own and n not in listed]
        listed |= set(names)
    parts = [about.strip(), _usage(required)]
    if example:
        parts.append(f"Example:\n  {program()} {example}")
    for title, names in groups.items():
        if names:
            entries = [_entry(flags.FLAGS[name], width) for name in names]
            parts.append("\n".join([f"{title}:", *entries]))
    entries = [_described(*entry, width) for entry in _EVERYWHERE]
    parts.append("\n".join(["In every command:", *entries]))
    return "\n\n".join(parts) + "\n"


def _usage(required):
    needed = " ".join(f"--{name}=..." for name in required)
    return f"Usage: {program()} {needed} [flags]".replace("  ", " ")


def _own_flags() -> set[str]:
    """Flags of our modules, without those of absl and other packages."""
    script = os.path.abspath(sys.argv[0])
    return {
        flag.name
        for module, found in flags.FLAGS.flags_by_module_dict().items()
        if module.startswith("tf_pof.") or os.path.abspath(module) == script
        for flag in found
    }


def _entry(flag, width) -> str:
    kind = flag.flag_type()
    name = f"--{flag.name}"
    if kind == "bool":
        name = f"--[no]{flag.name}"
    elif kind in ("string enum", "multi string enum"):
        name += f"={{{','.join(flag.parser.enum_values)}}}"
    else:
        name += f"={_PLACES.get(kind, 'TEXT')}"
    # absl puts the values of an enum before its help.
    note = re.sub(r"^<[^>]*>: ", "", flag.help)
    if flag.default not in (None, "", []):
        note += f" Default: {flag.default_as_str.strip(chr(39))}."
    return _described(name, note, width)


def _described(name, note, width) -> str:
    lines = textwrap.wrap(
        name, width - 2, initial_indent="  ", subsequent_indent=_INDENT,
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip
    lines += textwrap.wrap(
        note, width - 2, initial_indent=_INDENT, subsequent_indent=_INDENT
    )
    return "\n".join(lines)
