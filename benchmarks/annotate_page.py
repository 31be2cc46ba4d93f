"""The rater's page in Chromium: until it is complete, and until the next image is there.

    python benchmarks/annotate_page.py [--pages 40] [--opened 9]

The server is the command `manyhot annotate` with its small pictures made; all is on loopback. A page has an
image and 8 classes × 8 example images.

complete, new browser
    from the navigation's begin to the paint with all 65 pictures; nothing is in the browser's cache
complete, reload
    the same, once more in the same browser
next image
    from the key to the paint, for a rater who takes 0.7 s a page
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import annotate
import numpy as np
from playwright.sync_api import Browser, Page, sync_playwright

CHROMIUM = "/usr/bin/chromium"
COMPLETE = """
window.complete = new Promise((done) => {
  const look = () => {
    const pictures = [...document.querySelectorAll("#frame img, .examples img")];
    const there = pictures.every((e) => e.complete && e.naturalWidth);
    const complete = pictures.length === 65 && there && !document.getElementById("page").hidden;
    if (!complete) return requestAnimationFrame(look);
    requestAnimationFrame(() => setTimeout(() => done(performance.now())));
  };
  look();
});
"""


def opened(browser: Browser, links: list[str]) -> tuple[list[float], list[float]]:
    """Return the milliseconds until a page is complete, in new browsers and after a reload."""
    new, again = [], []
    for link in links:
        context = browser.new_context(viewport={"width": 1280, "height": 800})
        context.add_init_script(COMPLETE)
        page = context.new_page()
        page.goto(link)
        page.get_by_role("button", name="Begin").click()
        page.wait_for_selector("#frame")
        new.append(page.evaluate("complete"))
        page.wait_for_timeout(1500)  # until the next pages are loaded, too
        page.reload()
        again.append(page.evaluate("complete"))
        context.close()
    return new, again


def next_images(page: Page, count: int) -> list[float]:
    """Return the milliseconds from a key to the paint of the next image."""
    page.wait_for_timeout(1500)
    for _ in range(count):
        page.keyboard.press("1")
        page.wait_for_timeout(350)
        page.keyboard.press("Enter")
        page.wait_for_timeout(350)
    times: list[float] = page.evaluate("performance.getEntriesByName('next image').map((e) => e.duration)")
    return times


def tell(what: str, times: list[float]) -> None:
    cuts = np.percentile(times, (50, 95, 100))
    print(f"{what:<24}{len(times):>5}" + "".join(f"{cut:>9.0f}" for cut in cuts))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--pages", type=int, default=40)
    parser.add_argument("--opened", type=int, default=9, help="browsers")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="manyhot-page-") as base:
        folder = Path(base) / "campaign"
        annotate.make_campaign(folder, 400, 10)
        annotate.warm(folder, 400)
        for old in folder.glob("annotation.sqlite*"):
            old.unlink()
        server = annotate.Server(folder, None)
        address = server.start()
        try:
            links = server.invite([f"rater{n}" for n in range(options.opened + 1)], address)
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
                opened(browser, links[:1])  # Chromium's own start
                new, again = opened(browser, links[1:])
                page = browser.new_context(viewport={"width": 1280, "height": 800}).new_page()
                page.goto(server.invite(["quick"], address)[0])
                page.get_by_role("button", name="Begin").click()
                nexts = next_images(page, options.pages)
                browser.close()
        finally:
            server.stop()
    print(f"{'':<24}{'n':>5}{'50 %':>9}{'95 %':>9}{'most':>9}  ms")
    tell("complete, new browser", new)
    tell("complete, reload", again)
    tell("next image", nexts)
    if not nexts:
        raise SystemExit("No image came.")


if __name__ == "__main__":
    main()
