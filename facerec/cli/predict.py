"""``facerec predict``."""

from __future__ import annotations

import click

from facerec.cli.options import config_option, debug_option, device_option, echo_json, json_option, model_option


@click.command()
@click.argument("image_a")
@click.argument("image_b")
@model_option
@config_option(required=False)
@device_option
@json_option
@debug_option
def predict(image_a: str, image_b: str, model: str, config_path: str | None, device: str, as_json: bool) -> None:
    """Compare the faces of two aligned images; prints their cosine similarity."""
    from facerec.serving.predictor import Predictor

    predictor = Predictor(checkpoint_path=model, config_path=config_path, device=device or "auto")
    similarity = predictor.predict(image_a, image_b)
    if as_json:
        echo_json({"image_a": image_a, "image_b": image_b, "similarity": similarity})
    else:
        click.echo(f"{similarity:.6f}")
