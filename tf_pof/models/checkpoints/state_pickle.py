"""The pickle in a PyTorch file, read by a machine that can run nothing.

Python's own unpickler calls what a pickle names. This one knows the few
operations that `torch.save` writes for a dictionary of tensors, and what they
make is values: text, numbers, tuples, lists, dictionaries, and descriptions of
tensors. Whatever else a pickle asks for is refused by name. `pickletools`, of
the standard library, tells the operations apart; it executes none.
"""

import pickletools
from typing import Any, NamedTuple

# 24 layers take some 25,000 operations; these many take about a second.
_MAX_OPERATIONS = 400_000
_STORAGES = {
    "BFloat16Storage": "bfloat16",
    "BoolStorage": "bool",
    "ByteStorage": "uint8",
    "CharStorage": "int8",
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "IntStorage": "int32",
    "LongStorage": "int64",
    "ShortStorage": "int16",
}
# Operations that only put their argument on the stack.
_CONSTANTS = {
    "BINFLOAT",
    "BININT",
    "BININT1",
    "BININT2",
    "BINUNICODE",
    "LONG1",
    "SHORT_BINUNICODE",
}
_MARK = object()


class Refused(ValueError):
    """Its text follows a file's name: "holds no dictionary of tensors"."""


class Storage(NamedTuple):
    """A record of the archive: [size] numbers of a dtype under a key."""

    dtype: str
    key: str
    size: int


