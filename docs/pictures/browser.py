"""Headless Chromium, as the pictures in this folder and the test of the page use it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from selenium.webdriver.remote.webdriver import WebDriver

__all__ = ["find_programs", "open_browser"]

_ARGUMENTS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)


def find_programs() -> tuple[str, str] | None:
    """Chromium and its driver; None where one of them is missing (Debian's packages are chromium, chromium-driver)."""
    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    return None if program is None or driver is None else (program, driver)


@contextmanager
def open_browser(width: int, height: int) -> Iterator[WebDriver]:
    """A browser with a window of that size and a profile of its own.

    Raises:
        FileNotFoundError: Chromium or its driver is missing.
    """
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    programs = find_programs()
    if programs is None:
        raise FileNotFoundError("Chromium or its driver is missing (Debian: chromium, chromium-driver)")
    with tempfile.TemporaryDirectory() as profile:
        options = webdriver.ChromeOptions()
        options.binary_location = programs[0]
        for argument in (*_ARGUMENTS, f"--window-size={width},{height}", f"--user-data-dir={profile}"):
            options.add_argument(argument)
        driver = webdriver.Chrome(options=options, service=Service(programs[1]))
        try:
            yield driver
        finally:
            driver.quit()
