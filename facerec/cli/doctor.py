"""``facerec doctor``: whether this machine can do the job."""

from __future__ import annotations

import dataclasses

import click

from facerec.cli.options import debug_option, echo_json, json_option

_COLOURS = {"ok": "green", "warn": "yellow", "fail": "red", "off": None}


@click.command()
@click.option("--fix", is_flag=True, help="Mark runs as killed whose process is gone.")
@json_option
@debug_option
@click.pass_context
def doctor(context: click.Context, fix: bool, as_json: bool) -> None:
    """Check packages, devices, the ways of `mlflow run`, the tracking store and the disk.

    Exit code 1 means that something that training needs does not work.
    """
    from facerec.tracking.health.check import is_healthy
    from facerec.tracking.health.examine import examine

    checks = examine(fix=fix)
    healthy = is_healthy(checks)
    if as_json:
        echo_json({"ok": healthy, "checks": [dataclasses.asdict(check) for check in checks]})
    else:
        width = max(len(check.name) for check in checks)
        for check in checks:
            level = click.style(f"{check.level:4}", fg=_COLOURS[check.level])
            click.echo(f"{level}  {check.name:{width}}  {check.detail}")
            if check.advice and check.level != "off":
                click.echo(f"{'':{width + 8}}-> {check.advice}")
    if not healthy:
        context.exit(1)
