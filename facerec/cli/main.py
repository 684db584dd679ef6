"""The ``facerec`` command: a table of subcommands that load when they are called."""

from __future__ import annotations

import os
import sys
import traceback
from typing import NoReturn

import click

from facerec import __version__
from facerec.cli.lazy import LazyGroup
from facerec.errors import FacerecError, one_line

__all__ = ["COMMANDS", "cli", "describe", "main"]

COMMANDS = {
    "train": ("facerec.cli.train:train", "Train a model and verify it while it trains."),
    "evaluate": ("facerec.cli.evaluate:evaluate", "Verify a model on pair sets or templates."),
    "tune": ("facerec.cli.tune:tune", "Search for better settings, and say whether they are better."),
    "compare": ("facerec.cli.compare:compare", "Compare models on the same pairs, with intervals and tests."),
    "predict": ("facerec.cli.predict:predict", "Compare the faces of two images."),
    "register": ("facerec.cli.register:register", "Register a model as a predictor that can be served."),
    "registry": ("facerec.cli.registry:registry", "Look into the model registry."),
    "export": ("facerec.cli.export:export", "Write a model as ONNX, torch.export or safetensors, and compare it."),
    "demo-app": ("facerec.cli.demo_app:demo_app", "Try a model in the browser."),
    "gallery": ("facerec.cli.gallery:gallery", "Make and search galleries of known people."),
    "summary": ("facerec.cli.summary:summary", "Show what a training reached."),
    "data": ("facerec.cli.data:data", "Make, inspect and check training packs and pair sets."),
    "config": ("facerec.cli.config:config", "Show, validate and explain configurations."),
    "zoo": ("facerec.cli.zoo:zoo", "List the backbones and the heads."),
    "sync": ("facerec.cli.sync:sync", "Send what a tracking store did not take while trainings ran."),
    "doctor": ("facerec.cli.doctor:doctor", "Check that this machine can do the job."),
}
ALIASES = {"test": "evaluate"}


@click.group(cls=LazyGroup, table=COMMANDS, aliases=ALIASES, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="facerec")
def cli() -> None:
    """Train, verify, tune and serve face-recognition models."""


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line and exit: 0 for success, 1 for a failure, 2 for a usage or configuration error."""
    arguments = sys.argv[1:] if arguments is None else arguments
    # MLflow would report its use to its makers; whoever wants that says so in the environment.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    try:
        # Outside of standalone mode Click returns the code that a command has asked to exit with.
        code = cli.main(args=arguments, prog_name="facerec", standalone_mode=False)
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
    sys.exit(code if isinstance(code, int) else 0)


def describe(error: BaseException) -> str:
    """One sentence for a user."""
    if isinstance(error, FacerecError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        where = f" ({error.filename})" if error.filename else ""
        return f"{error.strerror}{where}"
    text = one_line(error, most_chars=2000)
    return f"unexpected {type(error).__name__}: {text}; run again with --debug for the traceback"
