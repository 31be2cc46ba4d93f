"""Pages in a browser: how tall they are, and what is cut off."""

from contextlib import contextmanager
from pathlib import Path

WHOLE = ".dataset, .listing, .fig, .album { content-visibility: visible !important }"
"""Parts that are not on the screen have the height that the browser supposes until they are drawn."""


@contextmanager
def opener(chromium):
    """Yield a function that opens a page at a width, all of it drawn."""
    contexts = []

    def opened(path, width, media="screen"):
        context = chromium.new_context(viewport={"width": width, "height": 900})
        contexts.append(context)
        page = context.new_page()
        page.goto(Path(path).resolve().as_uri())
        page.add_style_tag(content=WHOLE)
        page.emulate_media(media=media)
        page.wait_for_timeout(300)
        return page

    try:
        yield opened
    finally:
        for context in contexts:
            context.close()


def size(page):
    return page.evaluate("[document.documentElement.scrollWidth, document.documentElement.scrollHeight]")


def cut(page):
    """Return the tables whose right edge can only be reached by scrolling."""
    page.evaluate("for (const d of document.querySelectorAll('details')) d.open = true")
    wider = "boxes => boxes.filter(b => b.scrollWidth > b.clientWidth + 1).map(b => b.parentElement.id)"
    return page.locator(".listing .box:has(> .plain)").evaluate_all(wider)
