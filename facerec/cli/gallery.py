"""``facerec gallery``: known people, and who of them a picture shows."""

from __future__ import annotations

from pathlib import Path

import click

from facerec.cli.lazy import LazyGroup
from facerec.cli.options import auto_device_option, config_option, debug_option, echo_json, json_option, model_option
from facerec.cli.reports import progress_on_stderr

COMMANDS = {
    "build": ("facerec.cli.gallery:build", "Make a gallery of a folder of pictures."),
    "search": ("facerec.cli.gallery:search", "Find whom a picture shows."),
}


@click.group(cls=LazyGroup, table=COMMANDS)
def gallery() -> None:
    """Make and search galleries of known people (1:N)."""


@click.command()
@click.argument("folder")
@click.argument("out")
@model_option
@click.option(
    "--fpir",
    type=float,
    default=0.01,
    show_default=True,
    help="Share of strangers who may find a match; gives the threshold.",
)
@config_option(required=False)
@auto_device_option
@json_option
@debug_option
def build(folder: str, out: str, model: str, fpir: float, config_path: str | None, device: str, as_json: bool) -> None:
    """Make a gallery of FOLDER (a sub-folder for each person, or one picture each) and write it to OUT.

    The pictures show aligned faces, like those of the training.
    """
    from facerec.serving.enrol import enrol
    from facerec.serving.gallery import save_gallery
    from facerec.serving.predictor import Predictor

    predictor = Predictor(checkpoint_path=model, config_path=config_path, device=device or "auto")
    show = progress_on_stderr()
    made = enrol(Path(folder), predictor, fpir=fpir, progress=lambda done, total: show(folder, done, total))
    path = Path(out)
    save_gallery(made, path)
    facts = made.facts
    if as_json:
        echo_json(
            {
                "path": str(path),
                "people": len(facts.names),
                "pictures": sum(facts.counts),
                "threshold": facts.threshold,
                "fpir": facts.fpir,
                "fpir_interval": facts.fpir_interval,
            }
        )
        return
    click.echo(f"{path}: {len(facts.names)} people, {sum(facts.counts)} pictures")
    if facts.threshold is None or facts.fpir_interval is None:
        click.echo("no threshold: it takes at least two people to see how alike strangers are")
    else:
        low, high = facts.fpir_interval
        click.echo(
            f"threshold {facts.threshold:.4f} at FPIR {facts.fpir:g} (95 % at this threshold: {low:.2g} to {high:.2g}, "
            f"{facts.fpir_searches} searches)"
        )


@click.command()
@click.argument("image")
@click.argument("gallery_path", metavar="GALLERY")
@model_option
@click.option(
    "--top", type=click.IntRange(1, 1000), metavar="K", default=5, show_default=True, help="Candidates to show."
)
@config_option(required=False)
@auto_device_option
@json_option
@debug_option
def search(
    image: str, gallery_path: str, model: str, top: int, config_path: str | None, device: str, as_json: bool
) -> None:
    """Find whom of GALLERY the aligned face in IMAGE shows."""
    from facerec.serving.gallery import load_gallery
    from facerec.serving.predictor import Predictor

    known = load_gallery(Path(gallery_path))
    predictor = Predictor(checkpoint_path=model, config_path=config_path, device=device or "auto")
    known.check_model(predictor.weights_sha256, flip=predictor.config.eval.flip)
    (embedding,) = predictor.embed(image)
    matches = [
        {"name": name, "similarity": score, "match": None if known.threshold is None else score >= known.threshold}
        for name, score in known.search(embedding, top=top)
    ]
    if as_json:
        echo_json({"image": image, "threshold": known.threshold, "fpir": known.fpir, "matches": matches})
        return
    for match in matches:
        click.echo(f"{match['similarity']:.4f}  {'match' if match['match'] else '     '}  {match['name']}".rstrip())
    if known.threshold is None:
        click.echo("no threshold: a gallery of one person cannot tell how alike strangers are")
    else:
        is_known = any(match["match"] for match in matches)
        verdict = "" if is_known else ": nobody reaches it, so nobody known is recognised"
        click.echo(f"threshold {known.threshold:.4f} at FPIR {known.fpir:g}{verdict}")
