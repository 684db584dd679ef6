"""Pickles read as data: a closed set of opcodes, and no opcode here imports, calls or builds anything of Python's.

A verification ``.bin`` is a pickle that comes from the internet. What those files hold - lists, tuples, bytes, text,
numbers, truth values, and uint8 or bool arrays of numpy - is modelled here by hand; all else is refused.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["MAX_DEPTH", "UnsafePickleError", "read_pickle"]

MAX_DEPTH = 64
"""Containers and marks that may be open at once; honest files need four."""

_ARRAY_MODULES = ("numpy.core.multiarray", "numpy._core.multiarray")
_KNOWN_GLOBALS = {
    **{(module, name): name for module in _ARRAY_MODULES for name in ("_reconstruct", "scalar")},
    ("numpy.core.numeric", "_frombuffer"): "_frombuffer",
    ("numpy._core.numeric", "_frombuffer"): "_frombuffer",
    ("numpy", "ndarray"): "ndarray",
    ("numpy", "dtype"): "dtype",
    ("_codecs", "encode"): "encode",
    ("__builtin__", "bytearray"): "bytes",
    ("builtins", "bytearray"): "bytes",
    ("__builtin__", "bytes"): "bytes",
    ("builtins", "bytes"): "bytes",
}
_DTYPES = {"u1": np.uint8, "b1": np.bool_, "i1": np.int8, "i4": np.int32, "i8": np.int64, "u8": np.uint64}


class UnsafePickleError(ValueError):
    """The pickle holds something that no pair set holds; the message says what, and at which byte."""


class _Mark:
    """The place on the stack where a container began."""


@dataclass(frozen=True)
class _Global:
    name: str


@dataclass
class _DType:
    code: str


@dataclass
class _Array:
    """An array under construction; BUILD gives it its content."""

    content: NDArray[Any] | None = None


def read_pickle(data: bytes) -> Any:
    """Interpret a pickle.

    Returns lists, tuples, bytes, text, integers, truth values, None, and numpy arrays of the types in pair sets.

    Raises:
        UnsafePickleError: it is damaged, or holds anything else.
    """
    machine = _Machine()
    position = 0
    try:
        for opcode, argument, place in pickletools.genops(data):
            position = place or 0
            if opcode.name == "STOP":
                return _finished(machine.result())
            _handler(opcode.name)(machine, argument)
    except UnsafePickleError as error:
        raise UnsafePickleError(f"{error} (byte {position})") from error
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError, MemoryError) as error:
        raise UnsafePickleError(f"the pickle is damaged at byte {position} ({error})") from error
    raise UnsafePickleError("the pickle is cut off")


def _handler(operation: str) -> Callable[[_Machine, Any], None]:
    if operation not in _HANDLERS:
        raise UnsafePickleError(f"the operation {operation} is not allowed in a pair set")
    return _HANDLERS[operation]


class _Machine:
    """Stack and memo of the interpreter."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self._marks = 0

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop(self) -> Any:
        if not self.stack:
            raise UnsafePickleError("the stack is empty")
        value = self.stack.pop()
        if isinstance(value, _Mark):
            raise UnsafePickleError("a mark stands where a value belongs")
        return value

    def top(self) -> Any:
        value = self.pop()
        self.stack.append(value)
        return value

    def mark(self) -> None:
        self._marks += 1
        if self._marks > MAX_DEPTH:
            raise UnsafePickleError("it is nested too deeply")
        self.stack.append(_Mark())

    def pop_to_mark(self) -> list[Any]:
        for place in range(len(self.stack) - 1, -1, -1):
            if isinstance(self.stack[place], _Mark):
                items = self.stack[place + 1 :]
                del self.stack[place:]
                self._marks -= 1
                return items
        raise UnsafePickleError("there is no mark")

    def result(self) -> Any:
        value = self.pop()
        if self.stack:
            raise UnsafePickleError("values are left over")
        return value


