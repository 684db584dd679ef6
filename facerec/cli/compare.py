"""``facerec compare``: models side by side, with differences and paired tests."""

from __future__ import annotations

from pathlib import Path

import click

from facerec.cli.options import config_option, debug_option, device_option, json_option, set_option
from facerec.cli.reports import echo_reports, progress_on_stderr
from facerec.errors import UsageError


@click.command()
@click.argument("subjects", metavar="RUN_OR_MODEL...", nargs=-1)
@click.option(
    "--bin",
    "bins",
    metavar="FILE",
    multiple=True,
    help="Pair set for all models, in place of those of their configurations; repeatable.",
)
@config_option(required=False)
@click.option("--output", metavar="DIR", default="", help="Folder for the reports; default: under logs/comparisons.")
@click.option(
    "--resamples",
    type=click.IntRange(min=1),
    metavar="N",
    default=1000,
    show_default=True,
    help="Resamples of the bootstrap.",
)
@set_option
@device_option
@json_option
@debug_option
def compare(
    subjects: tuple[str, ...],
    bins: tuple[str, ...],
    config_path: str | None,
    output: str,
    resamples: int,
    overrides: tuple[str, ...],
    device: str,
    as_json: bool,
) -> None:
    """Compare models, each against the first: differences with intervals, paired tests, overlayed curves.

    A subject is a checkpoint or run folder, a .pth file, runs:/… or models:/NAME@ALIAS, an .npz of embeddings, or the
    folder of an earlier evaluation. Writes compare.html, compare.md, compare.json and pictures.
    """
    if len(subjects) < 2:
        raise UsageError("give two models or more, such as: facerec compare RUN_A RUN_B --bin lfw.bin")
    from facerec.evaluation.comparison_run import Subject, run_comparison
    from facerec.serving.locate import locate_model

    run = run_comparison(
        [Subject(text=text, path=locate_model(text)) for text in subjects],
        bins=[file for file in bins if file],
        config_path=config_path,
        overrides=[text for text in overrides if text.strip()],
        output=Path(output) if output else None,
        device=device or None,
        num_resamples=resamples,
        progress=progress_on_stderr(),
    )
    echo_reports(run.results, run.text, run.files, as_json=as_json)
