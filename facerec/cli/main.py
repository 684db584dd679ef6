"""The ``facerec`` command: a table of subcommands that load when they are called."""

from __future__ import annotations

import importlib
import sys
import traceback
from typing import Any, NoReturn

import click

from facerec import __version__
from facerec.errors import FacerecError

__all__ = ["cli", "main"]

# name -> (module:attribute, one line of help). The help stands here so that `facerec --help` imports no command.
COMMANDS = {
    "train": ("facerec.cli.train:train", "Train a model and verify it while it trains."),
    "evaluate": ("facerec.cli.evaluate:evaluate", "Verify a checkpoint on pair sets."),
    "predict": ("facerec.cli.predict:predict", "Compare the faces of two images."),
    "summary": ("facerec.cli.summary:summary", "Show what a training reached."),
    "data": ("facerec.cli.data:data", "Make, inspect and check training packs and pair sets."),
    "config": ("facerec.cli.config:config", "Show, validate and explain configurations."),
    "zoo": ("facerec.cli.zoo:zoo", "List the backbones and the heads."),
    "doctor": ("facerec.cli.doctor:doctor", "Check that this machine can do the job."),
}
ALIASES = {"test": "evaluate"}


class LazyGroup(click.Group):
    """A group whose commands are imported when they are run."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        target = COMMANDS.get(ALIASES.get(cmd_name, cmd_name))
        if target is None:
            return None
        module, _, attribute = target[0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="facerec")
def cli() -> None:
    """Train, verify, tune and serve face-recognition models."""


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line and exit: 0 for success, 1 for a failure, 2 for a usage or configuration error."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        cli.main(args=arguments, prog_name="facerec", standalone_mode=False)
    except click.exceptions.Exit as exit_request:
        sys.exit(exit_request.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("stopped", err=True)
        sys.exit(130)
    except Exception as error:  # noqa: BLE001 - the outermost place; every other error ends as one sentence here
        if "--debug" in arguments:
            traceback.print_exc()
        click.echo(f"error: {describe(error)}", err=True)
        sys.exit(error.exit_code if isinstance(error, FacerecError) else 1)
    sys.exit(0)


def describe(error: BaseException) -> str:
    """One sentence for a user."""
    if isinstance(error, FacerecError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        where = f" ({error.filename})" if error.filename else ""
        return f"{error.strerror}{where}"
    text: Any = " ".join(str(error).split())
    return f"unexpected {type(error).__name__}: {text}; run again with --debug for the traceback"
