"""The annotation app at the size of a training set: filling, restart, many raters at once, more raters.

    python benchmarks/annotate_scale.py [--images 128000] [--database sqlite|postgresql] [--only NAME …]

A campaign of `--images` images × 4 classes × 3 raters, whose images are one file. Printed are

- **start**: seconds, CPU seconds and peak memory of the first start, which fills the database, and of the
  next; of PostgreSQL, the CPU seconds of the client alone,
- **ask**: 24 raters who ask for pages at once, again and again: latencies of the queue,
- **raters**: the longest time without a stored answer while raters per question go from 3 to 4, when one
  rater answers all the time,
- **flood**: the bytes that the database grows by in 12 s, while one rater sends remarks as
  fast as it can, and how the app refuses them.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import re
import secrets
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import sqlalchemy as sa

sys.path.insert(0, str(Path(__file__).resolve().parent))
import annotate

CLASSES, A_PAGE, RATERS = 1000, 4, 3


def make_campaign(folder: Path, count: int) -> None:
    """Make a campaign of one photograph under `count` names, with four classes each."""
    from manyhot import tables
    from manyhot.reassess.init import init_campaign

    photo = folder.parent / "photo.jpg"
    photo.write_bytes(annotate._photo(np.random.default_rng(0)))
    names = pa.array([f"n{n % CLASSES:05d}/photo_{n:08d}.JPEG" for n in range(count)])
    labels = pa.array(np.arange(count) % CLASSES, pa.int32())
    uris = pa.array([f"{photo.parent}/{n}.jpg" for n in range(count)])
    images = pa.table({"image_id": names, "uri": uris, "label": labels})
    tables.write(images, folder.parent / "images.parquet", "images")
    campaign = init_campaign(folder, images=folder.parent / "images.parquet", classes="imagenet1k").campaign
    at = np.repeat(np.arange(count), A_PAGE)
    n = len(at)
    proposals = pa.table(
        {
            "image_id": names.take(pa.array(at)),
            "class_id": pa.array((at + np.tile(np.arange(A_PAGE) * 37, count)) % CLASSES, pa.int32()),
            "score": pa.array(np.full(n, 0.5), pa.float32()),
            "n_models": pa.array(np.ones(n), pa.int32()),
            "source": pa.array(np.full(n, "benchmark")),
        }
    )
    about = {"n_classes": str(CLASSES), "classes": campaign.class_hash}
    tables.write(proposals, campaign.path("proposals"), "proposals", about=about)


def begin(server: annotate.Server, what: str) -> str:
    """Start the server; print what it took. Return its address."""
    begun = time.monotonic()
    address = server.start()
    took, pid = time.monotonic() - begun, server._process.pid
    peak = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    cpu = server._began
    print(f"{what:<12} {took:6.1f} s, {cpu:6.1f} CPU s, peak {int(peak[1]) / 1024:,.0f} MB", flush=True)
    return address


class Rater:
    """A session that can ask and answer."""

    def __init__(self, link: str) -> None:
        self._seen = annotate.Seen()
        self._browser = annotate.Browser(link, 0.0, self._seen, 0)
        self.connection = annotate.Connection(*self._browser._place)

    async def come_in(self) -> None:
        """Open the invitation."""
        await self._browser.come_in()
        self.headers = self._browser._headers

    async def post(self, path: str, body: object) -> tuple[int, dict]:
        """Return the status and the content."""
        status, _, content = await self.connection.send("POST", path, self.headers, json.dumps(body).encode())
        return status, json.loads(content)


async def ask(links: list[str], rounds: int = 30) -> None:
    """Let all ask at once, for as long as the number of free pages is counted several times."""
    raters = [Rater(link) for link in links]
    for rater in raters:
        await rater.come_in()
    times = []

    async def timed(rater: Rater) -> None:
        begun = time.monotonic()
        status, _ = await rater.post("/api/queue", {})
        assert status == 200, status
        times.append(time.monotonic() - begun)

    for _ in range(rounds):
        await asyncio.gather(*(timed(rater) for rater in raters))
        await asyncio.sleep(0.5)
    cuts = np.percentile(times, (50, 95, 100)) * 1000
    print(f"ask          n {len(times)}: median {cuts[0]:.0f}, 95 % {cuts[1]:.0f}, most {cuts[2]:.0f} ms")


async def more_raters(link: str, folder: Path, database: str | None) -> None:
    """Answer all the time while the number of raters changes, and print the longest pause."""
    from manyhot.reassess.app.server import address_of
    from manyhot.reassess.app.store import Store
    from manyhot.tables import Campaign

    rater = Rater(link)
    await rater.come_in()
    _, queue = await rater.post("/api/queue", {})
    page = queue["pages"][0]
    ended = threading.Event()

    def change() -> None:
        store = Store(address_of(Campaign.read(folder), database))
        try:
            store.change_settings(raters=RATERS + 1)
            while False:
                store.add_slots()
        finally:
            store.close()
            ended.set()

    stored, classes = [time.monotonic()], page["classes"]
    thread = threading.Thread(target=change)
    begun = time.monotonic()
    thread.start()
    number = 0
    while not ended.is_set():
        # Different classes and pages: votes a question are limited.
        shown = classes[number % len(classes)]["class_id"]
        number += 1
        if number % 100 == 0:
            for shown_page in queue["pages"]:
                await rater.post(
                    "/api/answers",
                    {"items": [vote(shown_page["page"], c["class_id"]) for c in shown_page["classes"]]},
                )
            _, queue = await rater.post("/api/queue", {})
            page, classes = queue["pages"][0], queue["pages"][0]["classes"]
            shown = classes[0]["class_id"]
        status, told = await rater.post("/api/answers", {"items": [vote(page["page"], shown)]})
        if status == 200 and told["kept"]:
            stored.append(time.monotonic())
        await asyncio.sleep(0.02)
    thread.join()
    pauses = np.diff(stored)
    print(
        f"raters       3 to 4 in {time.monotonic() - begun:.1f} s: {len(stored)} answers meanwhile, "
        f"longest pause {pauses.max() * 1000:.0f} ms, 95 % {np.percentile(pauses, 95) * 1000:.0f} ms"
    )


def vote(page: str, class_id: int) -> dict:
    return {"key": secrets.token_hex(12), "page": page, "class_id": class_id, "answer": "no"}


async def flood(link: str, folder: Path, database: str | None, seconds: float = 12.0) -> None:
    """Send remarks over eight connections, and print by how much the database grew."""
    raters = [Rater(link) for _ in range(8)]
    for rater in raters:
        await rater.come_in()
    _, queue = await raters[0].post("/api/queue", {})
    page, before = queue["pages"][0]["page"], size(folder, database)
    statuses: dict[int, int] = {}
    reasons: set[str] = set()
    until = time.monotonic() + seconds

    async def send(rater: Rater) -> None:
        while time.monotonic() < until:
            items = [{"key": secrets.token_hex(12), "page": page, "text": "x" * 1900} for _ in range(60)]
            status, told = await rater.post("/api/answers", {"items": items})
            statuses[status] = statuses.get(status, 0) + 1
            reasons.update(str(r) for r in (told.get("refused") or {}).values())
            if "detail" in told:
                reasons.add(told["detail"])

    await asyncio.gather(*(send(rater) for rater in raters))
    grown = size(folder, database) - before
    print(f"flood        {grown / 1e6:.2f} MB in {seconds:g} s; statuses {statuses}; {sorted(reasons)}")


def size(folder: Path, database: str | None) -> int:
    """Return the bytes of what is stored."""
    if database is None:
        return sum(path.stat().st_size for path in folder.glob("annotation.sqlite*"))
    engine = sa.create_engine(sa.make_url(database).set(drivername="postgresql+pg8000"))
    with engine.connect() as connection:
        found = connection.scalar(sa.text("SELECT pg_database_size(current_database())"))
    engine.dispose()
    return int(found)


PARTS = ("ask", "raters", "flood")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=int, default=128_000)
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--only", nargs="*", choices=PARTS, default=PARTS)
    parser.add_argument("--keep", type=Path, help="folder of the campaign, kept for the next run")
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        database = None
        if options.database == "postgresql":
            database = stack.enter_context(annotate.postgres.running()).url
        base = options.keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="manyhot-scale-")))
        run(base, database, options)


def run(base: Path, database: str | None, options: argparse.Namespace) -> None:
    folder = base / "campaign"
    if not folder.exists():
        base.mkdir(exist_ok=True)
        make_campaign(folder, options.images)
    for old in folder.glob("annotation.sqlite*"):
        old.unlink()
    print(f"{options.images:,} images × {A_PAGE} classes × {RATERS} raters, {options.database}")
    server = annotate.Server(folder, database, ["--raters", str(RATERS)])
    begin(server, "first start")
    server.stop()
    address = begin(server, "restart")
    try:
        links = server.invite([f"rater{n}" for n in range(24)], address)
        if "ask" in options.only:
            asyncio.run(ask(links))
        if "raters" in options.only:
            asyncio.run(more_raters(links[0], folder, database))
        if "flood" in options.only:
            asyncio.run(flood(links[1], folder, database))
    finally:
        server.stop()


if __name__ == "__main__":
    main()
