"""The annotation app at the size of a training set: filling, restart, many raters at once, more raters.

    python benchmarks/annotate_scale.py [--images 128000] [--database sqlite|postgresql] [--only NAME …]

A campaign of `--images` images × 4 classes × 3 raters, whose images nobody looks at. Printed are

- **start**: seconds, CPU seconds and peak memory of the first start, which fills the database, and of the
  next; of PostgreSQL, the CPU seconds of the client alone,
- **ask**: 24 raters who ask for pages at once, again and again: latencies of the queue,
- **raters**: the longest time without a stored answer while raters per question go from 3 to 4, when one
  rater answers all the time,
- **load**: 50 raters at ten times human pace for `--seconds`, as in `annotate.py`, while the server is killed
  `--kills` times,
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
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from urllib.parse import urlencode, urlsplit

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
    print(f"{what:<12} {took:6.1f} s, {cpu:6.1f} CPU s, peak {int(peak[1]) / 1024:,.0f} MiB", flush=True)
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


async def more_raters(link: str, owner: str, folder: Path, database: str | None, seconds: float) -> None:
    """Answer all the time while the owner changes the number of raters, and print the longest pause."""
    rater = Rater(link)
    await rater.come_in()
    stored, ended = [time.monotonic()], asyncio.Event()

    async def work() -> None:
        while not ended.is_set():
            _, queue = await rater.post("/api/queue", {})
            for page in queue["pages"]:
                for shown in page["classes"]:
                    _, told = await rater.post(
                        "/api/answers", {"items": [vote(page["page"], shown["class_id"])]}
                    )
                    assert told["kept"], told
                    stored.append(time.monotonic())
                    await asyncio.sleep(0.02)  # below the limit of requests of one session

    connection = annotate.Connection(*rater._browser._place)
    change = await log_in(connection, urlsplit(owner).path)
    await change(RATERS)  # for the floor of seconds a page: this rater is fast
    working = asyncio.create_task(work())
    await asyncio.sleep(1)
    begun = time.monotonic()
    await change(RATERS + 1)
    fitting = "SELECT value FROM settings WHERE key = 'fit_slots'"
    while time.monotonic() - begun < seconds:
        if not (reached := await asyncio.to_thread(rows, folder, database, fitting)):
            break
        await asyncio.sleep(0.5)
    took = time.monotonic() - begun
    ended.set()
    await working
    connection.close()
    pauses = np.diff([at for at in stored if at >= begun]) * 1000
    (free,) = rows(folder, database, "SELECT count(*) FROM slots")[0]
    cuts = np.percentile(pauses, (50, 95, 100))
    print(
        f"raters       3 to 4{f', up to page {reached[0][0]},' if reached else ''} in {took:.1f} s, "
        f"{free:,} slots; "
        f"{len(pauses)} answers meanwhile, pauses: "
        f"median {cuts[0]:.0f}, 95 % {cuts[1]:.0f}, longest {cuts[2]:.0f} ms"
    )


async def log_in(connection: annotate.Connection, join: str) -> Callable[[int], Awaitable[None]]:
    """Log in as an owner, and return what asks for a number of raters."""
    form = "Content-Type: application/x-www-form-urlencoded\r\n"
    password = urlencode({"password": "correct horse", "again": "correct horse"}).encode()
    _, head, _ = await connection.send("POST", join, form, password)
    cookie = re.search(rb"(?i)set-cookie: ([^;]+)", head)[1].decode()
    _, _, page = await connection.send("GET", "/owner", f"Cookie: {cookie}\r\n")
    fields = dict(re.findall(r'<input type="number" name="(\w+)" value="([^"]*)"', page.decode()))
    fields |= {"least_seconds": 0, "csrf": re.search(rb'name="csrf" value="(\w+)"', page)[1].decode()}

    async def change(raters: int) -> None:
        status, _, told = await connection.send(
            "POST",
            "/owner/settings",
            f"Cookie: {cookie}\r\n{form}",
            urlencode(fields | {"raters": raters}).encode(),
        )
        assert status == 303, told

    return change


def rows(folder: Path, database: str | None, query: str) -> list:
    """Return the rows of a query."""
    address = sa.make_url(database or f"sqlite:///{folder}/annotation.sqlite")
    if database:
        address = address.set(drivername="postgresql+psycopg")
    engine = sa.create_engine(address, poolclass=sa.NullPool)
    with engine.connect() as connection:
        return connection.execute(sa.text(query)).all()


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
    return int(rows(folder, database, "SELECT pg_database_size(current_database())")[0][0])


def load(links: list[str], folder: Path, database: str | None, server: annotate.Server, options) -> None:
    """Let raters answer while the server is killed, and compare what is stored with what was acknowledged."""
    before = {key for key, *_ in annotate.stored(folder, database)}
    begun, cpu, spent = time.monotonic(), time.process_time(), server.spent
    pause = annotate.SECONDS_A_PAGE / 10
    seen = asyncio.run(annotate.load(links, options.seconds, pause, server, options.kills, images=False))
    took, cpu = time.monotonic() - begun, time.process_time() - cpu
    there = [row for row in annotate.stored(folder, database) if row[0] not in before]
    about = argparse.Namespace(**vars(options) | {"raters": len(links)})
    annotate.report(about, seen, took, cpu, server.spent - spent, len(before))
    print(annotate.compare(seen, there) or f"each of the {len(there):,} acknowledged answers is there once")
    print(*seen.errors[:5], sep="\n")


PARTS = ("ask", "raters", "load", "flood")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=int, default=128_000)
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--only", nargs="*", choices=PARTS, default=PARTS)
    parser.add_argument(
        "--seconds", type=float, default=120, help="of the change of raters at most, and of the load"
    )
    parser.add_argument("--kills", type=int, default=0)
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
            (owner,) = server.invite(["boss", "--owner"], address)
            asyncio.run(more_raters(links[0], owner, folder, database, options.seconds))
        if "load" in options.only:
            many = server.invite([f"many{n}" for n in range(50)], address)
            load(many, folder, database, server, options)
        if "flood" in options.only:
            asyncio.run(flood(links[1], folder, database))
    finally:
        server.stop()


if __name__ == "__main__":
    main()
