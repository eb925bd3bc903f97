"""What every command shares: flags and help, quiet logs, signals, errors."""

from collections.abc import Sequence
import difflib
import errno
from importlib import import_module
import math
import os
import re
import signal
import sys
import threading
import warnings

from absl import app, flags, logging

from tf_pof import quiet
from tf_pof.cli import flagfiles, help as helps

# Integers that count things; nothing that we count comes near it.
_MAX_INTEGER = 2**31 - 1
# The signal that asked the command to end, once one has.
_stopped_by: list[int] = []


def run(main, required: Sequence[str] = (), example: str = "") -> None:
    """Runs `main(argv)` as a command.

    A bare name on --flagfile that is not in the current folder is looked for
    among the package's recipes. TensorFlow's log noise is silenced (unless
    TF_CPP_MIN_LOG_LEVEL is set). Bad usage ends with exit code 2; a
    ValueError, OSError or interruption with its one sentence and exit code 1.

    Args:
        main: of the command; the docstring of its module opens --help.
        required: flags without which the command cannot begin.
        example: arguments of the example in --help.
    """
    _silence()
    if answered := _answer(main, required, example):
        sys.exit(_write(answered))
    _heed_signals()

    def checked(argv):
        require_flags(*required)
        return main(argv)

    app.run(lambda argv: sys.exit(guarded(checked, argv)), flags_parser=_parse)


def _answer(main, required, example) -> str | None:
    """The answer to --help or --version, if one was asked for."""
    asked = set()
    for argument in sys.argv[1:]:
        if argument == "--":
            break
        asked.add(argument)
    if asked & {"-h", "-help", "--help", "--helpshort"}:
        about = sys.modules[main.__module__].__doc__
        return helps.text(about, required, example)
    if asked & {"-version", "--version"}:
        return f"tf_pof {import_module('tf_pof').__version__}\n"
    return None


def _write(text: str) -> int:
    """Prints a text, whose reader may have gone (as head does)."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        _drop_output()
    return 0


def _drop_output() -> None:
    # Else Python would tell at its end that it could not flush.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _silence() -> None:
    """Quiets TensorFlow and its dependencies; errors still show."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    warnings.filterwarnings("ignore", category=FutureWarning)
    logging.set_verbosity(logging.ERROR)


def _heed_signals() -> None:
    """Makes SIGTERM end a command as Ctrl-C does: it tidies up and says so.

    A second signal ends it at once; files are whole even then.
    """
    if threading.current_thread() is not threading.main_thread():
        return

    def stop(number, frame):
        del frame
        _stopped_by.append(number)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    # A command in the background of a script may have been told to ignore it.
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, stop)


def _import_tensorflow() -> None:
    """Imports TensorFlow without what it prints before it heeds log levels."""
    with quiet.quiet_import():
        import_module("tf_pof._keras")
        import_module("tensorflow_text")


def guarded(main, argv) -> int:
    """Calls `main(argv)`; returns the exit code, having printed any error."""
    try:
        _import_tensorflow()
        code = main(argv) or 0
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        _drop_output()
        return 1
    except SystemExit:
        raise
    except BaseException as error:
        # A library may have wrapped the interruption in an error of its own.
        if _stopped_by or isinstance(error, KeyboardInterrupt):
            return fail("interrupted; the same command goes on from here", 1)
        if isinstance(error, (app.UsageError, flags.Error)):
            return fail(error, 2)
        sentence = _sentence(error)
        if sentence is None or os.environ.get("TF_POF_TRACEBACK"):
            raise
        return fail(sentence, 1)


def _sentence(error: BaseException) -> str | None:
    """What a user is told of an error; None if it is a fault of ours."""
    if isinstance(error, MemoryError):
        return (
            "The memory of this machine is too small for this: ask for less "
            "at a time, as by --batch_size or --micro_batch_size."
        )
    # UnicodeError and its like are ValueErrors: our readers catch them.
    if isinstance(error, (ValueError, OSError)):
        return str(error)
    errors = import_module("tensorflow").errors
    if isinstance(error, errors.ResourceExhaustedError):
        return (
            f"TensorFlow has run out of memory or of room on the disk "
            f"({_first_line(error)}): ask for less at a time, as by "
            "--batch_size or --micro_batch_size, or make room."
        )
    files = (
        errors.PermissionDeniedError,
        errors.NotFoundError,
        errors.DataLossError,
        errors.UnavailableError,
    )
    too_large = isinstance(error, errors.OutOfRangeError) and (
        os.strerror(errno.EFBIG) in str(error)
    )
    if too_large or isinstance(error, files):
        return f"TensorFlow could not read or write: {_first_line(error)}."
    return None


