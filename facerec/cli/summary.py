"""``facerec summary``."""

from __future__ import annotations

import click

from facerec.cli.options import config_option, debug_option, echo_json, json_option, set_option


@click.command()
@click.argument("run", required=False)
@config_option(required=False)
@set_option
@json_option
@debug_option
def summary(run: str | None, config_path: str | None, overrides: tuple[str, ...], as_json: bool) -> None:
    """Show what a training reached: RUN is its folder; with --config, the latest run of that configuration."""
    from facerec.training.summary import describe_summary, find_run, read_summary

    found = read_summary(find_run(run, config_path=config_path, overrides=overrides))
    if as_json:
        echo_json(found)
    else:
        click.echo(describe_summary(found))