def _finished(value: Any, depth: int = 0) -> Any:
    """Replace arrays under construction by arrays; a container that holds itself is refused."""
    if depth > MAX_DEPTH:
        raise UnsafePickleError("it is nested too deeply, or holds itself")
    if isinstance(value, _Array):
        if value.content is None:
            raise UnsafePickleError("an array has no content")
        return value.content
    if isinstance(value, (_Global, _DType)):
        raise UnsafePickleError("it holds a name of code where data belongs")
    if isinstance(value, (list, tuple)):
        finished = [_finished(item, depth + 1) if type(item) not in _PLAIN else item for item in value]
        return finished if isinstance(value, list) else tuple(finished)
    return value


_PLAIN = frozenset({bytes, str, int, bool, float, type(None), np.ndarray})


def _tuple_of(count: int) -> Callable[[_Machine, Any], None]:
    def build(machine: _Machine, _: Any) -> None:
        items = [machine.pop() for _ in range(count)]
        machine.push(tuple(reversed(items)))

    return build


def _append(machine: _Machine, _: Any) -> None:
    value = machine.pop()
    _list(machine.top()).append(value)


def _appends(machine: _Machine, _: Any) -> None:
    items = machine.pop_to_mark()
    _list(machine.top()).extend(items)


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise UnsafePickleError("something is appended to what is no list")
    return value


def _memoize(machine: _Machine, _: Any) -> None:
    machine.memo[len(machine.memo)] = machine.top()


def _put(machine: _Machine, argument: Any) -> None:
    machine.memo[int(argument)] = machine.top()


def _get(machine: _Machine, argument: Any) -> None:
    if int(argument) not in machine.memo:
        raise UnsafePickleError(f"nothing was stored under number {argument}")
    machine.push(machine.memo[int(argument)])


def _global(machine: _Machine, argument: Any) -> None:
    module, _, name = str(argument).partition(" ")
    _push_global(machine, module, name)


def _stack_global(machine: _Machine, _: Any) -> None:
    name, module = machine.pop(), machine.pop()
    _push_global(machine, module, name)


def _push_global(machine: _Machine, module: Any, name: Any) -> None:
    known = _KNOWN_GLOBALS.get((module, name)) if isinstance(module, str) and isinstance(name, str) else None
    if known is None:
        raise UnsafePickleError(f"it asks for {module}.{name}; nothing was imported or run")
    machine.push(_Global(known))


def _reduce(machine: _Machine, _: Any) -> None:
    arguments, function = machine.pop(), machine.pop()
    if not isinstance(function, _Global) or not isinstance(arguments, tuple):
        raise UnsafePickleError("it calls something that is no known function; nothing was run")
    model = _MODELS.get(function.name)
    if model is None:
        raise UnsafePickleError(f"it calls {function.name}; nothing was run")
    machine.push(model(arguments))


def _model_dtype(arguments: tuple[Any, ...]) -> _DType:
    code = _text(arguments[0])
    if code not in _DTYPES:
        raise UnsafePickleError(f"it holds an array of type '{code}'; pair sets hold u1 and b1")
    return _DType(code)


def _model_scalar(arguments: tuple[Any, ...]) -> Any:
    dtype, raw = arguments
    value = np.frombuffer(_bytes(raw), dtype=_numpy_type(dtype))
    if value.shape != (1,):
        raise UnsafePickleError("a number of numpy has the wrong size")
    return value[0].item()


def _model_frombuffer(arguments: tuple[Any, ...]) -> _Array:
    raw, dtype, shape, order = arguments
    return _Array(_shaped(_bytes(raw), dtype, shape, fortran=_text(order) == "F"))


def _model_reconstruct(arguments: tuple[Any, ...]) -> _Array:
    if not isinstance(arguments[0], _Global) or arguments[0].name != "ndarray":
        raise UnsafePickleError("it builds an object that is no array")
    return _Array()


def _model_encode(arguments: tuple[Any, ...]) -> bytes:
    text, codec = arguments
    if not isinstance(text, str) or codec != "latin1":
        raise UnsafePickleError("it encodes text by another code than latin1")
    return text.encode("latin1")


def _model_bytes(arguments: tuple[Any, ...]) -> bytes:
    if not arguments:
        return b""
    if len(arguments) == 2:
        return _model_encode((arguments[0], {"latin-1": "latin1"}.get(arguments[1], arguments[1])))
    return _bytes(arguments[0])


