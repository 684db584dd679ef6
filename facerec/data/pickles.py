"""Pickles read as data: a closed set of opcodes, and no opcode here imports, calls or builds anything of Python's.

A verification ``.bin`` is a pickle that comes from the internet. What those files hold - lists, tuples, bytes, text,
numbers, truth values, and uint8 or bool arrays of numpy - is modelled here by hand; all else is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from facerec.data.pickle_code import UnsafePickleError, operations
from facerec.data.pickle_objects import ArrayInMaking, Budget, call, known_name, set_state

__all__ = ["MAX_DEPTH", "UnsafePickleError", "read_pickle"]

MAX_DEPTH = 64
"""Containers and marks that may be open at once; honest files need four."""

_PLAIN = frozenset({bytes, str, int, bool, float, type(None)})


def read_pickle(data: bytes) -> Any:
    """Interpret a pickle.

    Returns lists, tuples, bytes, text, numbers, truth values, None, and numpy arrays of the types in pair sets. What
    the file names several times is one object in the result too.

    Raises:
        UnsafePickleError: it is damaged, or holds anything else.
    """
    machine = _Machine(Budget(len(data)))
    place = 0
    try:
        for name, argument, at in operations(data):
            place = at
            if name == "STOP":
                _refuse_rest(len(data) - at - 1)
                return _finished(machine.result(), {}, depth=0)
            _HANDLERS[name](machine, argument)
    except UnsafePickleError as error:
        raise UnsafePickleError(f"{error} (byte {place})") from error
    except (ValueError, MemoryError) as error:
        # Text that is no UTF-8, digits that are no number, or no memory for what the file holds.
        raise UnsafePickleError(f"the pickle is damaged at byte {place} ({str(error)[:80]})") from error
    raise UnsafePickleError("the pickle is cut off")


def _refuse_rest(num_bytes: int) -> None:
    if num_bytes:
        raise UnsafePickleError(f"{num_bytes} bytes follow behind its end")


class _Mark:
    """The place on the stack where a container began."""


class _Machine:
    """Stack and memo of the interpreter."""

    def __init__(self, budget: Budget) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.budget = budget
        self._marks: list[int] = []

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop(self) -> Any:
        value = self.top()
        self.stack.pop()
        return value

    def top(self) -> Any:
        if not self.stack:
            raise UnsafePickleError("the stack is empty")
        value = self.stack[-1]
        if isinstance(value, _Mark):
            raise UnsafePickleError("a mark stands where a value belongs")
        return value

    def mark(self) -> None:
        if len(self._marks) == MAX_DEPTH:
            raise UnsafePickleError("it is nested too deeply")
        self._marks.append(len(self.stack))
        self.stack.append(_Mark())

    def pop_to_mark(self) -> list[Any]:
        if not self._marks:
            raise UnsafePickleError("there is no mark")
        place = self._marks.pop()
        items = self.stack[place + 1 :]
        del self.stack[place:]
        return items

    def result(self) -> Any:
        value = self.pop()
        if self.stack:
            raise UnsafePickleError("values are left over")
        return value


def _finished(value: Any, done: dict[int, Any], *, depth: int) -> Any:
    """Replace arrays in the making by arrays; a container that holds itself is refused.

    ``done`` has the results by identity, so that what occurs many times is looked at once; `_Mark` stands for one that
    is not complete yet.
    """
    if type(value) in _PLAIN:
        return value
    if depth > MAX_DEPTH:
        raise UnsafePickleError("it is nested too deeply")
    if isinstance(value, ArrayInMaking) and value.content is not None:
        return value.content
    if not isinstance(value, (list, tuple)):
        raise UnsafePickleError("it holds a name of code, or an array without content, where data belongs")
    if id(value) not in done:
        done[id(value)] = _Mark
        items = [item if type(item) in _PLAIN else _finished(item, done, depth=depth + 1) for item in value]
        done[id(value)] = items if isinstance(value, list) else tuple(items)
    if done[id(value)] is _Mark:
        raise UnsafePickleError("a list holds itself")
    return done[id(value)]


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
    machine.memo[argument] = machine.top()


def _get(machine: _Machine, argument: Any) -> None:
    if argument not in machine.memo:
        raise UnsafePickleError(f"nothing was stored under number {argument}")
    machine.push(machine.memo[argument])


def _global(machine: _Machine, argument: tuple[str, str]) -> None:
    machine.push(known_name(*argument))


def _stack_global(machine: _Machine, _: Any) -> None:
    name, module = machine.pop(), machine.pop()
    machine.push(known_name(module, name))


def _reduce(machine: _Machine, _: Any) -> None:
    arguments, function = machine.pop(), machine.pop()
    machine.push(call(function, arguments, machine.budget))


def _build(machine: _Machine, _: Any) -> None:
    state = machine.pop()
    set_state(machine.top(), state, machine.budget)


def _ignore(machine: _Machine, argument: Any) -> None:
    """Framing and protocol say nothing about the data."""


_HANDLERS: dict[str, Callable[[_Machine, Any], None]] = {
    "IGNORE": _ignore,
    "PUSH": lambda machine, argument: machine.push(argument),
    "TRUE": lambda machine, _: machine.push(True),
    "FALSE": lambda machine, _: machine.push(False),
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
    "PUT": _put,
    "GET": _get,
    "GLOBAL": _global,
    "STACK_GLOBAL": _stack_global,
    "REDUCE": _reduce,
    "BUILD": _build,
}
