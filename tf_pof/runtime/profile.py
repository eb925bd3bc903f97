"""Where a delegate's time goes: how long each step of a model takes."""

from collections.abc import Sequence
import ctypes
import dataclasses

from ai_edge_litert import interpreter as litert

from tf_pof.runtime import library


@dataclasses.dataclass(frozen=True)
class Step:
    """Steps of one kind, or a phase of them.

    Attributes:
        kind: as "linear", "attention, scores" or "waiting for threads".
        name: of the weights, "" where there are none.
        detail: shape and kernel.
        calls: how often they ran.
        seconds: that these took together.
    """

    kind: str
    name: str
    detail: str
    calls: int
    seconds: float


class _Step(ctypes.Structure):
    """TfPofProfileStep of delegate.h."""

    _fields_ = [
        ("kind", ctypes.c_char_p),
        ("name", ctypes.c_char_p),
        ("detail", ctypes.c_char_p),
        ("calls", ctypes.c_int64),
        ("nanoseconds", ctypes.c_int64),
    ]


_VISITOR = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.POINTER(_Step))


def take(delegate: litert.Delegate) -> list[Step]:
    """What a delegate made with `profile` has measured since the last time.

    Its interpreter must not run meanwhile.

    Args:
        delegate: of `library.delegate`.
    """
    found = []

    def visit(_, pointer):
        step = pointer.contents
        texts = (step.kind, step.name, step.detail)
        found.append(
            Step(
                *(text.decode(errors="replace") for text in texts),
                step.calls,
                step.nanoseconds * 1e-9,
            )
        )

    pointer = delegate._get_native_delegate_pointer()
    functions = ctypes.CDLL(library.library_path())
    functions.TfPofDelegateProfile.argtypes = [
        ctypes.c_void_p,
        _VISITOR,
        ctypes.c_void_p,
    ]
    functions.TfPofDelegateProfile.restype = None
    functions.TfPofDelegateProfile(pointer, _VISITOR(visit), None)
    return found


def join(steps: Sequence[Step]) -> list[Step]:
    """Adds those of one kind and detail, whatever their name."""
    joined = {}
    for step in steps:
        key = step.kind, step.detail
        before = joined.get(key)
        joined[key] = dataclasses.replace(
            step,
            name="",
            calls=step.calls + (before.calls if before else 0),
            seconds=step.seconds + (before.seconds if before else 0.0),
        )
    return list(joined.values())
