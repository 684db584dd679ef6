"""What stands at the door of the scoring server."""

from __future__ import annotations

import json
import sys
from types import ModuleType
from typing import Any

import pandas as pd
import pytest

from facerec.errors import UsageError
from facerec.serving import guard
from facerec.serving.bodies import read_json, read_table
from facerec.serving.guard import UNGUARDED, _careful, guard_server
from facerec.serving.images import Limits
from facerec.serving.refusal import Refusal, refuse
from tests.serving.test_request import make_spec


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
        (b'{"a": "' + b"]" * 200 + b'", "inputs": ' + b"[" * 100 + b"]" * 100 + b"}", "nested more than 32 levels"),
        (rb'{"a": "\\", "inputs": ' + b"[" * 100 + b"]" * 100 + b"}", "nested more than 32 levels"),
        (rb'{"a": "\"", "inputs": ' + b"[" * 100 + b"]" * 100 + b"}", "nested more than 32 levels"),
        ("{}".encode("utf-16"), "no valid JSON"),
        (b"[]" * 1_000_000, "too many values"),
    ],
)
def test_a_bad_body_is_refused_in_one_sentence(body: bytes, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence) as caught:
        read_json(body)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("text", ["[" * 100, "]" * 100 + "{" * 100, '"[' * 100, "\\" + "[" * 100, '\\"' + "{" * 100])
def test_brackets_in_texts_are_not_deep(text: str) -> None:
    body = {"inputs": [{"image_a": text, "image_b": text}]}
    assert read_json(json.dumps(body).encode()) == body
    assert read_json(b"\xef\xbb\xbf" + json.dumps(body).encode()) == body


def test_a_body_is_gone_once_it_is_parsed() -> None:
    body, table = bytearray(b'{"inputs": []}'), bytearray("image_a\nä\n".encode())
    assert (read_json(body), read_table(table)) == ({"inputs": []}, "image_a\nä\n")
    assert (body, table) == (b"", b"")
    with pytest.raises(UsageError, match="no text in UTF-8"):
        read_table(b"\xff")


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


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Any:
    """MLflow's scoring server as it is while its application loads a model; afterwards it is as before."""
    from mlflow.pyfunc import scoring_server

    for name in (guard._ENDPOINT, guard._ANSWER, guard._MAKER):
        monkeypatch.setattr(scoring_server, name, getattr(scoring_server, name))
    monkeypatch.setitem(sys.modules, guard._APPLICATION, ModuleType("app"))
    monkeypatch.delenv(UNGUARDED, raising=False)
    return scoring_server


needs_server = pytest.mark.filterwarnings("ignore:.*AnyType:UserWarning")


@needs_server
def test_a_server_is_wrapped(server: Any) -> None:
    before = server.invocations
    with pd.option_context("mode.string_storage", "auto"):
        assert guard_server() is True
        assert pd.get_option("mode.string_storage") == "python"
    assert server.invocations is not before


def renamed(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(server, guard._ENDPOINT)


def unused(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "init", lambda model: model)


def moved(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, guard._APPLICATION)
    monkeypatch.setenv(server._SERVER_MODEL_PATH, "/a/model")


def another(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, guard._APPLICATION)
    monkeypatch.setitem(sys.modules, "mlserver", ModuleType("mlserver"))


@needs_server
@pytest.mark.parametrize("change", [renamed, unused, moved, another])
def test_a_server_that_cannot_be_wrapped_gets_no_model_unless_the_environment_allows_it(
    change: Any, server: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    before = server.invocations
    change(server, monkeypatch)
    with pytest.raises(UsageError, match="FACEREC_ALLOW_UNGUARDED=1"):
        guard_server()
    monkeypatch.setenv(UNGUARDED, "yes")
    with pytest.raises(UsageError):
        guard_server()
    assert not caplog.records
    monkeypatch.setenv(UNGUARDED, "1")
    assert guard_server() is True
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert server.invocations is before


class Failing:
    """A service whose runtime fails, with a message that names a file and the request."""

    def __init__(self, error: Exception) -> None:
        self.spec = make_spec()
        self._error = error

    def answer(self, rows: Any, request: Any) -> Any:
        raise self._error


@needs_server
def test_a_fault_of_the_server_is_a_500_and_its_kind_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    from facerec.serving.pyfunc_model import FacePredictor

    predictor = FacePredictor()
    predictor._service = Failing(RuntimeError("/a/path: the picture"))  # type: ignore[assignment]

    def answer(*arguments: object) -> None:
        predictor.predict(None, pd.DataFrame({"image_a": ["x"]}))

    with pytest.raises(Refusal) as caught:
        _careful(answer, Limits())(b'{"inputs": []}', "application/json", None, None)
    assert caught.value.get_http_status_code() == 500
    told = json.loads(caught.value.serialize_as_json())
    assert (told["error_code"], told["message"]) == (
        "INTERNAL_ERROR",
        "the server failed at this request; its log has the kind of error",
    )
    assert [record.getMessage() for record in caplog.records] == ["a request failed: RuntimeError"]
    assert caplog.records[0].exc_info is None


@needs_server
def test_a_mistake_of_the_client_stays_a_400_and_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    from facerec.serving.pyfunc_model import FacePredictor

    predictor = FacePredictor()
    predictor._service = Failing(UsageError("5 rows are too many"))  # type: ignore[assignment]
    for table, sentence in ((pd.DataFrame({"image_a": ["x"]}), "5 rows are too many"), (pd.DataFrame(), "image_a")):
        with pytest.raises(Refusal, match=sentence) as caught:
            predictor.predict(None, table)
        assert caught.value.get_http_status_code() == 400
    assert not caplog.records
