"""What MLflow's scoring server lets through, stopped at its door.

The server has no limit on the size of a request, answers some mistakes with status 500, others with a stack trace or
with the request itself, and passes over parameters that it does not know. It has no hook for any of this either. So a
predictor that is loaded by that server puts two of its functions in a wrapper: the one that catches the errors of its
endpoint, which sees a request before its body is read, and the one that answers. Where a later MLflow has no such
functions, the server works as MLflow made it, and says so in its log.
"""

from __future__ import annotations

import asyncio
import functools
import json
import logging
import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from facerec.errors import UsageError
from facerec.serving.images import LIMITS, Limits
from facerec.serving.refusal import Refusal, refuse
from facerec.serving.request import PARAMETERS

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

__all__ = ["guard_server", "read_json"]

_log = logging.getLogger(__name__)

_APPLICATION = "mlflow.pyfunc.scoring_server.app"
_ENDPOINT = "_async_catch_mlflow_exception"
_ANSWER = "invocations"
_JSON = "application/json"
_DRAIN_S = 10.0
_FORMATS = ("dataframe_split", "dataframe_records", "instances", "inputs")
_KEYS = {*_FORMATS, "params"}

Endpoint = Callable[["Request"], Awaitable["Response"]]


def guard_server(*, limits: Limits = LIMITS) -> bool:
    """Wrap the scoring server that is loading this model; returns whether there is one and it could be wrapped."""
    if _APPLICATION not in sys.modules:
        return False
    from mlflow.pyfunc import scoring_server

    server: Any = scoring_server
    if not callable(getattr(server, _ENDPOINT, None)) or not callable(getattr(server, _ANSWER, None)):
        _log.warning("this version of MLflow cannot be guarded; put a proxy with a body limit before the server")
        return False
    setattr(server, _ANSWER, _careful(getattr(server, _ANSWER), limits))
    setattr(server, _ENDPOINT, functools.partial(_bounded, limits=limits))
    return True


def _bounded(endpoint: Endpoint, *, limits: Limits) -> Endpoint:
    """Read at most ``limits.body_bytes``; every failure becomes one sentence."""
    from mlflow.exceptions import MlflowException
    from starlette.requests import Request
    from starlette.responses import Response

    def response(error: MlflowException, status: int | None = None) -> Response:
        code = error.get_http_status_code() if status is None else status
        return Response(error.serialize_as_json(), status_code=code, media_type="application/json")

    @functools.wraps(endpoint)
    async def wrapper(request: Request) -> Response:
        if not _is_readable(request.headers.get("content-type", "")):
            return response(refuse("the Content-Type must be application/json or text/csv, in UTF-8"), 415)
        body = await _read_body(request, limits.body_bytes)
        if body is None:
            return response(refuse(f"the request is too large; at most {limits.body_bytes} bytes are taken"), 413)
        replay = Request(request.scope, receive=_once(body))
        try:
            return await endpoint(replay)
        except MlflowException as error:
            return response(error)

    # FastAPI reads the annotations of what it calls; as text they could not be found here.
    wrapper.__annotations__ = {"request": Request}
    return wrapper


def _is_readable(content_type: str) -> bool:
    """Whether a body of that type is read; Parquet is not, for it can unpack to any size."""
    kind, *options = (part.strip().lower() for part in content_type.split(";"))
    return kind in (_JSON, "text/csv") and all(option in ("", "charset=utf-8") for option in options)


async def _read_body(request: Request, limit: int) -> bytes | None:
    """The body; None where it is longer than ``limit``, of which the rest is thrown away so that the client can end."""
    parts: list[bytes] = []
    size = 0
    claimed = request.headers.get("content-length", "0")
    is_too_long = claimed.isdecimal() and int(claimed) > limit
    try:
        async with asyncio.timeout(_DRAIN_S if is_too_long else None) as patience:
            async for part in request.stream():
                size += len(part)
                if size > limit and not is_too_long:
                    is_too_long = True
                    patience.reschedule(asyncio.get_running_loop().time() + _DRAIN_S)
                if is_too_long:
                    parts.clear()
                else:
                    parts.append(part)
    except TimeoutError:
        return None
    return None if is_too_long else b"".join(parts)


