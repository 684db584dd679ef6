"""The server of the page: three files, what the model knows, and a comparison."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from facerec.errors import FacerecError, UsageError
from facerec.models.device import resolve_device
from facerec.models.weights import load_backbone
from facerec.serving.bodies import read_object
from facerec.serving.embedder import Embedder, TorchRunner
from facerec.serving.images import LIMITS, decode_text
from facerec.serving.loading import load_service
from facerec.serving.locate import locate_model
from facerec.serving.package import spec_of
from facerec.serving.request import parse_request
from facerec.serving.service import Row, Service
from facerec.serving.spec import SPEC_FILE

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request as HttpRequest
    from starlette.responses import Response

__all__ = ["HOST", "build_app", "load_any", "run_app"]

HOST = "127.0.0.1"
_FILES = {
    "/": ("page.html", "text/html"),
    "/page.js": ("page.js", "text/javascript"),
    "/page.css": ("page.css", "text/css"),
}
_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


def load_any(model: str, *, device: str = "auto") -> Service:
    """A service of a registered predictor, or of a checkpoint, which knows no thresholds.

    Raises:
        FacerecError: as loading says.
    """
    path = locate_model(model)
    if (path / SPEC_FILE).is_file():
        return load_service(path, device=device)
    target = resolve_device(device)
    loaded = load_backbone(path, device=target)
    return Service(
        spec_of(loaded.config, runtime="torch", calibration=None), Embedder(TorchRunner(loaded.backbone, target))
    )


def build_app(service: Service, *, title: str) -> Starlette:
    """The web application; ``title`` names the model on the page."""
    from starlette.applications import Starlette
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    async def model(request: HttpRequest) -> Response:
        return JSONResponse(_describe(service, title), headers=_HEADERS)

    async def compare(request: HttpRequest) -> Response:
        try:
            body = await _read(request)
            answer = await asyncio.to_thread(_compare, service, body)
        except FacerecError as error:
            return JSONResponse({"error": str(error)}, status_code=400, headers=_HEADERS)
        return JSONResponse(answer, headers=_HEADERS)

    routes = [Route(path, _file(name, kind)) for path, (name, kind) in _FILES.items()]
    routes += [Route("/api/model", model), Route("/api/compare", compare, methods=["POST"])]
    # A page of another site could otherwise reach this one under a name that it makes point here.
    guard = Middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost"])
    return Starlette(routes=routes, middleware=[guard])


def run_app(app: Starlette, *, port: int) -> None:
    """Serve on this machine alone until it is interrupted."""
    import uvicorn

    uvicorn.run(app, host=HOST, port=port, log_level="warning")


def _file(name: str, kind: str) -> Any:
    from starlette.responses import Response

    content = Path(__file__).with_name(name).read_text(encoding="utf-8")

    async def answer(request: HttpRequest) -> Response:
        return Response(content, media_type=kind, headers=_HEADERS)

    return answer


async def _read(request: HttpRequest) -> dict[str, Any]:
    from starlette.requests import ClientDisconnect

    # A form of another site can send any text, but not this type without asking first.
    if request.headers.get("content-type", "").partition(";")[0] != "application/json":
        raise UsageError("send application/json")
    parts: list[bytes] = []
    size = 0
    try:
        async for part in request.stream():
            size += len(part)
            if size > LIMITS.body_bytes:
                raise UsageError(f"the pictures are too large; at most {LIMITS.body_bytes} bytes are taken")
            parts.append(part)
    except ClientDisconnect as error:
        raise UsageError("the connection was closed before both pictures had come") from error
    return read_object(b"".join(parts))


def _describe(service: Service, title: str) -> dict[str, Any]:
    spec = service.spec
    return {
        "title": title,
        "backbone": spec.backbone,
        "image_hw": list(spec.image_hw),
        "calibration": dataclasses.asdict(spec.calibration) if spec.calibration else None,
    }


def _compare(service: Service, body: dict[str, Any]) -> dict[str, Any]:
    params = {name: body[name] for name in ("far", "threshold") if body.get(name) is not None}
    request = parse_request({**params, "on_error": "fail"}, service.spec)
    texts = [text if isinstance(text, str) else None for text in (body.get("image_a"), body.get("image_b"))]
    (answer,) = service.answer([Row(image_a=texts[0], image_b=texts[1])], request)
    crops = [decode_text(text, image_hw=service.spec.image_hw, what="the picture") for text in texts]
    return {**answer, "crops": [_data_url(crop) for crop in crops]}


def _data_url(pixels_HWC: NDArray[np.uint8]) -> str:
    stream = io.BytesIO()
    Image.fromarray(pixels_HWC).save(stream, "PNG")
    return f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode('ascii')}"
