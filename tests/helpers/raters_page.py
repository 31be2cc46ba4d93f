"""A small campaign whose page is looked at in a real browser.

``python raters_page.py FOLDER PORT`` serves it from a process of its own, which can be killed.
"""

from __future__ import annotations

import sqlite3
import sys
import threading
import time
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw

from manyhot.classes import ClassList
from manyhot.reassess.app import CampaignSettings, Example, ImageQuestions, Store, create_app
from manyhot.reassess.app.store import Vote

HOSTILE = '<img src=x onerror="window.hit=1"><script>window.hit=1</script>'
NAMES = (
    "tabby cat",
    "goldfish",
    "sports car",
    "acoustic guitar",
    "collie",
    "bubble",
    HOSTILE,
    "tench",
    "crane",
)
CLASSES = ClassList(
    "test",
    tuple(f"n{c}" for c in range(len(NAMES))),
    NAMES,
    (("tabby",), ("Carassius auratus",), *((),) * 5, ("Tinca tinca",), ("hoist",)),
    ("a cat with stripes", "a small fish", *("",) * 4, HOSTILE, "a freshwater fish", "lifts heavy objects"),
    ((),) * len(NAMES),
)
ANSWERS = ("no", "maybe", "yes")
# Tells when an image was shown: what is pressed within 250 ms after that was meant for the one before.
SHOWN = """
  new MutationObserver((changes) => {
    if (changes.some((change) => change.target.id === "frame")) window.shownAt = performance.now();
  }).observe(document, { childList: true, subtree: true });
"""
# Within the page: to ask it again and again from here costs more than all that it does.
UNTIL = """new Promise((done) => {
  const look = (left) => (%s) ? done(true) : left ? setTimeout(look, 20, left - 1) : done(false);
  look(%d);
})"""


@dataclass
class Campaign:
    """A campaign in a folder; `address` where it is served."""

    folder: Path
    store: Store
    address: str = ""

    def link(self, name="ann", **more):
        """Return an invitation of a rater."""
        return f"{self.address}/join/{self.store.invite(name, **more)}"

    def votes(self):
        """Return what the database itself says: image and class to the answers in their order."""
        found = {}
        for image, class_id, answer, main in self.rows(
            "SELECT i.name, q.class_id, v.answer, v.main FROM votes v"
            " JOIN questions q ON q.id = v.question_id"
            " JOIN pages p ON p.id = q.page_id JOIN images i ON i.id = p.image_id ORDER BY v.id"
        ):
            found.setdefault((image, class_id), []).append(ANSWERS[answer] + "*" * main)
        return found

    def last(self):
        """Return the last answer to each question."""
        return {question: answers[-1] for question, answers in self.votes().items()}

    def rows(self, query):
        """Return rows of the database, past everything that the app does."""
        with closing(sqlite3.connect(self.folder / "votes.sqlite")) as connection:
            return connection.execute(query).fetchall()


def make(folder, *, pages=6, classes=(0, 1, 2), examples=2, **settings):
    """Return a campaign of pages that show the number of their image; each class has as many examples."""
    asked = []
    folder.mkdir(exist_ok=True)
    for n in range(pages):
        path = _picture(folder / f"{n}.jpg", str(n), (320, 240))
        asked.append(ImageQuestions(path.name, str(path), 0, tuple(classes)))
    shown = [
        Example(c, f"e{c}-{k}.jpg", str(_picture(folder / f"e{c}-{k}.jpg", f"{c}:{k}", (96, 96))))
        for c in range(len(NAMES))
        for k in range(examples)
    ]
    store = Store(f"sqlite:///{folder / 'votes.sqlite'}")
    store.fill(
        asked,
        shown,
        CampaignSettings(**{"raters": 1, "golden_every": 0, "least_seconds": 0} | settings),
        "source",
    )
    return Campaign(folder, store)


def answer_all(store, name, yes):
    """Let a rater answer all there is: yes to some classes, no to the others."""
    rater, sent = store.invited(store.invite(name)), 0
    while visits := store.queue(rater).visits:
        for c in visits[0].shown:
            sent += 1
            store.store(rater, [Vote(f"by-{rater.id}-{sent:06d}", visits[0].key, c, 2 * (c in yes))])


def _picture(path, text, size):
    image = Image.new("RGB", size, "white")
    ImageDraw.Draw(image).text((20, 20), text, fill="black")
    image.save(path)
    return path


