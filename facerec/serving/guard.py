"""What MLflow's scoring server lets through, stopped at its door.

The server has no limit on the size of a request, answers some mistakes with status 500, others with a stack trace or
with the request itself, and passes over parameters that it does not know. It has no hook for any of this either. So a
predictor that is loaded by that server puts two of its functions in a wrapper: the one that catches the errors of its
endpoint, which sees a request before its body is read, and the one that answers. A server in which they cannot be
wrapped, as in a later MLflow or in MLServer, does not get the model, unless `UNGUARDED` allows it.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
import os
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from types import CodeType
from typing import TYPE_CHECKING, Any

from facerec.errors import UsageError
from facerec.serving.bodies import read_json, read_table
from facerec.serving.images import LIMITS, Limits
from facerec.serving.intake import Room, empty, lay_aside, pick_up, read_body, trim_memory
from facerec.serving.refusal import Refusal, refuse
from facerec.serving.request import PARAMETERS

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

__all__ = ["UNGUARDED", "guard_server"]

_log = logging.getLogger(__name__)

UNGUARDED = "FACEREC_ALLOW_UNGUARDED"
"""Environment variable; 1 lets a server have the model whose requests cannot be limited."""
_APPLICATION = "mlflow.pyfunc.scoring_server.app"
_OTHER_SERVERS = ("mlserver",)
_MODEL_PATH = "__pyfunc_model_path__"
"""Environment variable by which MLflow tells its server the model, whatever its application is called."""
_ENDPOINT = "_async_catch_mlflow_exception"
_ANSWER = "invocations"
_MAKER = "init"
_JSON = "application/json"

_LARGE = 1 << 22
"""Bytes of a body from which on the memory that it took is given back at once."""
_parsing = threading.Lock()

Endpoint = Callable[["Request"], Awaitable["Response"]]


def guard_server(*, limits: Limits = LIMITS) -> bool:
    """Wrap the scoring server that is loading this model; returns whether a server is.

    Raises:
        UsageError: the server cannot be wrapped, and nothing in the environment allows that.
    """
    if not (
        _APPLICATION in sys.modules or _MODEL_PATH in os.environ or any(name in sys.modules for name in _OTHER_SERVERS)
    ):
        return False
    import pandas
    from mlflow.pyfunc import scoring_server

    server: Any = scoring_server
    if _APPLICATION in sys.modules and _can_be_guarded(server):
        setattr(server, _ANSWER, _careful(getattr(server, _ANSWER), limits))
        # The texts of a table as they are: pandas would copy them into Arrow's memory, and out of it again.
        pandas.set_option("mode.string_storage", "python")
        setattr(server, _ENDPOINT, functools.partial(_bounded, limits=limits, room=Room(limits.bodies_bytes)))
        return True
    if os.environ.get(UNGUARDED) != "1":
        raise UsageError(
            "this server's requests cannot be limited, so it does not get the model: serve it with the versions in its "
            f"requirements.txt, or put a proxy with a body limit before the server and set {UNGUARDED}=1"
        )
    _log.warning("this server's requests cannot be limited; %s allows it", UNGUARDED)
    return True


def _can_be_guarded(server: Any) -> bool:
    """Whether both functions are there, and are what the application is made of."""
    maker = getattr(server, _MAKER, None)
    code = getattr(inspect.unwrap(maker), "__code__", None) if callable(maker) else None
    used = set(_names(code)) if code is not None else set()
    return all(name in used and callable(getattr(server, name, None)) for name in (_ENDPOINT, _ANSWER))


def _names(code: CodeType) -> Iterator[str]:
    """Names that a function and those within it use."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def _bounded(endpoint: Endpoint, *, limits: Limits, room: Room) -> Endpoint:
    """Read at most ``limits.body_bytes``; every failure becomes one sentence."""
    from mlflow.exceptions import MlflowException
    from starlette.requests import Request
    from starlette.responses import Response

    def response(error: MlflowException) -> Response:
        status = error.get_http_status_code()
        headers = {"Retry-After": "1"} if status == 503 else None
        return Response(error.serialize_as_json(), status_code=status, headers=headers, media_type=_JSON)

    @functools.wraps(endpoint)
    async def wrapper(request: Request) -> Response:
        share = room.share()
        try:
            if not _is_readable(request.headers.get("content-type", "")):
                raise refuse("the Content-Type must be application/json or text/csv, in UTF-8", status=415)
            with share:
                lay_aside(await read_body(request, limit=limits.body_bytes, share=share))
                return await endpoint(Request(request.scope, receive=empty))
        except MlflowException as error:
            return response(error)
        finally:
            if share.most > _LARGE:
                await asyncio.to_thread(trim_memory)

    # FastAPI reads the annotations of what it calls; as text they could not be found here.
    wrapper.__annotations__ = {"request": Request}
    return wrapper


def _is_readable(content_type: str) -> bool:
    """Whether a body of that type is read; Parquet is not, for it can unpack to any size."""
    kind, *options = (part.strip().lower() for part in content_type.split(";"))
    return kind in (_JSON, "text/csv") and all(option in ("", "charset=utf-8") for option in options)


def _careful(answer: Callable[..., Any], limits: Limits) -> Callable[..., Any]:
    """MLflow's function that answers a request, with its input checked and its errors in one sentence."""
    from mlflow.exceptions import MlflowException

    @functools.wraps(answer)
    def wrapper(data: bytes, content_type: str, model: Any, input_schema: Any) -> Any:
        kind = content_type.partition(";")[0].strip().lower()
        try:
            return answer(_parse(data, kind, limits), kind, model, input_schema)
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


def _parse(data: bytes, kind: str, limits: Limits) -> dict[str, Any] | str:
    """The body as MLflow takes it up; one at a time, for meanwhile it takes twice its room."""
    with _parsing:
        read = read_json if kind == _JSON else read_table
        return read(pick_up(data), limits=limits)


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
