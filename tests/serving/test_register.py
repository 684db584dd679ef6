"""The alias moves only to a model that is not worse; what is registered can be found again."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from facerec.errors import MissingPathError, UsageError
from facerec.models.weights import load_backbone
from facerec.serving.appraise import appraise
from facerec.serving.enrol import enrol
from facerec.serving.gallery import save_gallery
from facerec.serving.predictor import Predictor
from facerec.serving.register import register
from facerec.serving.versions import check_name, list_models, show_model
from tests.packs import write_pair_set
from tests.serving.conftest import Registered
from tests.serving.models import face, text_of, write_checkpoint

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.*AnyType:UserWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


@pytest.fixture
def store(registered: Registered, monkeypatch: pytest.MonkeyPatch) -> Registered:
    """The store of the registered model, chosen by the environment."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", registered.tracking_uri)
    monkeypatch.chdir(Path(registered.tracking_uri.removeprefix("sqlite:///")).parent)
    return registered


def test_the_first_version_gets_the_alias(store: Registered) -> None:
    registration = store.registration
    assert (registration.version, registration.alias, registration.decision.gate) == (1, "champion", "first")
    assert list(registration.thresholds) == ["0.01", "0.001", "0.0001"]
    assert {"name": "faces", "latest_version": 1, "aliases": {"champion": 1}} in list_models()
    (version,) = show_model("faces")["versions"]
    assert version["tags"]["gate"] == "first"
    assert version["tags"]["people.sha256"]
    assert version["model_card"].startswith("# faces")


def test_a_predictor_comes_from_the_registry(store: Registered, tmp_path: Path) -> None:
    predictor = Predictor.from_mlflow("models:/faces@champion", device="cpu")
    paths = [tmp_path / f"{k}.png" for k in range(2)]
    for k, path in enumerate(paths):
        path.write_bytes(face(k))
    direct = Predictor(checkpoint_path=store.checkpoint, use_cpu=True)
    assert predictor.predict(*paths) == pytest.approx(direct.predict(*paths), abs=1e-6)
    assert predictor.threshold(1e-3) == store.registration.thresholds["0.001"]
    assert direct.threshold(1e-3) is None
    assert predictor.weights_sha256 == direct.weights_sha256
    with pytest.raises(UsageError, match="no address in MLflow"):
        Predictor.from_mlflow(str(store.checkpoint))


def test_the_gate_lets_an_equal_model_through_and_holds_a_worse_one_back(store: Registered, tmp_path: Path) -> None:
    pairs = write_pair_set(tmp_path / "gate.bin", pairs=200)
    first = register(str(store.checkpoint), name="gate", bins=[str(pairs)], device="cpu")
    assert first.decision.gate == "first"
    same = register(str(store.checkpoint), name="gate", bins=[str(pairs)], device="cpu")
    assert (same.decision.gate, same.alias, same.present_version) == ("passed", "champion", 1)
    assert same.decision.comparisons[0].tar_difference == 0.0
    spoiled = write_checkpoint(tmp_path / "spoiled", noise=3.0)
    worse = register(str(spoiled), name="gate", bins=[str(pairs)], device="cpu")
    assert (worse.decision.gate, worse.alias, worse.version) == ("failed", None, 3)
    assert worse.decision.reasons
    assert show_model("gate")["aliases"] == {"champion": 2}
    tags = show_model("gate")["versions"][0]["tags"]
    assert tags["compared_with"] == "2"
    assert json.loads(tags["gate.comparison"])["accuracy_present"] > json.loads(tags["gate.comparison"])["accuracy_new"]
    forced = register(str(spoiled), name="gate", bins=[str(pairs)], force=True, device="cpu")
    assert (forced.decision.gate, forced.alias) == ("forced", "champion")


@pytest.mark.parametrize(
    ("alias", "sentence"), [("best one", "cannot be an alias"), ("v3", "is reserved"), ("Latest", "is reserved")]
)
def test_an_alias_that_no_version_could_have_is_refused(store: Registered, alias: str, sentence: str) -> None:
    before = show_model("faces")
    with pytest.raises(UsageError, match=sentence):
        register(str(store.checkpoint), name="faces", alias=alias, device="cpu")
    assert show_model("faces") == before


def test_scores_of_this_very_model_are_taken_and_those_of_another_are_not(store: Registered) -> None:
    known = appraise(load_backbone(store.checkpoint))
    # Recognisable: it claims that there were no pairs.
    marked = dataclasses.replace(known, results=(), spec=dataclasses.replace(known.spec, calibration=None))
    taken = register(str(store.checkpoint), name="known", device="cpu", appraisal=marked)
    assert taken.thresholds == {}
    other = dataclasses.replace(marked, weights_sha256="0" * 64)
    assert register(str(store.checkpoint), name="known", device="cpu", appraisal=other).thresholds


def test_without_pairs_nothing_can_be_compared(store: Registered, tmp_path: Path) -> None:
    bare = write_checkpoint(tmp_path / "bare")
    first = register(str(bare), name="bare", device="cpu")
    assert (first.decision.gate, first.thresholds) == ("first", {})
    second = register(str(bare), name="bare", device="cpu")
    assert second.decision.gate == "failed"
    assert "no pair set" in second.decision.reasons[0]
    unasked = register(str(bare), name="bare", alias=None, device="cpu")
    assert (unasked.decision.gate, unasked.alias) == ("not asked", None)


def test_mistakes_are_named(store: Registered) -> None:
    with pytest.raises(UsageError, match="cannot be a name"):
        check_name("a/b")
    with pytest.raises(MissingPathError, match="no model is registered as 'nobody'"):
        show_model("nobody")
    with pytest.raises(MissingPathError, match="absent does not exist"):
        register("absent", name="x")


@pytest.mark.filterwarnings("ignore")
def test_a_gallery_and_the_onnx_runtime_travel_with_the_model(store: Registered, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="the ONNX runtime needs the extra 'onnx'")
    import mlflow
    import pandas as pd

    people = tmp_path / "people"
    people.mkdir()
    for person in range(4):
        (people / f"person {person}.png").write_bytes(face(7000 + 3 * person))
    direct = Predictor(checkpoint_path=store.checkpoint, use_cpu=True)
    save_gallery(enrol(people, direct, fpir=0.25), tmp_path / "g.safetensors")
    registration = register(
        str(store.checkpoint), name="onnx", gallery=str(tmp_path / "g.safetensors"), runtime="onnx", device="cpu"
    )
    model = mlflow.pyfunc.load_model(registration.uri)
    table = pd.DataFrame({"image_a": [text_of(face(7006)), "!!"]})
    found, refused = model.predict(table, params={"mode": "search", "top": 2})
    assert found["matches"][0]["name"] == "person 2"
    assert found["matches"][0]["match"] is True
    assert (found["fpir"], len(found["matches"])) == (0.25, 2)
    assert refused["matches"] is None
    assert "no valid base64" in refused["error"]
    (embedded,) = model.predict(table[:1], params={"mode": "embed"})
    (expected,) = direct.embed(people / "person 2.png")
    assert np.abs(expected - np.array(embedded["embedding"])).max() <= 1e-4
    other = write_checkpoint(tmp_path / "other", seed=5)
    with pytest.raises(UsageError, match="another model"):
        register(str(other), name="onnx", gallery=str(tmp_path / "g.safetensors"), device="cpu")
