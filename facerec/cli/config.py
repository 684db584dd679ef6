"""``facerec config``: list, show, validate and explain configurations."""

from __future__ import annotations

import click

from facerec.cli.options import debug_option, echo_json, json_option, set_option
from facerec.config.load import dump_yaml, find_config, json_schema, load_config
from facerec.config.recipes import Kind, about, shipped


@click.group()
def config() -> None:
    """List, show, validate and explain configurations."""


@config.command("list")
@json_option
@debug_option
def list_shipped(as_json: bool) -> None:
    """List the configurations and studies that come with the program; --config and --study take their names."""
    kinds: tuple[Kind, ...] = ("configs", "studies")
    rows = {kind: {name: about(path) for name, path in shipped(kind).items()} for kind in kinds}
    if as_json:
        echo_json(rows)
        return
    width = max(len(name) for names in rows.values() for name in names)
    for kind, names in rows.items():
        click.echo(f"{kind}:")
        for name, text in names.items():
            click.echo(f"  {name:<{width}}  {text}")


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
