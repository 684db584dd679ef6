"""What the few functions that pair sets call stand for: uint8 and bool arrays of numpy, numbers, and bytes as text.

Nothing is looked up or called by a name from the file; every name here is one row of a closed table.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facerec.data.pickle_code import UnsafePickleError

__all__ = ["ArrayInMaking", "Budget", "KnownName", "call", "known_name", "set_state"]

_DTYPES = {"u1": np.uint8, "b1": np.bool_, "i1": np.int8, "i4": np.int32, "i8": np.int64, "u8": np.uint64}
_MAX_DIMENSIONS = 4


@dataclass(frozen=True)
class KnownName:
    """A function or class of which the meaning is known here."""

    name: str


@dataclass(frozen=True)
class TypeOfArray:
    """A dtype."""

    code: str


@dataclass
class ArrayInMaking:
    """An array that gets its content by BUILD."""

    content: NDArray[Any] | None = None


class Budget:
    """Bytes that may be made of text; a file of so many bytes cannot honestly need more.

    Text that is stored once can be named again and again, and every time new bytes would be made of it.
    """

    def __init__(self, num_bytes: int) -> None:
        self._left = num_bytes

    def encode(self, text: Any, codec: str = "latin1") -> bytes:
        """Bytes as they are, or text as bytes."""
        if isinstance(text, bytes):
            return text
        if not isinstance(text, str) or codec not in ("latin1", "latin-1"):
            raise UnsafePickleError("bytes are missing where content belongs")
        self._left -= len(text)
        if self._left < 0:
            raise UnsafePickleError("it makes more bytes than the file has")
        return text.encode("latin1")


_NAMES = {
    **{(f"numpy.{core}.multiarray", name): name for core in ("core", "_core") for name in ("_reconstruct", "scalar")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): "_frombuffer" for core in ("core", "_core")},
    ("numpy", "ndarray"): "ndarray",
    ("numpy", "dtype"): "dtype",
    ("_codecs", "encode"): "encode",
    **{(module, name): "bytes" for module in ("__builtin__", "builtins") for name in ("bytes", "bytearray")},
}


def known_name(module: Any, name: Any) -> KnownName:
    """The meaning of a name.

    Raises:
        UnsafePickleError: it has none here.
    """
    if not isinstance(module, str) or not isinstance(name, str):
        raise UnsafePickleError("it asks for something whose name is no text; nothing was imported or run")
    known = _NAMES.get((module, name))
    if known is None:
        raise UnsafePickleError(f"it asks for {_shown(module)}.{_shown(name)}; nothing was imported or run")
    return KnownName(known)


def _shown(text: str) -> str:
    """A part of a name from the file, in ASCII, without control characters and not too long for a message."""
    return ascii(text[:80])[1:-1]


def call(function: Any, arguments: Any, budget: Budget) -> Any:
    """What the call of a known function stands for.

    Raises:
        UnsafePickleError: the function or its arguments are not those of a pair set.
    """
    if not isinstance(function, KnownName) or not isinstance(arguments, tuple):
        raise UnsafePickleError("it calls something that is no known function; nothing was run")
    model = _MODELS.get(function.name)
    if model is None:
        raise UnsafePickleError(f"it calls {function.name}; nothing was run")
    return model(arguments, budget)


def set_state(target: Any, state: Any, budget: Budget) -> None:
    """Complete an array or a dtype (BUILD).

    Raises:
        UnsafePickleError: the target is neither, or the state is not one of them.
    """
    if isinstance(target, TypeOfArray) and isinstance(state, tuple) and len(state) >= 5:
        if _text(state[1]) not in ("|", "<") or any(part is not None for part in state[2:5]):
            raise UnsafePickleError("it holds an array of an unknown byte order or of records")
    elif isinstance(target, ArrayInMaking) and isinstance(state, tuple) and len(state) == 5:
        _, shape, dtype, is_fortran, raw = state
        target.content = _shaped(budget.encode(raw), dtype, shape, is_fortran=is_fortran is True or is_fortran == 1)
    else:
        raise UnsafePickleError("it sets attributes of an object; nothing was set")


def _dtype(arguments: tuple[Any, ...], _: Budget) -> TypeOfArray:
    code = _text(arguments[0]) if arguments else ""
    if code not in _DTYPES:
        raise UnsafePickleError(f"it holds an array of type {code[:20]!a}; pair sets hold u1 and b1")
    return TypeOfArray(code)


def _scalar(arguments: tuple[Any, ...], budget: Budget) -> Any:
    dtype, raw = _exactly(2, arguments)
    value = _flat(budget.encode(raw), dtype)
    if value.shape != (1,):
        raise UnsafePickleError("a number of numpy has the wrong size")
    return value[0].item()


def _frombuffer(arguments: tuple[Any, ...], budget: Budget) -> ArrayInMaking:
    raw, dtype, shape, order = _exactly(4, arguments)
    return ArrayInMaking(_shaped(budget.encode(raw), dtype, shape, is_fortran=_text(order) == "F"))


def _reconstruct(arguments: tuple[Any, ...], _: Budget) -> ArrayInMaking:
    if not arguments or not isinstance(arguments[0], KnownName) or arguments[0].name != "ndarray":
        raise UnsafePickleError("it builds an object that is no array")
    return ArrayInMaking()


def _encode(arguments: tuple[Any, ...], budget: Budget) -> bytes:
    text, codec = _exactly(2, arguments)
    return budget.encode(text, _text(codec))


def _bytes(arguments: tuple[Any, ...], budget: Budget) -> bytes:
    if not arguments:
        return b""
    return _encode(arguments, budget) if len(arguments) == 2 else budget.encode(*_exactly(1, arguments))


_MODELS: dict[str, Callable[[tuple[Any, ...], Budget], Any]] = {
    "dtype": _dtype,
    "scalar": _scalar,
    "_frombuffer": _frombuffer,
    "_reconstruct": _reconstruct,
    "encode": _encode,
    "bytes": _bytes,
}


def _exactly(count: int, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    if len(arguments) != count:
        raise UnsafePickleError(f"a call has {len(arguments)} arguments in place of {count}; nothing was run")
    return arguments


def _flat(raw: bytes, dtype: Any) -> NDArray[Any]:
    if not isinstance(dtype, TypeOfArray):
        raise UnsafePickleError("an array has no type")
    kind: np.dtype[Any] = np.dtype(_DTYPES[dtype.code])
    if len(raw) % kind.itemsize:
        raise UnsafePickleError("the content of an array does not fit its type")
    return np.frombuffer(raw, dtype=kind)


def _shaped(raw: bytes, dtype: Any, shape: Any, *, is_fortran: bool) -> NDArray[Any]:
    flat = _flat(raw, dtype)
    if not isinstance(shape, tuple) or len(shape) > _MAX_DIMENSIONS:
        raise UnsafePickleError("an array has no proper shape")
    # Every side is compared with the content first, so that a shape alone takes neither memory nor time.
    count = 1
    for side in shape:
        if type(side) is not int or not 0 <= side <= len(flat):
            raise UnsafePickleError(f"the shape of an array does not fit its {len(flat)} values")
        count *= side
    if count != len(flat):
        raise UnsafePickleError(f"an array of shape {shape} comes with {len(flat)} values")
    return flat.reshape(shape, order="F" if is_fortran else "C")


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("latin1")
    if not isinstance(value, str):
        raise UnsafePickleError("text is missing where a type is named")
    return value
