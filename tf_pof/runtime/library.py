"""Finds the delegate's library and makes delegates of it."""

from collections.abc import Mapping
import os
from typing import Any

from ai_edge_litert import interpreter as litert

from tf_pof.runtime import installed

# Names another library than the package's own.
VARIABLE = "TF_POF_DELEGATE"


def library_path() -> str:
    """The path of libtf_pof_delegate.so, for any TFLite or LiteRT to load.

    Raises:
        FileNotFoundError: if tf_pof was installed without it, with the
            reason and what to do.
    """
    path = os.environ.get(VARIABLE)
    if path:
        if not os.path.isfile(path):
            raise FileNotFoundError(
                f"There is no file {path}, which {VARIABLE} names: unset the "
                "variable to take tf_pof's own library."
            )
        return path
    library = installed.FOLDER / installed.LIBRARY
    if library.is_file():
        return str(library)
    reason = "it was never built"
    written = installed.FOLDER / installed.REASON
    if written.is_file():
        reason = written.read_text().strip()
    raise FileNotFoundError(
        f"tf_pof was installed without its delegate ({reason}): install what "
        "is missing, then tf_pof again."
    )


def for_interpreter(
    num_threads: int, options: Mapping[str, Any]
) -> litert.Delegate:
    """A delegate with an interpreter's threads and other options.

    Raises:
        TypeError: if threads are among the options too.
        FileNotFoundError, ValueError: see `delegate`.
    """
    if "threads" in options:
        raise TypeError(
            "Interpreters and text models take num_threads, not threads."
        )
    return delegate(num_threads, **options)


def delegate(
    threads: int = 1,
    isa: str | None = None,
    verbose: bool = False,
    dry_run: bool = False,
    tokens: int | None = None,
    profile: bool = False,
    min_sparsity: float | None = None,
    cache_dir: str | os.PathLike | None = None,
) -> litert.Delegate:
    """A delegate that computes sparse encoder layers, for `Interpreter`.

    It goes to `ai_edge_litert.interpreter.Interpreter` or `tf.lite.Interpreter`
    as one of `experimental_delegates`, and belongs to that one interpreter.

    Args:
        threads: that it computes with.
        isa: instructions of its kernels: "avx512vbmi", "avx512vnni",
            "avxvnni", "avx2", "i8mm", "neondot", "neon" or "scalar"; by
            default the best that there are.
        verbose: whether it says on standard error what it computes and how.
        dry_run: whether it leaves everything to the interpreter, and only
            says what it would compute.
        tokens: that kernels are chosen for, of all sequences of a call.
        profile: whether it measures how long each step takes, for
            `Interpreter.profile`; what nobody asked for is printed on standard
            error at the end.
        min_sparsity: share of zeros from which on dense tensors are worth
            taking from the interpreter; by default 0.4, and 0 for whole
            encoders where AVX512-VNNI is used.
        cache_dir: folder that packed weights are kept in, so that models load
            faster the next time and processes share them. It is made if it is
            not there, may be emptied at any time, and is nobody else's to
            write. "" is none.

    Raises:
        FileNotFoundError: if the library is not there, see `library_path`.
        ValueError: if the library takes an option not.
    """
    options = {
        "threads": threads,
        "isa": isa,
        "verbose": verbose,
        "dry_run": dry_run,
        "tokens": tokens,
        "profile": profile,
        "min_sparsity": min_sparsity,
    }
    if cache_dir:
        folder = os.path.expanduser(os.fsdecode(cache_dir))
        options["cache_dir"] = os.path.abspath(folder)
    path = library_path()
    try:
        return litert.load_delegate(
            path,
            {
                key: int(value) if isinstance(value, bool) else value
                for key, value in options.items()
                if value is not None
            },
        )
    except (ValueError, OSError, AttributeError) as error:
        # The first line of LiteRT's own says no more than this.
        *_, reason = str(error).splitlines() or ["it gives no reason"]
        raise ValueError(
            f"The delegate {path} cannot be loaded: {reason}"
        ) from None
