"""Options that mean the same in every command."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar

import click

__all__ = [
    "auto_device_option",
    "config_option",
    "debug_option",
    "device_option",
    "echo_json",
    "json_option",
    "model_option",
    "set_option",
]

F = TypeVar("F", bound=Callable[..., Any])


def config_option(*, required: bool = True) -> Callable[[F], F]:
    """``--config FILE``; an empty value, as `mlflow run` passes it on, counts as absent."""
    return click.option(
        "--config",
        "config_path",
        metavar="FILE",
        required=required,
        callback=None if required else lambda context, parameter, value: value or None,
        help="Configuration: a YAML file, or a name of `facerec config list`.",
    )


def set_option(command: F) -> F:
    """``--set KEY=VALUE``."""
    decorate = click.option(
        "--set", "overrides", metavar="KEY=VALUE", multiple=True, help="Override a key; repeatable."
    )
    return decorate(command)


def device_option(command: F) -> F:
    """``--device``."""
    decorate = click.option(
        "--device", metavar="DEVICE", default="", help="auto, cpu, cuda or cuda:N; overrides the configuration."
    )
    return decorate(command)


def auto_device_option(command: F) -> F:
    """``--device`` where no configuration has a say."""
    decorate = click.option(
        "--device", metavar="DEVICE", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N."
    )
    return decorate(command)


def model_option(command: F) -> F:
    """``--model``."""
    decorate = click.option(
        "--model",
        "model",
        metavar="MODEL",
        required=True,
        help="A checkpoint or run folder, a .pth file, runs:/… or models:/NAME@ALIAS.",
    )
    return decorate(command)


def json_option(command: F) -> F:
    """``--json``: one object on standard output and nothing else."""
    decorate = click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")
    return decorate(command)


def debug_option(command: F) -> F:
    """``--debug``; `facerec.cli.main` reads it from the arguments, so that it also covers errors of parsing."""
    decorate = click.option("--debug", is_flag=True, expose_value=False, help="Show tracebacks.")
    return decorate(command)


def echo_json(result: Any) -> None:
    """Print one JSON object on standard output."""
    click.echo(json.dumps(result, indent=2, ensure_ascii=False, allow_nan=False))
