"""``facerec evaluate``: verify a checkpoint, or stored embeddings, on pair sets."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from facerec.cli.options import config_option, debug_option, device_option, echo_json, json_option, set_option
from facerec.errors import UsageError

if TYPE_CHECKING:
    from facerec.evaluation.run import EvaluationRun
    from facerec.evaluation.suites import SetProgress

_PROGRESS_INTERVAL_S = 5.0


@click.command()
@config_option(required=False)
@click.option("--checkpoint", metavar="PATH", default="", help="A checkpoint or run folder, or a .pth file.")
@click.option(
    "--embeddings",
    metavar="FILE.npz",
    default="",
    help="Verify stored embeddings: arrays original, pair_index, issame and, optionally, flipped.",
)
@click.option(
    "--bin",
    "bins",
    metavar="FILE",
    multiple=True,
    help="Pair set in place of the configuration's, absolute, under data.root or here; repeatable.",
)
@click.option("--name", metavar="NAME", default="", help="Name of the pair set and of the report.")
@click.option("--output", metavar="DIR", default="", help="Folder for the reports; default: under logging.log_dir.")
@set_option
@device_option
@json_option
@debug_option
def evaluate(
    config_path: str | None,
    checkpoint: str,
    embeddings: str,
    bins: tuple[str, ...],
    name: str,
    output: str,
    overrides: tuple[str, ...],
    device: str,
    as_json: bool,
) -> None:
    """Verify a checkpoint on pair sets: 10-fold accuracy, AUC, EER, TAR at fixed FAR.

    Writes a text report, report.json and pictures. The checkpoint's own configuration is used where --config names
    none. An empty value counts as absent.
    """
    if bool(checkpoint) == bool(embeddings):
        raise UsageError("give either --checkpoint PATH or --embeddings FILE.npz")
    folder = Path(output) if output else None
    texts = [text for text in overrides if text.strip()]
    if embeddings:
        _refuse_without_effect(bins=any(bins), device=bool(device))
        from facerec.evaluation.run import run_on_embeddings

        run = run_on_embeddings(
            embeddings, config_path=config_path or None, overrides=texts, name=name or None, output=folder
        )
    else:
        from facerec.evaluation.run import run_evaluation

        run = run_evaluation(
            checkpoint=checkpoint,
            config_path=config_path or None,
            overrides=texts,
            bins=[file for file in bins if file],
            name=name or None,
            output=folder,
            device=device or None,
            progress=_progress_on_stderr(),
        )
    _show(run, as_json=as_json)
    if os.environ.get("MLFLOW_RUN_ID"):
        from facerec.tracking.evaluation import record_evaluation

        record_evaluation(run, subject=checkpoint or embeddings)


def _refuse_without_effect(**given: bool) -> None:
    names = {"bins": "--bin", "device": "--device"}
    useless = [names[key] for key, present in given.items() if present]
    if useless:
        raise UsageError(f"{useless[0]} has no effect with --embeddings; remove it")


def _show(run: EvaluationRun, *, as_json: bool) -> None:
    from facerec.evaluation.report import format_table, result_to_json

    if as_json:
        echo_json({result.name: result_to_json(result) for result in run.results})
    else:
        click.echo(format_table(run.results), nl=False)
    for path in (run.summary, run.report, *run.pictures):
        click.echo(f"wrote {path}", err=True)


def _progress_on_stderr() -> SetProgress:
    """A line that is written over on a terminal; elsewhere a line every few seconds."""
    on_terminal = sys.stderr.isatty()
    last_s = time.monotonic()

    def show(set_name: str, done: int, total: int) -> None:
        nonlocal last_s
        now_s = time.monotonic()
        if done < total and now_s - last_s < (0.1 if on_terminal else _PROGRESS_INTERVAL_S):
            return
        last_s = now_s
        ends_line = done == total or not on_terminal
        start = "\r" if on_terminal else ""
        click.echo(f"{start}{set_name}: {done} of {total} images", err=True, nl=ends_line)

    return show
