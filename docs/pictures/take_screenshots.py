r"""Take the pictures of MLflow's pages in this folder: start the UI, open each page in headless Chromium, save a PNG.

    python docs/pictures/take_screenshots.py --experiment facerec-demo
    python docs/pictures/take_screenshots.py --experiment facerec-tune --prefix mlflow-study --only runs,compare \
        --runs 25 --filter "attributes.status != 'RUNNING'" --params head.margin,head.scale,training.lr

The store is the one of ``MLFLOW_TRACKING_URI``, or ``mlflow.db`` here. The experiment needs four runs.
"""

from __future__ import annotations

import dataclasses
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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click
from browser import open_browser
from PIL import Image
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

if TYPE_CHECKING:
    from selenium.webdriver.remote.webdriver import WebDriver
    from selenium.webdriver.remote.webelement import WebElement

_SETTLE_S = 5.0
_FEWEST_RUNS = 4
_STEP_S = 1.5
_ITEMS = "du-bois-light-select-item-option"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Page:
    """One page of the UI, and what is opened or chosen on it."""

    address: str
    """Behind ``#/``."""
    arrange: Callable[[WebDriver], None] = lambda driver: None


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
    help="How many of the newest runs to compare.",
)
@click.option("--only", default="", metavar="PAGE,…", help="Some of the pages; by default all.")
@click.option("--params", default="head.type,head.margin,seed", show_default=True)
@click.option("--metrics", default="eval/orl/accuracy,eval/orl/auc", show_default=True)
@click.option("--artifact", default="pictures/roc_epoch_020.png", show_default=True, help="Of the run with pages.")
@click.option("--filter", "condition", default="attributes.status = 'FINISHED'", show_default=True)
def main(
    experiment: str,
    output: Path,
    size: str,
    prefix: str,
    count: int,
    only: str,
    params: str,
    metrics: str,
    artifact: str,
    condition: str,
) -> None:
    """Save the run table, the charts, the comparison, and of the newest run without parents the pages."""
    import mlflow
    from mlflow import MlflowClient

    client = MlflowClient()
    found = client.get_experiment_by_name(experiment)
    if found is None:
        raise click.UsageError(f"there is no experiment {experiment}; `mlflow run` a training first")
    runs = client.search_runs([found.experiment_id], condition, max_results=1000)
    if len(runs) < _FEWEST_RUNS:
        raise click.UsageError(f"the experiment {experiment} has {len(runs)} such runs; {_FEWEST_RUNS} are needed")
    top = next(run for run in runs if "mlflow.parentRunId" not in run.data.tags)
    # A run of a whole study has none of the parameters.
    compared = [run.info.run_id for run in runs if params.split(",")[0] in run.data.params][:count]
    width, height = map(int, size.split(","))
    with ui(mlflow.get_tracking_uri()) as address, open_browser(width, height) as driver:
        show_training_pages(driver, address)
        chosen = pages(
            found.experiment_id,
            top=top.info.run_id,
            compared=compared,
            params=params.split(","),
            metrics=metrics.split(","),
            artifact=artifact,
        )
        for name, page in chosen.items():
            if only and name not in only.split(","):
                continue
            target = output / f"{prefix}-{name}.png"
            take(driver, address, page, target)
            click.echo(target)


def pages(
    experiment_id: str, *, top: str, compared: list[str], params: list[str], metrics: list[str], artifact: str
) -> dict[str, Page]:
    """The pages by the name of their picture."""
    runs = urllib.parse.quote(json.dumps(compared))
    experiments = urllib.parse.quote(json.dumps([experiment_id]))
    here = f"experiments/{experiment_id}"
    return {
        "runs": Page(address=f"{here}/runs", arrange=lambda driver: show_columns(driver, [*metrics, *params])),
        "charts": Page(
            address=f"{here}/runs?compareRunsMode=CHART",
            arrange=lambda driver: search_charts(driver, f"^({'|'.join([*metrics, 'train/loss'])})$"),
        ),
        "compare": Page(
            address=f"compare-runs?runs={runs}&experiments={experiments}",
            arrange=lambda driver: choose_axes(driver, params, metrics),
        ),
        "overview": Page(address=f"{here}/runs/{top}"),
        "artifacts": Page(
            address=f"{here}/runs/{top}/artifacts", arrange=lambda driver: open_artifact(driver, artifact)
        ),
        "models": Page(address=f"{here}/models"),
    }