class View(NamedTuple):
    """A tensor: numbers of a storage, by offset, shape and strides."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _Global(NamedTuple):
    module: str
    name: str


_ORDERED_DICT = _Global("collections", "OrderedDict")
_TENSOR = _Global("torch._utils", "_rebuild_tensor_v2")
_PARAMETER = _Global("torch._utils", "_rebuild_parameter")
_GLOBALS = {_ORDERED_DICT, _TENSOR, _PARAMETER} | {
    _Global("torch", name) for name in _STORAGES
}


def read(contents: bytes) -> dict[str, View]:
    """The tensors of a state dict, described.

    Args:
        contents: of the archive's data.pkl.

    Raises:
        Refused: if this is anything but a dictionary of tensors.
    """
    machine = _Machine()
    for count, (name, argument) in enumerate(_operations(contents)):
        if count >= _MAX_OPERATIONS:
            raise Refused(f"has more than {count:,} operations")
        try:
            machine.step(name, argument)
        except LookupError:
            raise Refused(
                f"is no valid pickle (operation {count}, {name}, has nothing "
                "to work on)"
            ) from None
    if len(machine.stack) != 1 or not isinstance(machine.stack[0], dict):
        raise Refused("holds no dictionary of tensors")
    for name, value in machine.stack[0].items():
        if not isinstance(value, View):
            raise Refused(f"holds {name[:80]!r}, which is no tensor")
    return machine.stack[0]


def _operations(contents):
    try:
        for code, argument, _ in pickletools.genops(contents):
            yield code.name, argument
    except (ValueError, OverflowError) as error:
        raise Refused(f"is no valid pickle ({error})") from None


def _is_size(value) -> bool:
    return type(value) is int and 0 <= value < 1 << 62


def _is_sizes(value) -> bool:
    return isinstance(value, tuple) and all(map(_is_size, value))


class _Machine:
    """A stack of values and a memo, as the pickle language has them."""

    def __init__(self):
        self.stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def step(self, name, argument):
        """Does one operation.

        Raises:
            Refused, LookupError: if it cannot be done.
        """
        if name in _CONSTANTS:
            self.stack.append(argument)
            return
        method = getattr(self, f"_{name.lower()}", None)
        if method is None:
            raise Refused(f"asks for the operation {name}")
        method(argument)

    def _nothing(self, argument):
        pass

    _proto = _frame = _stop = _nothing

    def _none(self, _):
        self.stack.append(None)

    def _newtrue(self, _):
        self.stack.append(True)

    def _newfalse(self, _):
        self.stack.append(False)

    def _mark(self, _):
        self.stack.append(_MARK)

    def _to_mark(self):
        """Takes off what was put on the stack since the last mark."""
        items = []
        while (item := self.stack.pop()) is not _MARK:
            items.append(item)
        return items[::-1]

    def _empty_tuple(self, _):
        self.stack.append(())

    def _empty_list(self, _):
        self.stack.append([])

    def _empty_dict(self, _):
        self.stack.append({})

    def _tuple(self, _):
        self.stack.append(tuple(self._to_mark()))

    def _last(self, count):
        items = tuple(self.stack[-count:])
        if len(items) < count:
            raise IndexError("stack is empty")
        del self.stack[-count:]
        self.stack.append(items)

    def _tuple1(self, _):
        self._last(1)

    def _tuple2(self, _):
        self._last(2)

    def _tuple3(self, _):
        self._last(3)

    def _append(self, _):
        item = self.stack.pop()
        self._extend([item])

    def _appends(self, _):
        self._extend(self._to_mark())

    def _extend(self, items):
        if not isinstance(self.stack[-1], list):
            raise Refused("appends to what is no list")
        self.stack[-1].extend(items)

    def _setitem(self, _):
        value, key = self.stack.pop(), self.stack.pop()
        self._update([key, value])

    def _setitems(self, _):
        self._update(self._to_mark())

    def _update(self, items):
        if not isinstance(self.stack[-1], dict) or len(items) % 2:
            raise Refused("sets items of what is no dictionary")
        for key, value in zip(items[::2], items[1::2]):
            if not isinstance(key, str):
                raise Refused("has a dictionary whose keys are no text")
            self.stack[-1][key] = value

    def _binput(self, index):
        if self.stack[-1] is _MARK:
            raise Refused("keeps a mark")
        self._memo[index] = self.stack[-1]

    _long_binput = _binput

    def _memoize(self, _):
        self._binput(len(self._memo))

    def _binget(self, index):
        self.stack.append(self._memo[index])

    _long_binget = _binget

    def _global(self, argument):
        module, _, name = argument.partition(" ")
        self._find(module, name)

    def _stack_global(self, _):
        name, module = self.stack.pop(), self.stack.pop()
        self._find(module, name)

    def _find(self, module, name):
        if not (isinstance(module, str) and isinstance(name, str)):
            raise Refused("names a function by what is no text")
        wanted = _Global(module, name)
        if wanted not in _GLOBALS:
            raise Refused(f"asks for {f'{module}.{name}'[:80]}")
        self.stack.append(wanted)

    def _binpersid(self, _):
        match self.stack.pop():
            case ("storage", _Global("torch", name), str(key), str(), size) if (
                _is_size(size) and name in _STORAGES
            ):
                self.stack.append(Storage(_STORAGES[name], key, size))
            case _:
                raise Refused("refers to what is no storage of numbers")

    def _reduce(self, _):
        arguments, function = self.stack.pop(), self.stack.pop()
        match function, arguments:
            case (_Global("collections", _), ()):
                result = {}
            case (
                _Global("torch._utils", "_rebuild_tensor_v2"),
                (Storage() as storage, offset, shape, strides, _, _, *more),
            ) if (
                # The rest could say that all signs are turned.
                not any(more)
                and _is_size(offset)
                and _is_sizes(shape)
                and _is_sizes(strides)
                and len(shape) == len(strides)
            ):
                result = View(storage, offset, shape, strides)
            case (
                _Global("torch._utils", "_rebuild_parameter"),
                (View() as view, _, _),
            ):
                result = view
            case _:
                raise Refused("makes something that is no tensor")
        self.stack.append(result)

    def _build(self, _):
        state = self.stack.pop()
        # The "_metadata" of a state dict, versions of modules.
        if not (isinstance(self.stack[-1], dict) and isinstance(state, dict)):
            raise Refused("sets attributes of what is no dictionary")
