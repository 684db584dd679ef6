"""``facerec register``: put a model into the registry, and behind an alias if it is good enough."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import click

from facerec.cli.options import auto_device_option, config_option, debug_option, echo_json, json_option
from facerec.errors import UsageError

if TYPE_CHECKING:
    from facerec.serving.register import Registration

_DOUBTS = {
    "yes": "",
    "hardly": " (rough: few impostor pairs)",
    "no, only a bound": " (only a bound: too few impostor pairs)",
}


@click.command()
@click.option("--run", "run_id", metavar="RUN", default="", help="ID of an MLflow run; its best checkpoint is taken.")
@click.option("--checkpoint", metavar="PATH", default="", help="A checkpoint or run folder, or a .pth file.")
@click.option("--name", metavar="NAME", required=True, help="Name in the registry.")
@click.option(
    "--alias", metavar="ALIAS", default="champion", show_default=True, help="Alias of what is served; '' for none."
)
@click.option("--bin", "bins", metavar="FILE", multiple=True, help="Pair set for thresholds and gate; repeatable.")
@click.option("--gallery", metavar="FILE", default="", help="Gallery for the mode 'search'.")
@click.option(
    "--runtime",
    type=click.Choice(["torch", "onnx"]),
    default="torch",
    show_default=True,
    help="What computes when it is served; onnx needs the extra of that name and works on the CPU.",
)
@click.option("--data-license", metavar="TEXT", default="", help="Licence of the training data, for the model card.")
@click.option("--force", is_flag=True, help="Give the alias even to a model that is worse.")
@config_option(required=False)
@auto_device_option
@json_option
@debug_option
def register(
    run_id: str,
    checkpoint: str,
    name: str,
    alias: str,
    bins: tuple[str, ...],
    gallery: str,
    runtime: str,
    data_license: str,
    force: bool,
    config_path: str | None,
    device: str,
    as_json: bool,
) -> None:
    """Register a model as a predictor that `mlflow models serve` can serve.

    The thresholds at FAR 1e-2, 1e-3 and 1e-4 come from the first pair set: the configuration's, or --bin. The alias
    goes to the new version unless, on the same pairs, it is worse than the present one beyond noise; then the command
    exits with 1.
    """
    if bool(run_id) == bool(checkpoint):
        raise UsageError("give either --run RUN or --checkpoint PATH")
    from facerec.serving.register import register as register_model

    registration = register_model(
        f"runs:/{run_id.removeprefix('runs:/')}" if run_id else checkpoint,
        name=name,
        alias=alias or None,
        config_path=config_path,
        bins=[file for file in bins if file],
        gallery=gallery or None,
        runtime="onnx" if runtime == "onnx" else "torch",
        data_license=data_license or None,
        force=force,
        device=device or "auto",
    )
    if as_json:
        echo_json(dataclasses.asdict(registration))
    else:
        click.echo(describe(registration))
    exit_by_gate(registration)


def exit_by_gate(registration: Registration) -> None:
    """End with exit code 1 where the gate held the alias back."""
    if registration.decision.gate == "failed":
        raise click.exceptions.Exit(1)


def describe(registration: Registration) -> str:
    """What became of the model, in a few lines."""
    decision = registration.decision
    lines = [f"registered {registration.uri}"]
    for comparison in decision.comparisons:
        low, high = comparison.tar_interval
        lines.append(
            f"{comparison.pair_set}: accuracy {comparison.accuracy_new:.4f}, version {registration.present_version} "
            f"{comparison.accuracy_present:.4f} (p = {comparison.accuracy_p_value:.2g}); TAR at FAR "
            f"{comparison.far:g} differs by {comparison.tar_difference:+.4f} (95 %: {low:+.4f} to {high:+.4f})"
        )
    for far, threshold in registration.thresholds.items():
        lines.append(f"threshold at FAR {far}: {threshold:.4f}{_DOUBTS[registration.enough_pairs[far]]}")
    if not registration.thresholds:
        lines.append("no pair set was given: it knows no threshold, and requests must name one")
    lines += [f"worse: {reason}" for reason in decision.reasons]
    if registration.alias is not None:
        how = " because --force asked for it" if decision.gate == "forced" else ""
        lines.append(f"models:/{registration.name}@{registration.alias} is now this version{how}")
    elif decision.gate == "failed":
        lines.append(f"version {registration.present_version} keeps the alias; --force would move it")
    return "\n".join(lines)