@contextmanager
def served(campaign):
    """Serve a campaign from a thread."""
    import uvicorn

    from manyhot.reassess.app.server import _listen

    app = create_app(campaign.store, CLASSES, campaign.folder / "cache", title="A campaign")
    with _listen("127.0.0.1", 0) as listening:
        config = uvicorn.Config(app, log_level="warning", access_log=False, ws="none", lifespan="off")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        campaign.address = f"http://127.0.0.1:{listening.getsockname()[1]}"
        try:
            yield campaign
        finally:
            server.should_exit = True
            thread.join()
            campaign.store.close()


def until(true, what="", seconds=20.0):
    """Wait for something to be true, which is not on a page."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"not within {seconds:g} s: {what}"
        time.sleep(0.02)


@contextmanager
def visitors(chromium, *, offline=False):
    """Yield a function that opens a link as a new rater with a browser of his own.

    What the page says to the console fails the test; `offline` allows for requests that do not come through.
    """
    contexts, said = [], []

    # Chromium says the first where the button to begin is clicked before its page is drawn, as nobody could.
    fine = ("Autofocus processing was blocked", *(("Failed to load resource",) if offline else ()))

    def hear(text):
        if not text.startswith(fine):
            said.append(text)

    def visit(link, *, context=None, begin=True, script=None, **options):
        if context is None:
            context = chromium.new_context(**{"viewport": {"width": 1280, "height": 800}} | options)
            contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(8_000)
        page.on("console", lambda message: hear(message.text))
        page.on("pageerror", lambda error: hear(str(error)))
        page.add_init_script(SHOWN)
        if script:
            page.add_init_script(script)
        page.goto(link)
        if begin:
            page.get_by_role("button", name="Begin").click()
            page.wait_for_url(lambda url: "/join/" not in url)
        return Rater(page)

    try:
        yield visit
    finally:
        for context in contexts:
            context.close()
    assert said == [], said


class Rater:
    """A person at a page."""

    def __init__(self, page):
        self.page = page

    @property
    def image(self):
        """The number in the address of the image that is shown."""
        return self.page.get_attribute("#frame > img", "src")

    @property
    def names(self):
        """The names of the classes in the order shown."""
        return self.page.locator("#classes .name").all_inner_texts()

    def press(self, *keys):
        """Press keys, each as soon as the page takes it."""
        for key in keys:
            self.until("!document.getElementById('page').hidden")
            if key in ("Enter", "0"):
                self.settle()
            self.page.keyboard.press(key)

    def settle(self):
        """Wait until an Enter is meant for this image."""
        self.until(
            "document.querySelector('#frame > img')?.complete && !document.getElementById('page').hidden"
            " && document.querySelector('#frame > img').naturalWidth && performance.now() - shownAt > 250"
        )

    def look_ahead(self):
        """Wait until the images that come next are there, so that they can be answered without the server."""
        addresses = (
            "performance.getEntriesByType('resource').map(e => e.name).filter(n => n.endsWith('/large'))"
        )
        self.until(f"new Set({addresses}).size >= 4")
        self.settle()

    def number(self, class_id):
        """Return the key of a class on this page."""
        return str(self.names.index(NAMES[class_id]) + 1)

    def row(self, class_id):
        """Return the row of a class."""
        return self.page.locator("#classes > li").nth(int(self.number(class_id)) - 1)

    def answers(self):
        """Return what the page shows as answered, in the order of the rows."""
        return self.page.eval_on_selector_all("#classes > li", "rows => rows.map(r => r.dataset.answer)")

    def sent(self):
        """Wait until nothing waits in the browser."""
        self.until("document.getElementById('saved').textContent === 'All sent'")

    def until(self, script, seconds=20.0):
        """Wait for something to be true on the page."""
        assert self.page.evaluate(UNTIL % (script, 50 * seconds)), f"not within {seconds:g} s: {script}"


def main(folder, port):
    """Serve what `make` left in a folder."""
    from manyhot.reassess.app.server import serve

    store = Store(f"sqlite:///{Path(folder) / 'votes.sqlite'}")
    app = create_app(store, CLASSES, Path(folder) / "cache", title="A campaign")
    serve(app, "127.0.0.1", int(port), lambda address: print(address, flush=True))


if __name__ == "__main__":
    main(*sys.argv[1:])
