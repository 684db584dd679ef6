"""Bodies are read as far as there is room, and a client that goes away is none of the server's errors."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import Response

from facerec.serving import intake
from facerec.serving.guard import _bounded
from facerec.serving.images import Limits
from facerec.serving.intake import Room, pick_up

pytestmark = pytest.mark.filterwarnings("ignore:.*AnyType:UserWarning")

LIMITS = Limits(body_bytes=100)


def request(parts: Iterable[bytes | None], **headers: str) -> Request:
    """A request whose body comes in parts; None is the client hanging up."""
    messages: list[dict[str, Any]] = [
        {"type": "http.disconnect"} if part is None else {"type": "http.request", "body": part, "more_body": True}
        for part in parts
    ]
    messages.append({"type": "http.request", "body": b"", "more_body": False})
    waiting = iter(messages)

    async def receive() -> dict[str, Any]:
        return next(waiting)

    given = {"content-type": "application/json", **{name.replace("_", "-"): text for name, text in headers.items()}}
    return Request({"type": "http", "headers": [(k.encode(), v.encode()) for k, v in given.items()]}, receive)


def ask(room: Room, parts: Iterable[bytes | None], **headers: str) -> Response:
    async def endpoint(given: Request) -> Response:
        assert await given.body() == b""
        # As the server does: in another thread, which takes the body with it.
        body = await asyncio.to_thread(pick_up, b"")
        assert pick_up(b"gone") == b"gone"
        return Response(f"{len(body)} {room.left}")

    return asyncio.run(_bounded(endpoint, limits=LIMITS, room=room)(request(parts, **headers)))


def test_a_body_is_handed_on_whole_and_its_room_given_back() -> None:
    room = Room(1000)
    assert ask(room, [b"x" * 40, b"y" * 60]).body == b"100 900"
    assert room.left == 1000


@pytest.mark.parametrize(
    ("parts", "headers"),
    [
        ([b"x" * 60, b"y" * 60], {}),
        ([b"x" * 60], {"content_length": "101"}),
        ([b"x"], {"content_length": "9" * 5000}),
        ([b"x" * 101] * 1000, {}),
    ],
)
def test_a_long_body_is_refused_and_takes_no_room(parts: list[bytes], headers: dict[str, str]) -> None:
    room = Room(1000)
    response = ask(room, parts, **headers)
    assert response.status_code == 413
    assert json.loads(response.body)["message"] == "the request is too large; at most 100 bytes are taken"
    assert room.left == 1000


def test_a_client_that_sends_on_after_a_refusal_is_waited_for_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "_DRAIN_S", 0.05)

    async def endless() -> dict[str, Any]:
        await asyncio.sleep(0.01)
        return {"type": "http.request", "body": b"x" * 60, "more_body": True}

    async def endpoint(given: Request) -> Response:
        raise AssertionError("it was let through")

    given = Request({"type": "http", "headers": [(b"content-type", b"application/json")]}, endless)
    response = asyncio.run(_bounded(endpoint, limits=LIMITS, room=Room(1000))(given))
    assert response.status_code == 413


def test_where_there_is_no_room_a_client_is_told_to_come_again() -> None:
    room = Room(150)
    with room.share() as other:
        assert other.take(100)
        response = ask(room, [b"x" * 30, b"y" * 30])
        assert response.status_code == 503
        assert response.headers["Retry-After"] == "1"
        assert json.loads(response.body)["error_code"] == "TEMPORARILY_UNAVAILABLE"
        assert room.left == 50
        assert ask(room, [b"x" * 50]).status_code == 200
    assert ask(room, [b"x" * 30, b"y" * 30]).status_code == 200
    assert room.left == 150


def test_a_client_that_hangs_up_gets_a_refusal_and_gives_its_room_back() -> None:
    room = Room(1000)
    assert ask(room, [b"x" * 40, None]).status_code == 400
    assert room.left == 1000