def show_columns(driver: WebDriver, keys: list[str]) -> None:
    """Show these parameters and metrics in the run table in place of source and models, and the runs below a run."""
    click_button(driver, "Columns")
    search = driver.find_element("css selector", "input[placeholder='Search columns']")
    for key in ("Dataset", "Source", "Models", *keys):
        search.send_keys(Keys.CONTROL, "a")
        search.send_keys(key)
        time.sleep(_STEP_S)
        # What was searched for is marked in the title, which then is no plain text.
        title = f"//*[contains(@class, 'tree-title')][normalize-space(.)='{key}']"
        find(driver, f"{title}/../preceding-sibling::*[contains(@class, 'tree-checkbox')]").click()
    search.send_keys(Keys.ESCAPE)
    time.sleep(_STEP_S)
    for expander in driver.find_elements("css selector", "[role='gridcell'][col-id*='Run Name'] button"):
        expander.click()


def find(driver: WebDriver, path: str) -> WebElement:
    """The first element of that XPath, once it is there."""
    return WebDriverWait(driver, 120).until(lambda one: one.find_element("xpath", path))


def search_charts(driver: WebDriver, pattern: str) -> None:
    """Show the charts of the metrics whose key matches."""
    driver.find_element("css selector", "input[placeholder='Search metric charts']").send_keys(pattern)
    driver.find_element("css selector", "h2").click()


def choose_axes(driver: WebDriver, params: list[str], metrics: list[str]) -> None:
    """Give the parallel coordinates these axes."""
    click_button(driver, "Clear All")
    for selector, keys in zip(
        driver.find_elements("css selector", ".du-bois-light-select-selector"), (params, metrics), strict=True
    ):
        selector.click()
        time.sleep(_STEP_S)
        for key in keys:
            # The list may draw itself anew between a look and a click of the mouse.
            driver.execute_script("arguments[0].click()", find_item(driver, key))
        ActionChains(driver).send_keys(Keys.ESCAPE).perform()


def find_item(driver: WebDriver, title: str) -> WebElement:
    """An item of the list that is open; only those in view are part of the page."""
    lists = driver.find_elements("css selector", ".rc-virtual-list-holder")
    (holder,) = [one for one in lists if one.is_displayed()]
    for offset in range(0, holder.get_property("scrollHeight"), 200):
        driver.execute_script("arguments[0].scrollTop = arguments[1]", holder, offset)
        time.sleep(0.1)
        for item in holder.find_elements("css selector", f".{_ITEMS}[title='{title}']"):
            return item
    raise click.ClickException(f"the runs have no {title}")


def open_artifact(driver: WebDriver, path: str) -> None:
    """Open the folders on the way to a file, and the file; where the store keeps it is of no interest to others."""
    for name in path.split("/"):
        find(driver, f"//*[@artifact-name='{name}']").click()
        time.sleep(_STEP_S)
    where = find(driver, "//*[starts-with(normalize-space(text()), 'Path:')]")
    driver.execute_script("arguments[0].style.visibility = 'hidden'", where)


def click_button(driver: WebDriver, text: str) -> None:
    """The first button with that text."""
    next(one for one in driver.find_elements("css selector", "button") if one.text == text).click()
    time.sleep(_STEP_S)


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


def take(driver: WebDriver, address: str, page: Page, target: Path) -> None:
    """One page as a PNG, once its scripts have drawn it; the panel of MLflow's assistant is closed first."""
    driver.get(f"{address}/#/{page.address}")
    time.sleep(_SETTLE_S)
    for button in driver.find_elements(
        "css selector", "button[aria-label='Close'], button[aria-label='Close assistant']"
    ):
        if button.is_displayed():
            button.click()
            time.sleep(_STEP_S)
    page.arrange(driver)
    time.sleep(_SETTLE_S)
    driver.save_screenshot(str(target))
    Image.open(target).quantize(256).save(target, optimize=True)


if __name__ == "__main__":
    main()