def _first_line(error) -> str:
    lines = str(error.message or error).strip().splitlines() or [""]
    # What an operation was called is nobody's business.
    line = re.sub(r"\{\{[^}]*\}\}\s*|\s*\[Op:.*", "", lines[0])
    return line.strip().removesuffix(".")


def require_flags(*names: str) -> None:
    """Raises app.UsageError naming those flags that have no value."""
    missing = [
        f"--{name}"
        for name in names
        if flags.FLAGS[name].value in (None, [], "")
    ]
    if missing:
        raise app.UsageError(
            f"{' and '.join(missing)} must be given: "
            + " ".join(f"{f[2:]}: {flags.FLAGS[f[2:]].help}" for f in missing)
        )


def usage(function, *args, **kwargs):
    """Calls a function whose ValueErrors are about the values of flags.

    Raises:
        app.UsageError: in place of a ValueError.
    """
    try:
        return function(*args, **kwargs)
    except ValueError as error:
        raise app.UsageError(str(error)) from None


def positive(*names: str, below: float = math.inf) -> None:
    """Lets number flags have values above 0 (and below a bound) alone."""
    bound = "" if below == math.inf else f" and below {below:g}"
    for name in names:
        flags.register_validator(
            name,
            # What is not finite has a sentence of its own.
            lambda value: value is None
            or not math.isfinite(value)
            or 0 < value < below,
            f"must be above 0{bound}",
        )


def below(bound: float, *names: str) -> None:
    """Lets number flags have values below a bound alone."""
    for name in names:
        flags.register_validator(
            name,
            lambda value: value is None
            or not math.isfinite(value)
            or value < bound,
            f"must be below {bound:g}",
        )


def _parse(argv):
    try:
        rest = flags.FLAGS(flagfiles.expand(argv))
        _check_numbers()
        return rest
    # absl raises ValueError for --noflag=value.
    except (flags.Error, app.UsageError, ValueError) as error:
        sys.exit(fail(_flag_sentence(error), 2))


def _flag_sentence(error) -> str:
    """absl's message, with what is near a misspelt value."""
    sentence = str(error)
    # absl formats a tuple here.
    sentence = re.sub(r"\('(Non-boolean .*?)', .*\)", r"\1", sentence)
    found = re.fullmatch(r"flag --(.+?)=(.*): value should be one of <(.*)>",
                         sentence)  # fmt: skip
    if found:
        near = difflib.get_close_matches(found[2], found[3].split("|"), n=3)
        if near:
            sentence += f"; did you mean {' or '.join(near)}"
    return sentence if sentence.endswith(".") else f"{sentence}."


def _check_numbers() -> None:
    """Raises app.UsageError for numbers that no flag can mean."""
    for name in flags.FLAGS:
        flag = flags.FLAGS[name]
        if flag.flag_type() == "float" and flag.value is not None:
            if not math.isfinite(flag.value):
                raise app.UsageError(
                    f"--{name} must be a finite number, not {flag.value}."
                )
        if flag.flag_type() == "int" and flag.value is not None:
            # Seeds have a bound of their own.
            bound = flag.parser.upper_bound or _MAX_INTEGER
            if abs(flag.value) > bound:
                raise app.UsageError(
                    f"--{name} must be at most {bound}, not {flag.value}."
                )


def numbers(name: str, values: Sequence[str]) -> list[int]:
    """The values of a list flag as numbers from 1.

    Raises:
        app.UsageError: if one is something else.
    """
    texts = [value.strip() for value in values]
    if not texts or not all(
        text.isascii() and text.isdigit() and 0 < int(text[:20]) <= _MAX_INTEGER
        for text in texts
    ):
        raise app.UsageError(
            f"--{name} must be numbers from 1 with commas between them, as "
            f"1,2, not {','.join(values)}."
        )
    return [int(text) for text in texts]


def require_no_arguments(argv: list[str]) -> None:
    """Flags are all that most commands take.

    Raises:
        app.UsageError: if there is anything else.
    """
    if len(argv) > 1:
        raise app.UsageError(
            f"What is {argv[1]}? All is given by flags; --help lists them."
        )


def fail(error, code: int) -> int:
    """Prints one line about an error, and returns the exit code."""
    sentence = " ".join(str(error).split()) or type(error).__name__
    print(f"{helps.program()}: {sentence}", file=sys.stderr)
    return code
