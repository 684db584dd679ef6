"""A real server survives every bad request, leaks nothing, and answers the next good one as before."""

from __future__ import annotations

import io
import json
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
from PIL import Image

from tests.serving.conftest import Registered, checkpoint, pairs, registered
from tests.serving.models import Served, face, serve, text_of
from tests.serving.test_images import bomb, large_webp, many_chunks, many_scans, save

__all__ = ["checkpoint", "pairs", "registered"]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.*AnyType:UserWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

GOOD = {"image_a": text_of(face(1)), "image_b": text_of(face(1, 1))}
_LEAKS = ("Traceback", 'File "', "/site-packages", ".py", GOOD["image_a"][40:120])


@pytest.fixture(scope="module")
def served(registered: Registered, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    log = tmp_path_factory.mktemp("served") / "log.txt"
    with serve("models:/faces@champion", tracking_uri=registered.tracking_uri, log=log) as server:
        yield server


@pytest.fixture
def unhurt(served: Served, registered: Registered) -> Iterator[Served]:
    """The server; afterwards a good request gives the same embedding, and neither memory nor log has grown much."""
    alone = {"image_a": GOOD["image_a"]}
    before, memory, told = served.ask(alone, mode="embed"), served.rss(), served.log.stat().st_size
    yield served
    assert served.ask(alone, mode="embed") == before
    assert served.rss() - memory < 200e6
    written = served.log.read_text(errors="replace")[told:]
    assert len(written) < 20_000
    for leak in (*_LEAKS, str(registered.folder)):
        assert leak not in written, leak


def check_refusal(response: requests.Response, registered: Registered, *, status: range = range(400, 500)) -> None:
    """One sentence, which gives nothing away."""
    assert response.status_code in status, response.text
    assert len(response.text) < 600
    for leak in (*_LEAKS, str(registered.folder), "stack_trace"):
        assert leak not in response.text, leak


def palette_gif() -> bytes:
    return save(Image.new("P", (32, 32)), "GIF")


ROWS: dict[str, Any] = {
    "truncated": text_of(face(1)[:150]),
    "bomb": text_of(bomb()),
    "JPEG of 400,000 scans": text_of(many_scans(400_000)),
    "PNG of 600,000 chunks": text_of(many_chunks(600_000)),
    "GIF": text_of(palette_gif()),
    "SVG": text_of(b"<svg xmlns='http://www.w3.org/2000/svg'><script/></svg>"),
    "no base64": "this is no base64!",
    "zero bytes": "",
    "null": None,
    "null bytes": text_of(bytes(1000)),
}


@pytest.mark.parametrize("kind", list(ROWS))
def test_a_bad_picture_costs_its_row_alone(unhurt: Served, registered: Registered, kind: str) -> None:
    answers = unhurt.ask(GOOD, {"image_a": ROWS[kind], "image_b": GOOD["image_b"]}, GOOD)
    assert answers[0] == answers[2]
    assert answers[0]["error"] is None
    sentence = answers[1]["error"]
    assert sentence.startswith("row 1, image_a: the picture ")
    assert "\n" not in sentence
    for leak in (*_LEAKS, str(registered.folder)):
        assert leak not in sentence
    refused = unhurt.post(
        {"dataframe_records": [GOOD, {**GOOD, "image_a": ROWS[kind]}], "params": {"on_error": "fail"}}
    )
    check_refusal(refused, registered)
    assert refused.json()["message"] == sentence


def test_a_request_has_pixels_and_no_more(unhurt: Served, registered: Registered) -> None:
    rows = [{"image_a": text_of(large_webp(number))} for number in range(70)]
    assert len({row["image_a"] for row in rows}) == 70
    start = time.monotonic()
    answers = unhurt.ask(*rows, mode="embed")
    assert time.monotonic() - start < 30
    # 64 pictures of 2048 x 2048 pixels have 2**28 together.
    assert [answer["error"] is None for answer in answers] == [True] * 64 + [False] * 6
    assert "row 64, image_a: the picture is beyond the 268435456 pixels" in answers[64]["error"]


def test_odd_pictures_are_answered(unhurt: Served) -> None:
    pixels = np.asarray(Image.open(io.BytesIO(face(1))))
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = save(Image.fromarray(np.ascontiguousarray(np.rot90(pixels))), "PNG", exif=exif)
    odd = {
        "EXIF": turned,
        "CMYK": save(Image.fromarray(pixels).convert("CMYK"), "JPEG", quality=95),
        "grey": save(Image.fromarray(pixels).convert("L"), "PNG"),
        "16 bit": save(Image.fromarray(pixels[..., 0].astype(np.uint16) * 257), "PNG"),
        "other size": save(Image.fromarray(pixels).resize((300, 200)), "WEBP"),
    }
    answers = unhurt.ask(*[{**GOOD, "image_b": text_of(data)} for data in odd.values()])
    assert [answer["error"] for answer in answers] == [None] * len(odd)
    upright = unhurt.ask({"image_a": GOOD["image_a"], "image_b": GOOD["image_a"]})[0]
    assert answers[0]["similarity"] == pytest.approx(upright["similarity"], abs=1e-6)


BODIES: dict[str, bytes] = {
    "10,000 rows": json.dumps({"dataframe_records": [{"image_a": "x"}] * 10_000}).encode(),
    "deep JSON": b'{"inputs": ' + b"[" * 200_000 + b"]" * 200_000 + b"}",
    "no JSON": b"\xff\xfe\x00",
    "a list": b"[]",
    "no input": b"{}",
    "no column": json.dumps({"dataframe_records": [{"picture": GOOD["image_a"]}]}).encode(),
    "odd table": b'{"dataframe_split": {"columns": 7}}',
    "ragged table": json.dumps({"dataframe_split": {"columns": ["image_a"], "data": [["a", "b"], []]}}).encode(),
    "unknown parameter": json.dumps({"inputs": [GOOD], "params": {"thresold": 0.5}}).encode(),
    "parameter of another type": json.dumps({"inputs": [GOOD], "params": {"threshold": [1]}}).encode(),
    "unknown rate": json.dumps({"inputs": [GOOD], "params": {"far": 0.3}}).encode(),
    "unknown mode": json.dumps({"inputs": [GOOD], "params": {"mode": GOOD["image_a"]}}).encode(),
    "huge number": b'{"inputs": [' + b"9" * 100_000 + b"]}",
    "numbers": b'{"inputs": 5}',
    "200 MB": b" " * 200_000_000,
}


@pytest.mark.parametrize("kind", list(BODIES))
def test_a_bad_body_is_refused_in_one_sentence(unhurt: Served, registered: Registered, kind: str) -> None:
    check_refusal(unhurt.post(BODIES[kind]), registered)


def test_a_long_body_of_unknown_length_is_refused(unhurt: Served, registered: Registered) -> None:
    def parts() -> Iterator[bytes]:
        for _ in range(100):
            yield bytes(1_000_000)

    response = requests.post(
        f"{unhurt.url}/invocations", data=parts(), headers={"Content-Type": "application/json"}, timeout=60
    )
    check_refusal(response, registered, status=range(413, 414))


def test_a_client_that_hangs_up_leaves_nothing_in_the_log(unhurt: Served) -> None:
    port = int(unhurt.url.rpartition(":")[2])
    told = unhurt.log.stat().st_size
    head = b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n"
    for _ in range(3):
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(head + b"x" * 500)
            time.sleep(0.2)
    time.sleep(0.5)
    unhurt.ask(GOOD)
    written = unhurt.log.read_text(errors="replace")[told:]
    assert "ClientDisconnect" not in written
    assert "Traceback" not in written


def large_body(seed: int) -> bytes:
    """JSON of 31 MB: pictures of noise, none of which is another's."""
    generator = np.random.default_rng(seed)
    noise = [generator.integers(0, 256, (1000, 1000, 3), np.uint8) for _ in range(7)]
    rows = [{"image_a": text_of(save(Image.fromarray(pixels), "PNG", compress_level=0))} for pixels in noise]
    return json.dumps({"dataframe_records": rows, "params": {"mode": "embed"}}).encode()


def send_twice(served: Served, bodies: list[bytes], check: Callable[[list[requests.Response]], None]) -> None:
    """Send bodies at the same time, twice: what is freed may stay with the process, but no more of it every time."""
    kept = []
    for _ in range(2):
        with ThreadPoolExecutor(len(bodies)) as threads:
            check(list(threads.map(served.post, bodies)))
        kept.append(served.rss())
    assert kept[1] - kept[0] < 100e6
    assert served.ask(GOOD)[0]["error"] is None


def test_two_of_the_largest_requests_at_a_time_take_little_memory(served: Served) -> None:
    bodies = [large_body(seed) for seed in (1, 2)]
    assert all(28_000_000 < len(body) < 1 << 25 for body in bodies)

    def check(responses: list[requests.Response]) -> None:
        assert [response.status_code for response in responses] == [200, 200]
        assert all(answer["error"] is None for response in responses for answer in response.json()["predictions"])

    before = served.rss()
    served.forget_peak()
    send_twice(served, bodies, check)
    assert served.peak() - before < 200e6


def test_requests_beyond_what_a_server_holds_are_sent_away(served: Served, registered: Registered) -> None:
    def check(responses: list[requests.Response]) -> None:
        for response in responses:
            check_refusal(response, registered, status=range(400, 504))
        assert {response.status_code for response in responses} == {400, 503}

    before = served.rss()
    served.forget_peak()
    send_twice(served, [b" " * ((1 << 25) - 1)] * 12, check)
    assert served.peak() - before < 600e6


def test_content_types(unhurt: Served, registered: Registered) -> None:
    url = f"{unhurt.url}/invocations"
    check_refusal(requests.post(url, data=b"{}", headers={"Content-Type": None}, timeout=60), registered)  # type: ignore[dict-item]
    for kind in (
        "text/xml",
        "application/json; charset=latin-1",
        "application/json; a=b",
        ";;;",
        "application/x-parquet",
    ):
        check_refusal(unhurt.post(b"{}", **{"Content-Type": kind}), registered, status=range(415, 416))
    check_refusal(unhurt.post(b"\xff\xfejunk", **{"Content-Type": "text/csv"}), registered)
    for kind in ("application/json; charset=utf-8", "application/json;charset=UTF-8", "Application/JSON;"):
        assert unhurt.post({"inputs": [GOOD]}, **{"Content-Type": kind}).status_code == 200


def test_extra_columns_are_passed_over(unhurt: Served) -> None:
    assert unhurt.ask({**GOOD, "comment": "hello"}) == unhurt.ask(GOOD)


def test_all_five_formats_are_answered_alike(unhurt: Served) -> None:
    (expected,) = unhurt.ask(GOOD)
    columns, values = list(GOOD), list(GOOD.values())
    for body in (
        {"dataframe_split": {"columns": columns, "data": [values]}},
        {"inputs": [GOOD]},
        {"inputs": {name: [value] for name, value in GOOD.items()}},
        {"instances": [GOOD]},
    ):
        assert unhurt.post(body).json() == {"predictions": [expected]}
    table = f"{','.join(columns)}\n{','.join(values)}\n".encode()
    assert unhurt.post(table, **{"Content-Type": "text/csv"}).json() == {"predictions": [expected]}


def test_the_log_of_the_server_names_no_picture_and_no_path(served: Served, registered: Registered) -> None:
    text = Path(served.log).read_text(errors="replace")
    assert "Traceback" not in text
    assert GOOD["image_a"][40:120] not in text
    assert str(registered.folder) not in text
