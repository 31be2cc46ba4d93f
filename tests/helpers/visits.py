"""Pages from ``file://`` in a browser, as a reader opens them."""

from collections import defaultdict
from contextlib import contextmanager

WIDE = {"width": 1280, "height": 900}


@contextmanager
def visitors(browser, timeout=8_000):
    """Yield a context manager for each test, which yields a function that opens an address.

    Tests share pages with the same options: a new one starts a process, which costs as much CPU as what it
    shows. What was stored, permitted or emulated ends with each test, and what the console said fails it.
    """
    free, said, every = defaultdict(list), [], []

    def opened(options):
        context = browser.new_context(**{"viewport": WIDE, **options})
        every.append(context)
        page = context.new_page()
        page.set_default_timeout(timeout)
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda r: r.url.startswith(("file:", "data:", "about:")) or said.append(r.url))
        page.on("dialog", lambda dialog: said.append(dialog.message))
        return page

    @contextmanager
    def visits():
        said.clear()
        used = []

        def visit(address, **options):
            key = repr(sorted(options.items()))
            page = free[key].pop() if free[key] else opened(options)
            used.append((key, page))
            page.goto(address)
            return page

        yield visit
        for key, page in used:
            page.evaluate("localStorage.clear()")
            page.emulate_media(media="null")
            page.context.clear_permissions()
            page.goto("about:blank")
            free[key].append(page)
        assert said == []

    try:
        yield visits
    finally:
        for context in every:
            context.close()
