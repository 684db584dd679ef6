"""``facerec train``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from facerec.cli.options import config_option, debug_option, device_option, set_option

if TYPE_CHECKING:
    from facerec.config.schema import Config


@click.command()
@config_option(required=False)
@click.option(
    "--from-trial",
    metavar="STUDY:N",
    default="",
    help="Train with the setting of a trial of a study, in place of --config.",
)
@click.option(
    "--storage", metavar="URL", default="", help="Where the study of --from-trial is kept, if not in its folder."
)
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
@click.option(
    "--nproc",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    metavar="N",
    help="Train in N processes of this machine, one per GPU; each takes data.batch_size images of a batch.",
)
@click.option(
    "--dry-run", is_flag=True, help="Do a few steps, print what would run, its memory and its time, and write nothing."
)
@click.option(
    "--overfit",
    type=click.IntRange(min=1),
    metavar="N",
    help="Learn N batches by heart, to see that the set-up can learn at all; writes nothing, fails if it cannot.",
)
@click.option(
    "--register-as",
    metavar="NAME",
    default="",
    help="Afterwards register the best checkpoint under this name, as `facerec register` does.",
)
@debug_option
def train(
    config_path: str | None,
    from_trial: str,
    storage: str,
    overrides: tuple[str, ...],
    device: str,
    resume: str,
    nproc: int,
    dry_run: bool,
    overfit: int | None,
    register_as: str,
) -> None:
    """Train a model and verify it while it trains.

    A checkpoint, the log and the pictures go into a new folder under checkpoint.save_dir. SIGTERM and Ctrl-C finish the
    running step, save and stop; --resume goes on from there.
    """
    from facerec.config.load import load_config

    if dry_run and overfit:
        raise click.UsageError("--dry-run and --overfit exclude each other")
    if register_as and (dry_run or overfit):
        raise click.UsageError("--dry-run and --overfit leave nothing to register; leave --register-as out")
    if register_as:
        from facerec.serving.versions import check_name

        check_name(register_as)
    if nproc > 1 and (dry_run or overfit):
        raise click.UsageError("--dry-run and --overfit run in one process; leave --nproc out")
    if bool(config_path) == bool(from_trial):
        raise click.UsageError("give either --config FILE or --from-trial STUDY:N")
    if storage and not from_trial:
        raise click.UsageError("--storage has no effect without --from-trial; remove it")
    if nproc > 1 and from_trial:
        raise click.UsageError("write the trial's configuration with `facerec tune export` to train it in processes")
    texts = [*overrides, *_option_overrides(device, resume)]
    if from_trial:
        from facerec.tuning.locate import config_of_trial

        config = config_of_trial(from_trial, storage=storage or None, overrides=texts)
    else:
        config = load_config(config_path or "", texts)
    if nproc > 1:
        arguments = ["train", "--config", config_path or "", "--device", device, f"--resume={resume}"]
        arguments += ["--register-as", register_as]
        _start_processes(arguments, overrides, processes=nproc, device=config.device)
    elif dry_run:
        from facerec.training.dry_run import describe_plan

        click.echo(describe_plan(config))
    elif overfit:
        from facerec.training.overfit import overfit as learn_by_heart

        verdict = learn_by_heart(config, batches=overfit, tell=lambda line: click.echo(line, err=True))
        click.echo(verdict.sentence)
        click.get_current_context().exit(0 if verdict.has_learnt else 1)
    else:
        _train(config, register_as=register_as)


def _train(config: Config, *, register_as: str) -> None:
    from facerec.tracking.build import build_tracker
    from facerec.training.distributed import is_first_process
    from facerec.training.loop import train as run_training
    from facerec.training.record import TrainResult
    from facerec.training.summary import describe_summary, read_summary

    tracker = build_tracker(config, log_folder=Path(config.logging.log_dir))
    appraisal = None

    def keep(result: TrainResult) -> None:
        if config.logging.mlflow and config.logging.model:
            from facerec.tracking.predictor import keep_predictor

            nonlocal appraisal
            appraisal = keep_predictor(tracker, result, device=config.device)

    result = run_training(config, tracker=tracker, before_finish=keep)
    if is_first_process():
        click.echo(describe_summary(read_summary(result.run_folder)))
        if register_as:
            from facerec.cli.register import describe, exit_by_gate
            from facerec.serving.register import register

            registration = register(str(result.run_folder), name=register_as, device=config.device, appraisal=appraisal)
            click.echo(describe(registration))
            exit_by_gate(registration)


def _start_processes(arguments: list[str], overrides: tuple[str, ...], *, processes: int, device: str) -> None:
    from facerec.training.distributed import World
    from facerec.training.launch import launch

    # Where the last process finds a device, all do; where it does not, one sentence is enough.
    World(size=processes, local_rank=processes - 1).device(device)
    for text in overrides:
        arguments += ["--set", text]
    click.get_current_context().exit(launch(arguments, processes=processes))


def _option_overrides(device: str, resume: str) -> list[str]:
    overrides = [f"device={device}"] if device else []
    if resume.lower() in ("true", "false"):
        overrides.append(f"training.resume={resume.lower()}")
    elif resume:
        quoted = resume.replace("'", "''")
        overrides.append(f"training.resume='{quoted}'")
    return overrides
