"""Runs that their process has left in state RUNNING."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from facerec.tracking.process import HOST_TAG, PID_TAG, REASON_TAG, host_name, is_gone, last_sign

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

__all__ = ["StaleRun", "close_stale_run", "find_stale_runs"]

_PAGE = 500


@dataclass(frozen=True, kw_only=True)
class StaleRun:
    """A run in state RUNNING whose process is gone."""

    run_id: str
    name: str
    pid: int
    last_sign_ms: int | None
    """When the process last showed that it lived, in milliseconds since 1970."""


def find_stale_runs(client: MlflowClient) -> list[StaleRun]:
    """Runs of this machine, in every experiment, whose process has ended without closing them."""
    return [_describe(run) for run in _running_here(client) if is_gone(run.data.tags)]


def close_stale_run(client: MlflowClient, stale: StaleRun) -> None:
    """Mark the run as killed, at the time of its last sign of life."""
    client.set_tag(stale.run_id, REASON_TAG, f"its process {stale.pid} is gone")
    client.set_terminated(stale.run_id, "KILLED", stale.last_sign_ms)


def _running_here(client: MlflowClient) -> Iterator[Run]:
    experiment_ids = [experiment.experiment_id for experiment in client.search_experiments()]
    if not experiment_ids:
        return
    filter_string = f"attributes.status = 'RUNNING' and tags.`{HOST_TAG}` = '{host_name()}'"
    token = None
    while True:
        page = client.search_runs(experiment_ids, filter_string, max_results=_PAGE, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _describe(run: Run) -> StaleRun:
    sign = last_sign(run.data.tags)
    return StaleRun(
        run_id=run.info.run_id,
        name=run.info.run_name or "",
        pid=int(run.data.tags[PID_TAG]),
        last_sign_ms=None if sign is None else int(sign.timestamp() * 1000),
    )
