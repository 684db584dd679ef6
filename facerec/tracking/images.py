"""Pictures for MLflow's image grid, which shows one picture a step beside those of other runs."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

if TYPE_CHECKING:
    from mlflow import MlflowClient

__all__ = ["send_image"]

_THUMBNAIL_PX = 256


def send_image(client: MlflowClient, run_id: str, body: Mapping[str, Any]) -> None:
    """Upload a PNG and its thumbnail; a repetition writes the same two files again.

    ``MlflowClient.log_image`` draws a new name each time. ``body`` holds ``path``, ``key``, ``step`` and ``time_ms``;
    the names are those that the UI looks for.

    Raises:
        mlflow.exceptions.MlflowException: the store does not take it.
    """
    stem = f"{body['key'].replace('/', '~')}+step+{body['step']}+timestamp+{body['time_ms']}+{run_id}"
    with tempfile.TemporaryDirectory() as folder:
        full, small = Path(folder, f"{stem}.png"), Path(folder, f"{stem}+compressed.webp")
        shutil.copyfile(body["path"], full)
        with Image.open(full) as image:
            image.thumbnail((_THUMBNAIL_PX, _THUMBNAIL_PX))
            image.save(small)
        for path in (full, small):
            client.log_artifact(run_id, str(path), "images")
    client.set_tag(run_id, "mlflow.loggedImages", "True")
