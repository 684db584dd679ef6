"""``facerec tune``: search for better settings, show what was found, export it."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from facerec.cli.options import debug_option, echo_json, json_option, set_option
from facerec.cli.register import describe, exit_by_gate
from facerec.errors import UsageError

if TYPE_CHECKING:
    from facerec.serving.register import Registration
    from facerec.tuning.plan import StudyPlan
    from facerec.tuning.report import StudyReport

_storage_option = click.option(
    "--storage",
    metavar="URL",
    default="",
    help="A journal's path, sqlite:///FILE or postgresql://…; replaces the study's.",
)


@click.group(invoke_without_command=True)
@click.option("--study", metavar="FILE", default="", help="Study: a YAML file, or a name of `facerec config list`.")
@click.option("--trials", metavar="N", default="", help="Trials in total, those of earlier calls included.")
@click.option("--workers", metavar="N", default="", help="Processes on this machine; by default 1.")
@_storage_option
@click.option("--config", metavar="FILE", default="", help="Base configuration; replaces the study's.")
@set_option
@click.option("--dry-run", is_flag=True, help="Check everything, measure one epoch, print what would run, and stop.")
@click.option(
    "--register-as",
    metavar="NAME",
    default="",
    help="Afterwards register the tuned model under this name, as `facerec register` does.",
)
@click.option("--worker", is_flag=True, hidden=True, help="Work on a study that another process reports on.")
@json_option
@debug_option
@click.pass_context
def tune(
    context: click.Context,
    study: str,
    trials: str,
    workers: str,
    storage: str,
    config: str,
    overrides: tuple[str, ...],
    dry_run: bool,
    register_as: str,
    worker: bool,
    as_json: bool,
) -> None:
    """Search for better settings of a configuration, and say whether they are better.

    The same command goes on after a stop, up to the total number of trials; with the same storage, workers on other
    machines join in. An empty value counts as absent.
    """
    if context.invoked_subcommand is not None:
        _refuse_before(context, context.invoked_subcommand)
        return
    if dry_run and as_json:
        raise UsageError("--dry-run prints a text for people; leave --json out")
    if dry_run and register_as:
        raise UsageError("--dry-run leaves nothing to register; leave --register-as out")
    if not study:
        raise UsageError("give --study FILE, such as --study studies/demo.yaml")
    from facerec.tuning.plan import load_study

    plan = load_study(
        study,
        base=config or None,
        overrides=[text for text in overrides if text.strip()],
        trials=_number(trials, "--trials"),
        storage=storage or None,
    )
    count = _number(workers, "--workers") or 1
    if register_as:
        _check_registrable(plan, register_as)
    if worker:
        _join(plan)
    elif dry_run:
        _dry_run(plan, workers=count)
    else:
        _run(plan, workers=count, register_as=register_as, as_json=as_json)


@tune.command()
@click.argument("study")
@_storage_option
@json_option
@debug_option
def show(study: str, storage: str, as_json: bool) -> None:
    """Show how STUDY, a study file, its folder or its name, stands and what it found."""
    from facerec.tuning.locate import find_study
    from facerec.tuning.report import build_report, describe_report, report_to_json
    from facerec.tuning.tables import trials_markdown

    opened = find_study(study, storage=storage or None)
    report = build_report(opened)
    if as_json:
        echo_json(report_to_json(report))
        return
    click.echo(trials_markdown(opened.search.trials(), opened.plan))
    click.echo(f"\n{describe_report(report)}")


@tune.command()
@click.argument("study")
@click.argument("out")
@click.option("--trial", type=int, metavar="N", default=None, help="This trial's setting in place of the tuned one.")
@_storage_option
@debug_option
def export(study: str, out: str, trial: int | None, storage: str) -> None:
    """Write the tuned configuration of STUDY to OUT, for `facerec train`."""
    from facerec.fsio import atomic_write_text
    from facerec.tuning.locate import find_study, setting_of_trial
    from facerec.tuning.report import build_report, tuned_yaml, verdict_sentence

    opened = find_study(study, storage=storage or None)
    plan = opened.plan
    if trial is not None:
        _, values, _ = setting_of_trial(opened, trial)
        comment = f"Study {plan.name}, trial {trial}."
    else:
        report = build_report(opened)
        if report.winner is None:
            raise UsageError(f"study {plan.name} has no single best setting; name a trial with --trial N")
        number, values = report.winner
        comment = f"Study {plan.name}, trial {number}.\n{verdict_sentence(report)}"
    atomic_write_text(Path(out), tuned_yaml(plan, values, comment=comment))
    click.echo(f"wrote {out}", err=True)


def _refuse_before(context: click.Context, command: str) -> None:
    """Options of a study before the name of another command would have no effect."""
    given = [one for one in context.command.params if context.params.get(one.name or "") not in ("", (), False, None)]
    if given:
        raise UsageError(f"{given[0].opts[0]} stands before '{command}' and has no effect there; write it after it")


def _check_registrable(plan: StudyPlan, name: str) -> None:
    """A long study must not end with a name that nothing can be registered under."""
    from facerec.serving.versions import check_name
    from facerec.tuning.winner import check_single_winner

    check_name(name)
    check_single_winner(plan)


def _run(plan: StudyPlan, *, workers: int, register_as: str, as_json: bool) -> None:
    from facerec.tracking.study import StudyRun
    from facerec.tuning.report import describe_report, report_to_json
    from facerec.tuning.run import Workers, run_study

    several = Workers(count=workers, command=[sys.executable, "-m", "facerec", *sys.argv[1:], "--worker"])
    report = run_study(
        plan,
        tracker=StudyRun(plan.base),
        tell=lambda line: click.echo(line, err=True),
        workers=several if workers > 1 else None,
    )
    if not as_json:
        click.echo(describe_report(report))
    registration = _register(report, register_as) if register_as else None
    if as_json:
        registered = {"registration": dataclasses.asdict(registration)} if registration else {}
        echo_json(report_to_json(report) | registered)
    elif registration is not None:
        click.echo(describe(registration))
    if registration is not None:
        exit_by_gate(registration)


def _register(report: StudyReport, name: str) -> Registration:
    """Register the winner; its thresholds come from the pairs that the search did not choose by, if there are any."""
    from facerec.serving.register import register
    from facerec.tuning.winner import winner_run

    plan = report.plan
    return register(str(winner_run(report)), name=name, bins=plan.study.report.files, device=plan.base.device)


def _join(plan: StudyPlan) -> None:
    from facerec.tracking.study import StudyRun
    from facerec.tuning.run import join_study

    # The parent keeps what comes here on its standard error; the training's own log goes to a file.
    join_study(plan, tracker=StudyRun(plan.base), tell=click.echo)


def _dry_run(plan: StudyPlan, *, workers: int) -> None:
    from facerec.tracking.null import NullTracker
    from facerec.tuning.dry_run import describe_study

    click.echo(
        describe_study(plan, workers=workers, tracker=NullTracker(), tell=lambda line: click.echo(line, err=True))
    )


def _number(text: str, option: str) -> int | None:
    if not text:
        return None
    if not text.isdecimal() or int(text) < 1:
        raise UsageError(f"{option} {text}: must be a whole number of at least 1")
    return int(text)
