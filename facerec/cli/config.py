"""``facerec config``: show, validate and explain configurations."""

from __future__ import annotations

import click

from facerec.cli.options import debug_option, echo_json, set_option
from facerec.config.load import dump_yaml, find_config, json_schema, load_config


@click.group()
def config() -> None:
    """Show, validate and explain configurations."""


@config.command()
@click.argument("file")
@set_option
@debug_option
def show(file: str, overrides: tuple[str, ...]) -> None:
    """Print the complete configuration of FILE, defaults and overrides included."""
    click.echo(dump_yaml(load_config(file, overrides)), nl=False)


@config.command()
@click.argument("file")
@set_option
@debug_option
def validate(file: str, overrides: tuple[str, ...]) -> None:
    """Check FILE and report every problem at once."""
    load_config(file, overrides)
    click.echo(f"{find_config(file)} is valid")


@config.command()
@debug_option
def schema() -> None:
    """Print the JSON schema of a configuration: every key with its meaning, default and range."""
    echo_json(json_schema())