def _once(body: bytes) -> Callable[[], Awaitable[dict[str, Any]]]:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    return receive


def _careful(answer: Callable[..., Any], limits: Limits) -> Callable[..., Any]:
    """MLflow's function that answers a request, with its input checked and its errors in one sentence."""
    from mlflow.exceptions import MlflowException

    @functools.wraps(answer)
    def wrapper(data: bytes, content_type: str, model: Any, input_schema: Any) -> Any:
        kind = content_type.partition(";")[0].strip().lower()
        try:
            _refuse_many_values(data, limits=limits, is_table=kind != _JSON)
            content: Any = read_json(data, limits=limits) if kind == _JSON else data
            return answer(content, kind, model, input_schema)
        except Refusal:
            raise
        except UsageError as error:
            raise refuse(str(error)) from error
        except MlflowException as error:
            # MLflow's own sentences repeat the request, or name files.
            raise refuse(_explain(error)) from error
        except Exception as error:  # The last place before a client: parsers fail in every way.
            raise refuse(f"the body could not be read as {kind}") from error

    return wrapper


def _refuse_many_values(data: bytes, *, limits: Limits, is_table: bool) -> None:
    """Every value but the first stands behind a comma or, in a table, on a new line; base64 holds no comma."""
    lines = data.count(b"\n") + data.count(b"\r") if is_table else 0
    if data.count(b",") > limits.values or lines > limits.lines:
        raise UsageError(f"the body holds too many values; at most {limits.rows} rows are taken")


def read_json(data: bytes, *, limits: Limits = LIMITS) -> dict[str, Any]:
    """Parse a body and check what stands on its highest level.

    Raises:
        UsageError: it is no JSON object, is nested too deeply, or has keys that mean nothing.
    """
    if _depth(data, limits.json_depth) > limits.json_depth:
        raise UsageError(f"the body is nested more than {limits.json_depth} levels deep")
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise UsageError("the body is no valid JSON text in UTF-8") from error
    if not isinstance(content, dict):
        raise UsageError(f"the body must be a JSON object with one of {', '.join(_FORMATS)}")
    if unknown := sorted(set(content) - _KEYS):
        raise UsageError(f"the body has an unknown key '{unknown[0][:40]}'; known: {', '.join((*_FORMATS, 'params'))}")
    if len(set(content) & set(_FORMATS)) != 1:
        raise UsageError(f"the body must hold exactly one of {', '.join(_FORMATS)}")
    params = {} if content.get("params") is None else content["params"]
    if not isinstance(params, dict):
        raise UsageError("params must be an object")
    if unknown := sorted(set(params) - set(PARAMETERS)):
        raise UsageError(f"unknown parameter '{unknown[0][:40]}'; known: {', '.join(PARAMETERS)}")
    return content


def _depth(data: bytes, enough: int) -> int:
    """Brackets that are open at most; those in texts count too, which base64 and names do not hold."""
    opening = data.count(b"[") + data.count(b"{")
    if opening <= enough:
        return opening
    depth = deepest = 0
    for byte in data.translate(None, delete=_NO_BRACKETS):
        depth += 1 if byte in b"[{" else -1
        deepest = max(deepest, depth)
        if deepest > enough:
            break
    return deepest


_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


def _explain(error: Any) -> str:
    if getattr(error, "error_class", None) == "SCHEMA_ENFORCEMENT_FAILED":
        return (
            "the input does not fit the model: it needs a text column image_a and takes a text column image_b, "
            f"and the parameters {', '.join(PARAMETERS)} with values of their types"
        )
    return (
        "the input could not be read as a table, or a parameter has a value of another type; "
        "send dataframe_split, dataframe_records, instances or inputs"
    )
