"""The page to try a model: it compares, it decides, it is for this machine alone."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import torch
from starlette.requests import Request

from docs.pictures.browser import find_programs, open_browser
from facerec.errors import CheckpointError, UsageError
from facerec.models.weights import load_backbone
from facerec.serving.demo import app
from facerec.serving.demo.app import HOST, build_app, load_any
from facerec.serving.embedder import build_embedder
from facerec.serving.package import spec_of, stage
from facerec.serving.service import Service
from tests.postgres import free_port
from tests.serving.models import face, text_of
from tests.serving.test_request import make_spec


@pytest.fixture(scope="module")
def page(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a running page."""
    import uvicorn

    loaded = load_backbone(checkpoint)
    spec = spec_of(loaded.config, runtime="torch", calibration=make_spec().calibration)
    folder = stage(loaded, spec, tmp_path_factory.mktemp("demo"), card="").predictor
    service = Service(spec, build_embedder(spec, folder, device=torch.device("cpu")))
    port = free_port()
    config = uvicorn.Config(build_app(service, title="models:/faces@champion"), host=HOST, port=port, log_level="error")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 30
    while not server.started and time.monotonic() < deadline:
        time.sleep(0.05)
    yield f"http://{HOST}:{port}"
    server.should_exit = True
    thread.join(10)


def compare(page: str, body: Any, **headers: str) -> requests.Response:
    return requests.post(f"{page}/api/compare", json=body, headers=headers, timeout=30)


def test_a_comparison_gives_the_similarity_the_decision_and_the_crops(page: str) -> None:
    a, b = text_of(face(1)), text_of(face(2))
    answer = compare(page, {"image_a": a, "image_b": b, "far": 0.01}).json()
    assert answer["same_person"] is (answer["similarity"] >= answer["threshold"])
    assert answer["threshold"] == 0.3
    assert base64.b64decode(answer["crops"][0].partition(",")[2]).startswith(b"\x89PNG")
    assert compare(page, {"image_a": a, "image_b": a}).json()["similarity"] == pytest.approx(1.0)


def test_the_page_knows_the_thresholds_and_brings_everything_with_it(page: str) -> None:
    model = requests.get(f"{page}/api/model", timeout=30).json()
    assert [entry["far"] for entry in model["calibration"]["thresholds"]] == [1e-2, 1e-3, 1e-4]
    for path in ("/", "/page.js", "/page.css"):
        response = requests.get(page + path, timeout=30)
        assert response.status_code == 200
        assert "default-src 'self'" in response.headers["Content-Security-Policy"]
        assert "https://" not in response.text
        assert "http://" not in response.text


MISTAKES: list[Any] = [
    [],
    {},
    {"image_a": "!!", "image_b": "!!"},
    {"image_a": 5},
    {"image_a": [], "image_b": {}},
    {"image_a": {}},
    {"far": 0.3},
    {"far": 10**400},
    {"threshold": -(10**400)},
    {"image_a": [0] * 100_000},
    {"image_a": json.loads("[" * 40 + "]" * 40)},
]


@pytest.mark.parametrize("body", MISTAKES)
def test_mistakes_are_one_sentence(page: str, body: Any) -> None:
    response = compare(page, body)
    assert response.status_code == 400
    assert "\n" not in response.json()["error"]


def test_other_sites_are_kept_out(page: str) -> None:
    body = {"image_a": text_of(face(1)), "image_b": text_of(face(2))}
    assert compare(page, body, Host="evil.example").status_code == 400
    assert compare(page, body, **{"Content-Type": "text/plain"}).status_code == 400


def test_a_large_body_is_refused(page: str) -> None:
    response = compare(page, {"image_a": "x" * 40_000_000})
    assert response.status_code == 400
    assert "too large" in response.json()["error"]


def test_a_client_that_hangs_up_is_no_error_of_the_server() -> None:
    messages = iter([{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}])

    async def receive() -> Any:
        return next(messages)

    request = Request({"type": "http", "headers": [(b"content-type", b"application/json")]}, receive)
    with pytest.raises(UsageError, match="was closed"):
        asyncio.run(app._read(request))


def test_a_damaged_predictor_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    loaded = load_backbone(checkpoint)
    spec = spec_of(loaded.config, runtime="torch", calibration=make_spec().calibration)
    folder = stage(loaded, spec, tmp_path, card="").predictor
    assert load_any(str(folder), device="cpu").spec.calibration is not None
    path = folder / "predictor.json"
    path.write_text(path.read_text().replace("0.3", "0.1"))
    with pytest.raises(CheckpointError, match=r"predictor\.json has changed"):
        load_any(str(folder), device="cpu")


def test_a_checkpoint_can_be_tried_without_thresholds(checkpoint: Path) -> None:
    service = load_any(str(checkpoint), device="cpu")
    assert service.spec.calibration is None


@pytest.mark.slow
def test_the_page_works_in_a_browser(page: str, tmp_path: Path) -> None:
    pytest.importorskip("selenium.webdriver", reason="the browser test needs selenium")
    if find_programs() is None:
        pytest.skip("the browser test needs chromium and chromedriver")
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    (tmp_path / "a.png").write_bytes(face(1))
    with open_browser(1000, 1100) as browser:
        browser.get(page)
        wait = WebDriverWait(browser, 60)
        wait.until(lambda _: browser.find_elements(By.CSS_SELECTOR, "#far option"))
        browser.find_element(By.CSS_SELECTOR, "#slot-a input").send_keys(str(tmp_path / "a.png"))
        # Dropped as a user drops it: a file in the data of the event.
        browser.execute_script(
            """
            const bytes = Uint8Array.from(atob(arguments[0]), (letter) => letter.charCodeAt(0));
            const transfer = new DataTransfer();
            transfer.items.add(new File([bytes], "b.png", { type: "image/png" }));
            document.getElementById("slot-b").dispatchEvent(new DragEvent("drop", { dataTransfer: transfer }));
            """,
            text_of(face(1)),
        )
        decision = browser.find_element(By.ID, "decision")
        wait.until(lambda _: decision.text == "Same person")
        assert "similarity 1.0000" in browser.find_element(By.ID, "numbers").text
        assert "threshold 0.4000" in browser.find_element(By.ID, "numbers").text
        assert browser.find_element(By.ID, "crops").is_displayed()
        browser.find_element(By.CSS_SELECTOR, "#far option[value='0.01']").click()
        wait.until(lambda _: "threshold 0.3000" in browser.find_element(By.ID, "numbers").text)
        (tmp_path / "a.png").write_bytes(b"no picture")
        browser.find_element(By.CSS_SELECTOR, "#slot-a input").send_keys(str(tmp_path / "a.png"))
        wait.until(lambda _: "no JPEG, PNG or WebP" in decision.text)
        mistakes = [entry for entry in browser.get_log("browser") if "/api/compare" not in entry["message"]]
        assert not mistakes
