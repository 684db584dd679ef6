"""``facerec evaluate``: verify a model, or stored embeddings, on pair sets or templates."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from facerec.cli.options import config_option, debug_option, device_option, json_option, set_option
from facerec.cli.reports import echo_reports, progress_on_stderr
from facerec.errors import UsageError

if TYPE_CHECKING:
    from facerec.evaluation.run import EvaluationRun, ReportOptions
    from facerec.evaluation.template_run import TemplateRun


@click.command()
@config_option(required=False)
@click.option(
    "--checkpoint",
    metavar="MODEL",
    default="",
    help="A checkpoint or run folder, a .pth file, runs:/… or models:/NAME@ALIAS.",
)
@click.option(
    "--embeddings",
    metavar="FILE.npz",
    default="",
    help="Verify stored embeddings: arrays original, pair_index, issame and, optionally, flipped, identity, group, "
    "pair_set.",
)
@click.option(
    "--bin",
    "bins",
    metavar="FILE",
    multiple=True,
    help="Pair set in place of the configuration's, absolute, under data.root or here; repeatable.",
)
@click.option(
    "--group",
    "group_sets",
    metavar="NAME=FILE.bin",
    multiple=True,
    help="Pair set of a group of people; repeat it, and the groups' error rates are compared at one threshold.",
)
@click.option("--groups", metavar="FILE.csv", default="", help="Group of each pair: a CSV with the columns pair,group.")
@click.option(
    "--group-far", type=float, default=None, help="FAR over all pairs of the groups' one threshold.  [default: 1e-3]"
)
@click.option(
    "--templates",
    metavar="DIR",
    default="",
    help="Verify and search templates: a folder of IJB-B or IJB-C, or of images.csv and pairs.csv or gallery.csv.",
)
@click.option(
    "--resamples",
    type=click.IntRange(min=0),
    metavar="N",
    default=None,
    help="Resamples of the bootstrap over people; 0 leaves its intervals out.  [default: 1000]",
)
@click.option("--no-faces", is_flag=True, help="Leave the faces of the hardest pairs out of the report.")
@click.option("--upload-faces", is_flag=True, help="Send what shows faces to MLflow too; without it they stay here.")
@click.option("--save-embeddings", metavar="FILE.npz", default="", help="Store the embeddings for --embeddings.")
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
    group_sets: tuple[str, ...],
    groups: str,
    group_far: float | None,
    templates: str,
    resamples: int | None,
    no_faces: bool,
    upload_faces: bool,
    save_embeddings: str,
    name: str,
    output: str,
    overrides: tuple[str, ...],
    device: str,
    as_json: bool,
) -> None:
    """Verify a model: 10-fold accuracy, AUC, EER, TAR at fixed FAR, with intervals, groups and reports.

    Writes report.html, report.md, report.json, a text report and pictures. The checkpoint's own configuration is used
    where --config names none. An empty value counts as absent.
    """
    if bool(checkpoint) == bool(embeddings):
        raise UsageError("give either --checkpoint MODEL or --embeddings FILE.npz")
    files = [file for file in bins if file]
    place: dict[str, Any] = {
        "config_path": config_path,
        "overrides": [text for text in overrides if text.strip()],
        "name": name or None,
        "output": Path(output) if output else None,
    }
    useless = {"--bin": files, "--group": group_sets, "--no-faces": no_faces, "--upload-faces": upload_faces}
    if templates:
        useless |= {"--groups": groups, "--group-far": group_far is not None, "--resamples": resamples is not None}
        _refuse("--templates", useless | {"--embeddings": embeddings, "--save-embeddings": save_embeddings})
        _evaluate_templates(templates, checkpoint=checkpoint, device=device or None, as_json=as_json, **place)
        return
    from facerec.evaluation.run import run_evaluation, run_on_embeddings
    from facerec.serving.locate import locate_model

    options = _options(resamples, group_sets, groups, group_far, faces=not no_faces, save_embeddings=save_embeddings)
    if embeddings:
        _refuse("--embeddings", useless | {"--device": device, "--save-embeddings": save_embeddings})
        run = run_on_embeddings(embeddings, options=options, **place)
    else:
        if group_far is not None and not (groups or any(group_sets)):
            raise UsageError("--group-far has no effect without groups; give --group or --groups, or remove it")
        run = run_evaluation(
            checkpoint=locate_model(checkpoint),
            subject=checkpoint,
            bins=files,
            device=device or None,
            progress=progress_on_stderr(),
            options=options,
            **place,
        )
    _show(run, as_json=as_json)
    _record(run, subject=checkpoint or embeddings, with_faces=upload_faces)


def _record(run: EvaluationRun | TemplateRun, *, subject: str, with_faces: bool = False) -> None:
    if not os.environ.get("MLFLOW_RUN_ID"):
        return  # MLflow takes a second to import.
    from facerec.evaluation.template_run import TemplateRun
    from facerec.tracking.evaluation import record_evaluation, record_templates

    if isinstance(run, TemplateRun):
        record_templates(run, subject=subject)
    else:
        record_evaluation(run, subject=subject, with_faces=with_faces)


def _options(
    resamples: int | None,
    group_sets: tuple[str, ...],
    groups: str,
    group_far: float | None,
    *,
    faces: bool,
    save_embeddings: str,
) -> ReportOptions:
    from facerec.evaluation.run import ReportOptions

    defaults = ReportOptions()
    return ReportOptions(
        num_resamples=defaults.num_resamples if resamples is None else resamples,
        faces=faces,
        group_sets=tuple(map(_split_group, filter(None, group_sets))),
        groups_csv=groups or None,
        group_far=defaults.group_far if group_far is None else group_far,
        save_embeddings=Path(save_embeddings) if save_embeddings else None,
    )


def _split_group(text: str) -> tuple[str, str]:
    name, separator, file = text.partition("=")
    if not (separator and name.strip() and file.strip()):
        raise UsageError(f"--group {text}: give the name of the group and its pair set, such as African=african.bin")
    return name.strip(), file.strip()


def _evaluate_templates(
    folder: str,
    *,
    checkpoint: str,
    config_path: str | None,
    overrides: list[str],
    name: str | None,
    output: Path | None,
    device: str | None,
    as_json: bool,
) -> None:
    from facerec.evaluation.template_run import run_on_templates
    from facerec.serving.locate import locate_model

    run = run_on_templates(
        folder,
        checkpoint=locate_model(checkpoint),
        subject=checkpoint,
        config_path=config_path,
        overrides=overrides,
        name=name,
        output=output,
        device=device,
        progress=progress_on_stderr(),
    )
    echo_reports(run.results, run.text, run.files, as_json=as_json)
    _record(run, subject=checkpoint)


def _refuse(option: str, others: Mapping[str, object]) -> None:
    given = [name for name, value in others.items() if value]
    if given:
        raise UsageError(f"{given[0]} has no effect with {option}; remove it")


def _show(run: EvaluationRun, *, as_json: bool) -> None:
    from facerec.evaluation.report import format_table, result_to_json

    results = {r.name: result_to_json(r, c) for r, c in zip(run.results, run.confidences, strict=True)}
    files = (run.summary, run.report, *run.documents, *run.pictures, *run.faces)
    echo_reports(results, format_table(run.results), files, as_json=as_json)
