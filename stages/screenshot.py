"""screenshot: take the picture of the report that README.md shows, docs/report.png."""

from __future__ import annotations

import base64
import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from carryover.artefacts import replacing
from carryover.errors import CarryoverError
from stages import page
from stages.command import run

PICTURE = Path("docs/report.png")
WIDTH, HEIGHT = 1100, 1300
DRAWN = "return [...document.querySelectorAll('[data-chart]')].every(place => place.dataset.drawn)"


class NoBrowserError(CarryoverError):
    """There is no browser that can be driven from here."""


def main() -> None:
    """Open the report of the last run, and write the picture of its beginning."""
    with browser() as opened:
        look(opened, page.PAGE, WIDTH)
        clip = {"x": 0, "y": 0, "width": WIDTH, "height": HEIGHT, "scale": 1}
        taken = opened.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True, "clip": clip})
    with replacing(PICTURE) as temporary:
        temporary.write_bytes(base64.b64decode(taken["data"]))
    print(PICTURE)


@contextlib.contextmanager
def browser() -> Iterator[Any]:
    """Start a Chromium without a screen, which notes what it says and what it asks for, and end it.

    Raises:
        NoBrowserError: if there is none.
    """
    from selenium import webdriver

    program, driver = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
    if not program or not driver:
        raise NoBrowserError("No chromium with chromedriver is installed: on Debian, `apt-get install chromium chromium-driver`.")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    started = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    try:
        yield started
    finally:
        started.quit()


def look(opened: Any, path: Path, width: int, scheme: str = "light") -> None:
    """Open a report at so many pixels of width, in the colour `scheme` "light" or "dark", and wait until its charts are drawn."""
    from selenium.webdriver.support.ui import WebDriverWait

    opened.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False})
    opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]})
    opened.get(path.resolve().as_uri())
    WebDriverWait(opened, 60).until(lambda opened: opened.execute_script(DRAWN))


if __name__ == "__main__":
    run(main)
