"""Take the pictures of MLflow's pages in this folder: start the UI, open each page in headless Chromium, save a PNG.

    python docs/pictures/take_screenshots.py --experiment facerec-demo
    python docs/pictures/take_screenshots.py --experiment facerec-tune --prefix mlflow-study --runs 30 --only compare

The store is the one of ``MLFLOW_TRACKING_URI``, or ``mlflow.db`` here. The experiment needs four finished runs.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click
from browser import open_browser

if TYPE_CHECKING:
    from selenium.webdriver.remote.webdriver import WebDriver

_SETTLE_S = 5.0
_FEWEST_RUNS = 4


@click.command()
@click.option("--experiment", default="facerec-demo", show_default=True)
@click.option("--output", type=click.Path(path_type=Path), default=Path(__file__).parent, show_default=True)
@click.option("--size", default="1600,1000", show_default=True, metavar="WIDTH,HEIGHT")
@click.option("--prefix", default="mlflow", show_default=True, help="The pictures are named PREFIX-PAGE.png.")
@click.option(
    "--runs",
    "count",
    type=click.IntRange(min=_FEWEST_RUNS),
    default=_FEWEST_RUNS,
    show_default=True,
    help="How many of the newest finished runs to compare.",
)
@click.option("--only", default="", metavar="PAGE,…", help="Some of the pages; by default all.")
def main(experiment: str, output: Path, size: str, prefix: str, count: int, only: str) -> None:
    """Save the run table, the charts, the comparison and the artifacts of the newest runs."""
    import mlflow
    from mlflow import MlflowClient

    client = MlflowClient()
    found = client.get_experiment_by_name(experiment)
    if found is None:
        raise click.UsageError(f"there is no experiment {experiment}; `mlflow run` a training first")
    runs = client.search_runs([found.experiment_id], "attributes.status = 'FINISHED'", max_results=count)
    if len(runs) < _FEWEST_RUNS:
        raise click.UsageError(f"the experiment {experiment} has {len(runs)} finished runs; {_FEWEST_RUNS} are needed")
    uri = mlflow.get_tracking_uri()
    width, height = map(int, size.split(","))
    with ui(uri) as address, open_browser(width, height) as driver:
        show_training_pages(driver, address)
        chosen = pages(found.experiment_id, [run.info.run_id for run in runs])
        for name, page in chosen.items():
            if only and name not in only.split(","):
                continue
            target = output / f"{prefix}-{name}.png"
            take(driver, f"{address}/#/{page}", target)
            click.echo(target)


def pages(experiment_id: str, run_ids: list[str]) -> dict[str, str]:
    """Name of the picture to the page behind ``#/``."""
    runs = urllib.parse.quote(json.dumps(run_ids))
    experiments = urllib.parse.quote(json.dumps([experiment_id]))
    return {
        "runs": f"experiments/{experiment_id}/runs",
        "charts": f"experiments/{experiment_id}/runs?compareRunsMode=CHART",
        "compare": f"compare-runs?runs={runs}&experiments={experiments}",
        "overview": f"experiments/{experiment_id}/runs/{run_ids[0]}",
        "artifacts": f"experiments/{experiment_id}/runs/{run_ids[0]}/artifacts",
        "models": f"experiments/{experiment_id}/models",
    }


@contextmanager
def ui(tracking_uri: str) -> Iterator[str]:
    """MLflow's UI of a store on a free port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    environment = os.environ | {
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    command = [sys.executable, "-m", "mlflow", "ui", "-w", "1", "-p", str(port), "--backend-store-uri", tracking_uri]
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    address = f"http://127.0.0.1:{port}"
    try:
        wait_for(f"{address}/health", process)
        yield address
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()


def wait_for(url: str, process: subprocess.Popen[bytes], *, timeout_s: float = 120) -> None:
    """Until the address answers."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            with urllib.request.urlopen(url, timeout=2):  # noqa: S310 - an address of our own making
                return
        except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
            if process.poll() is not None or time.monotonic() > deadline:
                raise click.ClickException(f"mlflow ui does not answer: {error}") from error
            time.sleep(0.2)


def show_training_pages(driver: WebDriver, address: str) -> None:
    """Choose the pages for model training instead of those for language-model applications; MLflow remembers it."""
    driver.get(address)
    time.sleep(_SETTLE_S)
    driver.find_element("xpath", "//*[normalize-space(text())='Model training']").click()


def take(driver: WebDriver, url: str, target: Path) -> None:
    """One page as a PNG, once its scripts have drawn it; the panel of MLflow's assistant is closed first."""
    driver.get(url)
    time.sleep(_SETTLE_S)
    for button in driver.find_elements(
        "css selector", "button[aria-label='Close'], button[aria-label='Close assistant']"
    ):
        if button.is_displayed():
            button.click()
    time.sleep(_SETTLE_S)
    driver.save_screenshot(str(target))


if __name__ == "__main__":
    main()
