"""``facerec sync``: send what a tracking store did not take while trainings ran."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click

from facerec.cli.options import debug_option, echo_json, json_option


@click.command()
@click.option("--spool", metavar="DIR", default="facerec-spool", show_default=True, help="Folder of the spool files.")
@click.option("--tracking-uri", metavar="URI", default=None, help="Send to this store instead of the recorded one.")
@json_option
@debug_option
@click.pass_context
def sync(context: click.Context, spool: str, tracking_uri: str | None, as_json: bool) -> None:
    """Send to the tracking store what it did not take while trainings ran.

    Nothing is sent twice. Exit code 1 means that something is still left.
    """
    from facerec.tracking.replay import sync_folder

    results = []
    for result in sync_folder(Path(spool), tracking_uri=tracking_uri):
        results.append(result)
        note = f"; {result.left} left: {result.problem}" if result.problem else ""
        click.echo(
            f"{result.path.name}: {result.sent} records sent to run {result.run_id or 'unknown'}{note}", err=True
        )
    if as_json:
        echo_json({"sessions": [{**dataclasses.asdict(result), "path": str(result.path)} for result in results]})
    elif not results:
        click.echo(f"nothing waits in {spool}")
    if any(result.problem for result in results):
        context.exit(1)
