"""``facerec data verify``: check every record of a pack, or a pair set."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from facerec.cli.data_progress import progress_bars, workers_option
from facerec.cli.options import debug_option, echo_json, json_option

if TYPE_CHECKING:
    from facerec.data.checking.check import CheckReport

_SHOWN = 50


@click.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--fast", is_flag=True, help="Do not decode the images.")
@workers_option
@json_option
@debug_option
@click.pass_context
def verify(context: click.Context, path: Path, fast: bool, workers: int | None, as_json: bool) -> None:
    """Check PATH, a pack (its folder or train.rec) or a pair set (.bin), to the last byte.

    Exit code 1 says that something is wrong; every fault is reported with key and byte offset.
    """
    from facerec.data.checking.check import check_path

    with progress_bars() as progress:
        report = check_path(path, fast=fast, workers=workers, progress=progress)
    if as_json:
        echo_json(report.as_json())
    else:
        _show(report)
    if not report.is_intact:
        context.exit(1)


def _show(report: CheckReport) -> None:
    unit = "records" if report.kind == "pack" else "images"
    rate = report.num_records / max(report.seconds, 1e-9)
    decoded = f"{report.num_decoded:,} images decoded" if report.num_decoded else "no image decoded"
    click.echo(f"{report.path}: {report.num_records:,} {unit}, {decoded}, {report.num_bytes:,} bytes")
    click.echo(f"  {report.seconds:.1f} s, {rate:,.0f} {unit}/s")
    for note in report.findings.notes:
        click.echo(f"  note: {note}")
    for finding in report.findings.kept[:_SHOWN]:
        click.echo(f"  {finding.kind}: {finding.message}")
    if report.is_intact:
        click.echo("  nothing is wrong")
        return
    if report.findings.total > _SHOWN:
        click.echo(f"  … and {report.findings.total - _SHOWN:,} more; --json lists up to 10,000")
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in sorted(report.findings.counts.items()))
    click.echo(f"  {report.findings.total:,} faults: {kinds}")
