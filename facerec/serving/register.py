"""From a checkpoint to a version in the registry, and to the alias that is served."""

from __future__ import annotations

import base64
import dataclasses
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from facerec.config.load import load_config
from facerec.data.pairs import PairSet
from facerec.errors import FacerecError
from facerec.evaluation.result import PairResult
from facerec.models.device import resolve_device
from facerec.models.weights import LoadedBackbone, load_backbone
from facerec.serving import versions
from facerec.serving.appraise import Appraisal, appraise, verify
from facerec.serving.card import write_card
from facerec.serving.example import example_picture
from facerec.serving.gallery import gallery_files, load_gallery
from facerec.serving.gate import SetComparison, compare_results
from facerec.serving.locate import locate_model
from facerec.serving.package import stage
from facerec.serving.spec import EnoughPairs, PredictorSpec
from facerec.serving.weights import weights_sha256

if TYPE_CHECKING:
    from mlflow import MlflowClient

__all__ = ["Decision", "Gate", "Registration", "register"]

Gate = Literal["first", "passed", "forced", "failed", "not asked"]
_LET_THROUGH = ("first", "passed", "forced")


@dataclass(frozen=True, kw_only=True)
class Decision:
    """Whether a version gets the alias, and why."""

    gate: Gate
    reasons: tuple[str, ...] = ()
    """Why it is worse than the present version, or cannot be compared with it."""
    comparisons: tuple[SetComparison, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Registration:
    """What became of a model."""

    name: str
    version: int
    uri: str
    """``models:/NAME/VERSION``."""
    alias: str | None
    """The alias that the version has now; None where the gate held it back or none was asked for."""
    present_version: int | None
    """The version that had the alias before."""
    pair_sets: tuple[str, ...]
    thresholds: dict[str, float]
    """By false accept rate."""
    enough_pairs: dict[str, EnoughPairs]
    """By false accept rate: whether the impostor pairs can show it."""
    decision: Decision


def register(
    model: str,
    *,
    name: str,
    alias: str | None = "champion",
    config_path: str | None = None,
    bins: Sequence[str] = (),
    gallery: str | None = None,
    runtime: Literal["torch", "onnx"] = "torch",
    data_license: str | None = None,
    force: bool = False,
    device: str = "auto",
    appraisal: Appraisal | None = None,
) -> Registration:
    """Register a model, and give it the alias unless it is worse than the version that has it.

    Args:
        model: A checkpoint or run folder, a weights file, ``runs:/…`` or ``models:/…``.
        name: Name in the registry.
        alias: Alias that the version gets if the gate lets it; None for none.
        config_path: Configuration of weights that carry none.
        bins: Pair sets for thresholds and gate, in place of the configuration's; the thresholds come from the first.
        gallery: Gallery that the mode ``search`` uses.
        runtime: What computes on a CPU.
        data_license: Licence of the training data, for the model card.
        force: Give the alias in any case.
        device: Where to verify.
        appraisal: What is known of this very model already, in place of verifying it on ``bins`` again.

    Raises:
        UsageError: the name or the alias cannot be one, or the gallery belongs to another model.
        FacerecError: as loading, verifying and packing say.
        TrackingError: the registry does not answer, or refuses.
    """
    versions.check_name(name)
    if alias is not None:
        versions.check_alias(alias)
    loaded, source_run = _load(model, config_path=config_path, device=device)
    files = _gallery_of(loaded, Path(gallery)) if gallery is not None else ()
    if appraisal is None or appraisal.weights_sha256 != weights_sha256(loaded.backbone):
        appraisal = appraise(loaded, bins=bins, runtime=runtime)
    pair_sets, results, spec = appraisal.pair_sets, appraisal.results, appraisal.spec
    with versions.registry() as client:
        present = versions.version_with(client, name, alias)
        decision = _decide(results, pair_sets, name=name, alias=alias, present=present, force=force, device=device)
        card = write_card(name, spec=spec, facts=appraisal.facts, data_license=data_license)
        version = _log(client, name, loaded, spec=spec, card=card, gallery=files, run_id=source_run)
        registration = Registration(
            name=name,
            version=version,
            uri=f"models:/{name}/{version}",
            alias=alias if decision.gate in _LET_THROUGH else None,
            present_version=present,
            pair_sets=tuple(pair_set.name for pair_set in pair_sets),
            thresholds={f"{entry.far:g}": entry.threshold for entry in spec.thresholds},
            enough_pairs={f"{entry.far:g}": entry.enough_pairs for entry in spec.thresholds},
            decision=decision,
        )
        _publish(client, registration, results, card=card, run_id=source_run)
    return registration


def _gallery_of(loaded: LoadedBackbone, path: Path) -> tuple[Path, ...]:
    """The files of a gallery that this very model has made."""
    gallery = load_gallery(path)
    gallery.check_model(weights_sha256(loaded.backbone), flip=loaded.config.eval.flip)
    return gallery_files(path, people=len(gallery.facts.names))


def _log(
    client: MlflowClient,
    name: str,
    loaded: LoadedBackbone,
    *,
    spec: PredictorSpec,
    card: str,
    gallery: Sequence[Path],
    run_id: str | None,
) -> int:
    """Pack the model and make it a version; returns its number."""
    with tempfile.TemporaryDirectory() as folder:
        staged = stage(loaded, spec, Path(folder), card=card, gallery=gallery)
        example = base64.b64encode(example_picture(spec.image_hw)).decode("ascii")
        return versions.log_version(client, name, staged=staged, runtime=spec.runtime, example=example, run_id=run_id)


def _publish(
    client: MlflowClient, registration: Registration, results: Sequence[PairResult], *, card: str, run_id: str | None
) -> None:
    """Describe a version, give it its alias, and keep the comparison with the run."""
    name, version = registration.name, registration.version
    versions.describe_version(client, name, version, description=card, tags=_tags(registration, results))
    if registration.alias is not None:
        client.set_registered_model_alias(name, registration.alias, str(version))
    if run_id is not None and registration.decision.comparisons:
        content = json.dumps(dataclasses.asdict(registration), indent=2)
        client.log_text(run_id, content, f"registry/{name}-version-{version}.json")


def _load(model: str, *, config_path: str | None, device: str) -> tuple[LoadedBackbone, str | None]:
    """The backbone, and the run that it comes from where that is known."""
    target = resolve_device(device)
    path = locate_model(model)
    loaded = load_backbone(path, config=load_config(config_path) if config_path else None, device=target)
    if model.startswith("runs:/"):
        return loaded, model.removeprefix("runs:/").partition("/")[0]
    return loaded, versions.known_run(_stored_run(loaded.path))


def _stored_run(path: Path) -> str | None:
    state = path / "state.json"
    if not state.is_file():
        return None
    run_id = json.loads(state.read_text(encoding="utf-8")).get("tracker_run_id")
    return run_id if isinstance(run_id, str) else None


def _decide(
    results: Sequence[PairResult],
    pair_sets: Sequence[PairSet],
    *,
    name: str,
    alias: str | None,
    present: int | None,
    force: bool,
    device: str,
) -> Decision:
    if alias is None:
        return Decision(gate="not asked")
    if present is None:
        return Decision(gate="first")
    reasons: list[str] = []
    comparisons: list[SetComparison] = []
    if not pair_sets:
        reasons.append("there is no pair set to compare them on; give --bin FILE")
    else:
        try:
            theirs = load_backbone(locate_model(f"models:/{name}/{present}"), device=resolve_device(device))
            comparisons = compare_results(results, verify(theirs, pair_sets))
            reasons += [reason for comparison in comparisons for reason in comparison.reasons]
        except FacerecError as error:
            reasons.append(f"version {present} cannot be compared with: {error}")
    gate: Gate = "passed" if not reasons else "forced" if force else "failed"
    return Decision(gate=gate, reasons=tuple(reasons), comparisons=tuple(comparisons))


def _tags(registration: Registration, results: Sequence[PairResult]) -> dict[str, str]:
    decision = registration.decision
    tags = {"gate": decision.gate, "pair_sets": ", ".join(registration.pair_sets)}
    for result in results:
        tags[f"{result.name}.accuracy"] = f"{result.accuracy:.6f}"
        tags[f"{result.name}.sha256"] = result.sha256
    if registration.present_version is not None:
        tags["compared_with"] = str(registration.present_version)
    if decision.reasons:
        tags["gate_reasons"] = "; ".join(decision.reasons)
    for comparison in decision.comparisons:
        tags[f"{comparison.pair_set}.comparison"] = json.dumps(dataclasses.asdict(comparison))
    return tags
