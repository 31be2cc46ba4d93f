"""Take the picture of a report that the README opens with.

    make imagenet && .venv/bin/python tools/screenshot.py imagenet/report/index.html docs/images/report.png

Needs a Chromium; its place is found on the PATH.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

QUIET = ["--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update"]


def main() -> None:
    report, target = Path(sys.argv[1]).resolve(), sys.argv[2]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=QUIET)
        page = browser.new_page(viewport={"width": 1000, "height": 800})
        page.goto(report.as_uri())
        # The first data set's: the figure that says most at a glance.
        heading = page.get_by_role("heading", name="Accuracy by set size").first
        heading.locator("xpath=ancestor::*[.//*[local-name()='svg']][1]").screenshot(path=target)
        browser.close()


if __name__ == "__main__":
    main()
