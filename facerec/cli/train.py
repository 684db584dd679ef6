"""``facerec train``."""

from __future__ import annotations

from pathlib import Path

import click

from facerec.cli.options import config_option, debug_option, device_option, set_option


@click.command()
@config_option()
@set_option
@device_option
@click.option(
    "--resume",
    default="",
    is_flag=False,
    flag_value="true",
    metavar="[RUN]",
    help="Go on with the latest run, or with the run or checkpoint folder given as --resume=PATH.",
)
@click.option("--dry-run", is_flag=True, help="Check the configuration and the data, print what would run, and stop.")
@debug_option
def train(config_path: str, overrides: tuple[str, ...], device: str, resume: str, dry_run: bool) -> None:
    """Train a model and verify it while it trains.

    A checkpoint, the log and the pictures go into a new folder under checkpoint.save_dir. SIGTERM and Ctrl-C finish the
    running step, save and stop; --resume goes on from there.
    """
    from facerec.config.load import load_config

    config = load_config(config_path, [*overrides, *_option_overrides(device, resume)])
    from facerec.tracking.build import build_tracker
    from facerec.training.dry_run import describe_plan
    from facerec.training.loop import train as run_training
    from facerec.training.summary import describe_summary, read_summary

    if dry_run:
        click.echo(describe_plan(config))
        return
    result = run_training(config, tracker=build_tracker(config, log_folder=Path(config.logging.log_dir)))
    click.echo(describe_summary(read_summary(result.run_folder)))


def _option_overrides(device: str, resume: str) -> list[str]:
    overrides = [f"device={device}"] if device else []
    if resume.lower() in ("true", "false"):
        overrides.append(f"training.resume={resume.lower()}")
    elif resume:
        quoted = resume.replace("'", "''")
        overrides.append(f"training.resume='{quoted}'")
    return overrides
