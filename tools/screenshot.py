"""Take the picture of a report that the README opens with.

    make imagenet && .venv/bin/python tools/screenshot.py imagenet/report/index.html docs/images/report.png

Needs a Chromium; its place is found on the PATH.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

QUIET = ["--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update"]
FIGURE = "set-size-accuracy-imagenet-val"
"""The figure that says most at a glance."""


def main() -> None:
    report, target = Path(sys.argv[1]).resolve(), sys.argv[2]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=QUIET)
        page = browser.new_page(viewport={"width": 1120, "height": 900}, color_scheme="light")
        page.goto(report.as_uri())
        figure = page.locator(f"#{FIGURE}")
        figure.scroll_into_view_if_needed()
        # What only a reader at the page can use.
        page.add_style_tag(content=".fig-more, .readout { display: none !important }")
        page.add_style_tag(content=".fig { padding: 12px; box-sizing: content-box }")
        figure.screenshot(path=target)
        browser.close()
    # A drawing has few colours: a third of the size.
    Image.open(target).convert("RGB").quantize(128, dither=Image.Dither.NONE).save(target, optimize=True)


if __name__ == "__main__":
    main()