_MODELS: dict[str, Callable[[tuple[Any, ...]], Any]] = {
    "dtype": _model_dtype,
    "scalar": _model_scalar,
    "_frombuffer": _model_frombuffer,
    "_reconstruct": _model_reconstruct,
    "encode": _model_encode,
    "bytes": _model_bytes,
}


def _build(machine: _Machine, _: Any) -> None:
    state, target = machine.pop(), machine.top()
    if not isinstance(state, tuple):
        raise UnsafePickleError("it sets attributes of an object; nothing was set")
    if isinstance(target, _DType):
        if _text(state[1]) not in ("|", "<") or any(part is not None for part in state[2:5]):
            raise UnsafePickleError("it holds an array of an unknown byte order or of records")
        return
    if not isinstance(target, _Array) or len(state) != 5:
        raise UnsafePickleError("it sets attributes of an object; nothing was set")
    _, shape, dtype, is_fortran, raw = state
    target.content = _shaped(_bytes(raw), dtype, shape, fortran=bool(is_fortran))


def _shaped(raw: bytes, dtype: Any, shape: Any, *, fortran: bool) -> NDArray[Any]:
    kind = _numpy_type(dtype)
    if not isinstance(shape, tuple) or not all(type(side) is int and side >= 0 for side in shape):
        raise UnsafePickleError("an array has no proper shape")
    # The data is compared with the shape first: a shape alone takes no memory.
    flat = np.frombuffer(raw, dtype=kind)
    count = 1
    for side in shape:
        count *= side
    if count != len(flat):
        raise UnsafePickleError(f"an array of shape {shape} comes with {len(flat)} values")
    return flat.reshape(shape, order="F" if fortran else "C")


def _numpy_type(dtype: Any) -> Any:
    if not isinstance(dtype, _DType):
        raise UnsafePickleError("an array has no type")
    return np.dtype(_DTYPES[dtype.code])


def _bytes(value: Any) -> bytes:
    if isinstance(value, str):
        return value.encode("latin1")
    if not isinstance(value, bytes):
        raise UnsafePickleError("bytes are missing where an array's content belongs")
    return value


def _text(value: Any) -> str:
    return value.decode("latin1") if isinstance(value, bytes) else str(value)


def _push_bytes(machine: _Machine, argument: Any) -> None:
    # Python-2 strings arrive as text of one byte per character.
    machine.push(argument.encode("latin1") if isinstance(argument, str) else bytes(argument))


def _push(machine: _Machine, argument: Any) -> None:
    machine.push(argument)


def _ignore(machine: _Machine, argument: Any) -> None:
    """Framing and protocol say nothing about the data."""


_HANDLERS: dict[str, Callable[[_Machine, Any], None]] = {
    **dict.fromkeys(("PROTO", "FRAME"), _ignore),
    **dict.fromkeys(("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "BINFLOAT", "FLOAT"), _push),
    **dict.fromkeys(("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"), _push),
    **dict.fromkeys(("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"), _push_bytes),
    **dict.fromkeys(("STRING", "BINSTRING", "SHORT_BINSTRING"), _push_bytes),
    "NEWTRUE": lambda machine, _: machine.push(True),
    "NEWFALSE": lambda machine, _: machine.push(False),
    "NONE": lambda machine, _: machine.push(None),
    "MARK": lambda machine, _: machine.mark(),
    "EMPTY_LIST": lambda machine, _: machine.push([]),
    "EMPTY_TUPLE": lambda machine, _: machine.push(()),
    "LIST": lambda machine, _: machine.push(machine.pop_to_mark()),
    "TUPLE": lambda machine, _: machine.push(tuple(machine.pop_to_mark())),
    "TUPLE1": _tuple_of(1),
    "TUPLE2": _tuple_of(2),
    "TUPLE3": _tuple_of(3),
    "APPEND": _append,
    "APPENDS": _appends,
    "MEMOIZE": _memoize,
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), _put),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), _get),
    "GLOBAL": _global,
    "STACK_GLOBAL": _stack_global,
    "REDUCE": _reduce,
    "BUILD": _build,
}
