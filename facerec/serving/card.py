"""The model card: what a predictor was made of, how good it is, and where it must not be trusted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from facerec.serving.spec import Calibration, PredictorSpec

__all__ = ["CARD_FILE", "USE", "write_card"]

CARD_FILE = "model_card.md"

USE = (
    "For comparing the faces of people who know of it and have agreed to it, or where the law gives another ground.",
    "A similarity is evidence, not proof: a decision that harms somebody is made by a person who can see the pictures, "
    "and can be contested.",
    "Not for covert surveillance, not for finding strangers by pictures gathered without their consent, and not for "
    "guessing descent, belief, health, feelings or character.",
)
"""What a face model may be used for; ``docs/cards/model-card.md`` says the same."""


def write_card(
    name: str,
    *,
    spec: PredictorSpec,
    facts: Mapping[str, str],
    data_license: str | None = None,
) -> str:
    """The card as Markdown.

    Args:
        name: The registered name.
        spec: The predictor.
        facts: What is known of the training, as lines of "what: value".
        data_license: Licence of the training data, in the words of whoever registers the model.
    """
    height, width = spec.image_hw
    license_note = data_license or (
        "The licence of the training data was not stated. Weights are often bound by it: many public face sets are "
        "for research alone. Find out before you offer this model to others."
    )
    lines = [
        f"# {name}",
        "",
        f"A face verification model: `{spec.backbone}`, {spec.embedding_size} dimensions. It takes an aligned face of "
        f"{height} x {width} pixels (RGB; pictures of another size are scaled, without detection or alignment) and "
        "gives an embedding; the cosine of two embeddings is their similarity.",
        "",
        "## Use",
        "",
        *[f"- {line}" for line in USE],
        "",
        "## Training",
        "",
        *[f"- {what}: {value}" for what, value in facts.items()],
        "",
        "## Verification",
        "",
        *_verification(spec.calibration),
        "",
        "## Limits",
        "",
        "- A threshold holds for pictures like those of the pair set. Other cameras, ages or groups of people can have "
        "other error rates; measure on pictures of your own.",
        "- It compares faces that are given to it. It finds no faces, aligns none, and does not notice a photograph "
        "of a photograph.",
        "- Embeddings are biometric data. Store and send them only where you may.",
        "",
        "## Licence",
        "",
        license_note,
        "",
    ]
    return "\n".join(lines)


def _verification(calibration: Calibration | None) -> Sequence[str]:
    if calibration is None:
        return ["No pair set was given, so no error rate is known and a request must name its threshold."]
    rows = [
        f"{calibration.pairs} pairs ({calibration.genuine} genuine) of `{calibration.pair_set}`, SHA-256 "
        f"`{calibration.sha256}`: 10-fold accuracy {calibration.accuracy:.4f} ± {calibration.accuracy_std:.4f}, "
        f"AUC {calibration.auc:.4f}, EER {calibration.eer:.4f}.",
        "",
        "| FAR | threshold (95 %) | TAR (95 %) | FAR seen (95 %) | enough pairs |",
        "|---|---|---|---|---|",
    ]
    rows += [
        f"| {entry.far:g} | {entry.threshold:.4f} ({_range(entry.threshold_interval)}) "
        f"| {entry.tar:.4f} ({_range(entry.tar_interval)}) "
        f"| {entry.far_seen:.2g} ({_range(entry.far_interval)}) | {entry.enough_pairs} |"
        for entry in calibration.thresholds
    ]
    return rows


def _range(interval: tuple[float, float]) -> str:
    return f"{interval[0]:.3g} to {interval[1]:.3g}"
