"""``facerec predict``."""

from __future__ import annotations

import click

from facerec.cli.options import auto_device_option, config_option, debug_option, echo_json, json_option, model_option
from facerec.errors import UsageError


@click.command()
@click.argument("image_a")
@click.argument("image_b")
@model_option
@click.option(
    "--far",
    type=float,
    default=None,
    metavar="FAR",
    help="Also decide, at this false accept rate; for a registered predictor.",
)
@config_option(required=False)
@auto_device_option
@json_option
@debug_option
def predict(
    image_a: str,
    image_b: str,
    model: str,
    far: float | None,
    config_path: str | None,
    device: str,
    as_json: bool,
) -> None:
    """Compare the faces of two aligned images; prints their cosine similarity."""
    from facerec.serving.predictor import Predictor

    predictor = Predictor(checkpoint_path=model, config_path=config_path, device=device or "auto")
    known = None if far is None or predictor.spec is None else predictor.spec.threshold_at(far)
    if far is not None and known is None:
        raise UsageError(f"{model} knows no threshold at FAR {far:g}; `facerec register` finds them, at 1e-2 to 1e-4")
    similarity = predictor.predict(image_a, image_b)
    result: dict[str, object] = {"image_a": image_a, "image_b": image_b, "similarity": similarity}
    decision = ""
    if known is not None:
        is_same = similarity >= known.threshold
        decision = f"  {'same person' if is_same else 'different people'}"
        result |= {"threshold": known.threshold, "far": known.far, "far_at_most": known.far_interval[1]}
        result["same_person"] = is_same
    if as_json:
        echo_json(result)
        return
    click.echo(f"{similarity:.6f}{decision}")
