"""Bodies of requests: read as long as there is room for them, and handed to the thread that answers.

The server would keep a body for as long as its request lasts, beside what was parsed of it. Here it waits aside and is
forgotten once it is parsed.
"""

from __future__ import annotations

import asyncio
import ctypes
import sys
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Self

from facerec.serving.refusal import Refusal, refuse

if TYPE_CHECKING:
    from starlette.requests import Request

__all__ = ["Room", "Share", "empty", "lay_aside", "pick_up", "read_body", "trim_memory"]

_DRAIN_S = 10.0
_aside: ContextVar[list[bytearray] | None] = ContextVar("_aside", default=None)


class Room:
    """How many bytes of bodies a process may hold at a time; used from its event loop alone."""

    def __init__(self, size: int) -> None:
        self.left = size

    def share(self) -> Share:
        """What one request takes of it, as a context: until it is answered."""
        return Share(self)


class Share:
    """One request's part of the room."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._size = 0
        self.most = 0
        """The most that it ever took, in bytes."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.give_back()

    def take(self, size: int) -> bool:
        """Take some more; False where there is not so much left."""
        if size > self._room.left:
            return False
        self._room.left -= size
        self._size += size
        self.most = max(self.most, self._size)
        return True

    def give_back(self) -> None:
        """Take nothing any more."""
        self._room.left += self._size
        self._size = 0


async def read_body(request: Request, *, limit: int, share: Share) -> bytearray:
    """The body.

    What is refused is still read for a while and thrown away, so that the client can end and see the answer.

    Raises:
        Refusal: it is longer than ``limit`` (413), there is no room for it (503), or the client hung up.
    """
    from starlette.requests import ClientDisconnect

    body = bytearray()
    refusal = _too_large(limit) if _claimed(request) > limit else None
    try:
        async with asyncio.timeout(_DRAIN_S if refusal else None) as patience:
            async for part in request.stream():
                if refusal is None and (refusal := _why_not(len(body), part, limit=limit, share=share)) is not None:
                    body.clear()
                    share.give_back()
                    patience.reschedule(asyncio.get_running_loop().time() + _DRAIN_S)
                if refusal is None:
                    body += part
    except TimeoutError as error:
        assert refusal is not None, "nothing but a refusal has a time limit"
        raise refusal from error
    except ClientDisconnect as error:
        raise refuse("the connection was closed before the whole request had come") from error
    if refusal is not None:
        raise refusal
    return body


def _claimed(request: Request) -> int:
    """The length that a request says it has; none that one can send has 20 digits."""
    length = request.headers.get("content-length", "0")[:20]
    return int(length) if length.isdecimal() else 0


def _why_not(size: int, part: bytes, *, limit: int, share: Share) -> Refusal | None:
    if size + len(part) > limit:
        return _too_large(limit)
    if not share.take(len(part)):
        return refuse("the server has more requests than it can hold; try again in a moment", status=503)
    return None


def _too_large(limit: int) -> Refusal:
    return refuse(f"the request is too large; at most {limit} bytes are taken", status=413)


def lay_aside(body: bytearray) -> None:
    """Keep a body for `pick_up`, in this task or in a thread that it starts."""
    _aside.set([body])


def pick_up(data: bytes) -> bytes | bytearray:
    """The body that was laid aside, for the first who asks; ``data`` where none was."""
    waiting = _aside.get()
    return waiting.pop() if waiting else data


async def empty() -> dict[str, Any]:
    """Receive a body of nothing."""
    return {"type": "http.request", "body": b"", "more_body": False}


def trim_memory() -> None:
    """Give the system back what is free. The C library would keep it, and more of it the more bodies came together."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None  # Of glibc alone.
    if trim is not None:
        trim(0)
