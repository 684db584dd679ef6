"""Take the picture of `facerec demo-app` in this folder, of drawn heads: nobody's face is in it.

    python docs/pictures/take_demo_app.py --model models:/drawn@champion

The model is one that was trained and registered on `facerec data synthetic` pictures.
"""

from __future__ import annotations

import tempfile
import threading
import time
from pathlib import Path

import click
from browser import open_browser
from PIL import Image

_PORT = 8799
_WINDOW = (1000, 1290)


@click.command()
@click.option("--model", required=True)
@click.option("--bin", "bin_path", required=True, type=click.Path(path_type=Path), help="Pair set of drawn heads.")
@click.option("--output", type=click.Path(path_type=Path), default=Path(__file__).with_name("demo-app.png"))
def main(model: str, bin_path: Path, output: Path) -> None:
    """Compare the first pair of the set on the page and save what the browser shows."""
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    from facerec.data.pairs import read_pairs
    from facerec.serving.demo.app import HOST, build_app, load_any, run_app

    app = build_app(load_any(model, device="cpu"), title=model)
    threading.Thread(target=run_app, args=(app,), kwargs={"port": _PORT}, daemon=True).start()
    time.sleep(2)
    with tempfile.TemporaryDirectory() as folder, open_browser(*_WINDOW) as browser:
        browser.get(f"http://{HOST}:{_PORT}")
        wait = WebDriverWait(browser, 60)
        wait.until(lambda _: browser.find_elements(By.CSS_SELECTOR, "#far option"))
        for side, image in zip("ab", read_pairs(bin_path).images, strict=False):
            path = Path(folder) / f"{side}.jpg"
            path.write_bytes(image)
            browser.find_element(By.CSS_SELECTOR, f"#slot-{side} input").send_keys(str(path))
        wait.until(lambda _: browser.find_element(By.ID, "crops").is_displayed())
        time.sleep(1)
        browser.save_screenshot(str(output))
    picture = Image.open(output).quantize(128)
    picture.save(output, optimize=True)


if __name__ == "__main__":
    main()
