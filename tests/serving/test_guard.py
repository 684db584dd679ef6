"""What stands at the door of the scoring server."""

from __future__ import annotations

import json
from typing import Any

import pytest

from facerec.errors import UsageError
from facerec.serving.guard import _careful, guard_server, read_json
from facerec.serving.images import Limits
from facerec.serving.refusal import Refusal, refuse


def test_a_good_body_is_parsed() -> None:
    body = {"dataframe_records": [{"image_a": "x{[", "image_b": None}], "params": {"mode": "embed"}}
    assert read_json(json.dumps(body).encode()) == body
    assert read_json(b'{"inputs": [], "params": null}') == {"inputs": [], "params": None}


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"", "no valid JSON"),
        (b"\xff", "no valid JSON"),
        (b"{", "no valid JSON"),
        (b"[1]", "must be a JSON object"),
        (b"{}", "exactly one of"),
        (b'{"inputs": [], "instances": []}', "exactly one of"),
        (b'{"inputs": [], "param": {}}', "unknown key 'param'"),
        (b'{"inputs": [], "params": []}', "params must be an object"),
        (b'{"inputs": [], "params": {"farr": 1}}', "unknown parameter 'farr'"),
        (b'{"inputs": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested more than 32 levels"),
        (b'{"inputs": ' + b'{"a":' * 40 + b"1" + b"}" * 40 + b"}", "nested more than 32 levels"),
    ],
)
def test_a_bad_body_is_refused_in_one_sentence(body: bytes, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence) as caught:
        read_json(body)
    assert len(str(caught.value)) < 200


def test_many_rows_are_not_deep() -> None:
    body = json.dumps({"inputs": [{"image_a": "x"}] * 1000}).encode()
    assert len(read_json(body, limits=Limits(json_depth=4))["inputs"]) == 1000


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("text/csv", b"image_a" + b"," * 200_000 + b"\nx\n"),
        ("text/csv", b"image_a\n" + b"x\n" * 600_000),
        ("text/csv", b"image_a\r" + b"x\r" * 600_000),
        ("application/json", b'{"instances": [' + b"{}," * 200_000 + b"{}]}"),
    ],
)
def test_a_body_of_very_many_values_is_refused_before_it_is_parsed(kind: str, body: bytes) -> None:
    def parse(*arguments: object) -> None:
        pytest.fail("the body was parsed")

    with pytest.raises(Refusal, match="too many values; at most 1024 rows"):
        _careful(parse, Limits())(body, kind, None, None)


def test_a_refusal_keeps_its_sentence_whatever_mlflow_writes_into_it() -> None:
    error: Any = refuse("row 0 is\n no picture")
    error.message = "Failed to predict data 'the whole picture'"
    assert json.loads(error.serialize_as_json())["message"] == "row 0 is no picture"
    assert error.get_http_status_code() == 400


# MLflow warns of types in its own code when this module is imported.
@pytest.mark.filterwarnings("ignore:.*AnyType:UserWarning")
def test_outside_of_a_server_nothing_is_touched() -> None:
    from mlflow.pyfunc import scoring_server

    before = scoring_server.invocations
    assert guard_server() is False
    assert scoring_server.invocations is before
