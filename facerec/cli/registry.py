"""``facerec registry``: what is registered, and how good it is."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import click

from facerec.cli.lazy import LazyGroup
from facerec.cli.options import debug_option, echo_json, json_option

COMMANDS = {
    "list": ("facerec.cli.registry:list_command", "List the registered models."),
    "show": ("facerec.cli.registry:show_command", "Show the versions of one model."),
}


@click.group(cls=LazyGroup, table=COMMANDS)
def registry() -> None:
    """Look into the model registry."""


@click.command("list")
@json_option
@debug_option
def list_command(as_json: bool) -> None:
    """List the registered models with their newest version and their aliases."""
    from facerec.serving.versions import list_models

    models = list_models()
    if as_json:
        echo_json({"models": models})
        return
    for model in models:
        aliases = ", ".join(f"{alias} = {version}" for alias, version in model["aliases"].items())
        click.echo(f"{model['name']}  newest {model['latest_version']}  {aliases}".rstrip())
    if not models:
        click.echo("nothing is registered; `facerec register` does it")


@click.command("show")
@click.argument("name")
@json_option
@debug_option
def show_command(name: str, as_json: bool) -> None:
    """Show the versions of a model, newest first, and the model card of the one that is served."""
    from facerec.serving.versions import show_model

    model = show_model(name)
    if as_json:
        echo_json(model)
        return
    click.echo("\n".join(_lines(model)))


def _lines(model: dict[str, Any]) -> list[str]:
    lines = []
    for version in model["versions"]:
        made = datetime.fromtimestamp(version["created_ms"] / 1000, UTC)
        aliases = f"  @{' @'.join(version['aliases'])}" if version["aliases"] else ""
        scores = [f"{k.removesuffix('.accuracy')} {v}" for k, v in version["tags"].items() if k.endswith(".accuracy")]
        lines.append(
            f"version {version['version']}{aliases}  {made:%F %T} UTC  gate: {version['tags'].get('gate', 'unknown')}"
            f"{'  accuracy: ' if scores else ''}{', '.join(scores)}"
        )
    champion = next((version for version in model["versions"] if version["aliases"]), None)
    return [*lines, "", champion["model_card"].rstrip()] if champion else lines
