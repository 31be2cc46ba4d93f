"""The annotation app under load: 50 raters at ten times human pace, without and with kills of the server.

    python benchmarks/annotate.py [--database sqlite|postgresql] [--seconds 120] [--kills 0] [--votes 0]

The server is the command `manyhot annotate` in a process of its own, behind real sockets; this process is the
raters' browsers. Each does what the page's script does: it asks for pages ahead, fetches the image of a page
and the strips of its examples over six connections, an address once, and sends answers one request at a time,
all that wait together. What is not acknowledged is sent again with the same keys.

**Pace.** Nobody publishes how long a page takes. We take 20 s for a page of 8 classes as human pace, 2.5 s a
class; ten times that is a page in 2 s.

A latency is that of one request, from its first byte out to its last byte in; `kept` is the time from an
answer to its acknowledgement, waiting included. After the load, the database is read by its own driver: each
acknowledged answer is there once, and nothing else.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import json
import os
import random
import re
import secrets
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import PIL.Image
import pyarrow as pa
import sqlalchemy as sa

REPO = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPO / "tools"))
import postgres  # noqa: E402

SECONDS_A_PAGE = 20.0
"""Of human pace; an assumption."""

CLASSES, A_PAGE, CONNECTIONS = 1000, 8, 6


# ── A campaign of generated images ──


def make_campaign(folder: Path, images: int, examples: int) -> None:
    """Make a campaign: `images` pages of eight classes, and so many example images a class."""
    from manyhot import tables
    from manyhot.reassess.init import init_campaign

    photos = folder.parent / "photos"
    photos.mkdir()
    rng = np.random.default_rng(0)
    kinds = [_photo(rng) for _ in range(64)]
    count = max(images, CLASSES * examples)
    for number in range(count):
        (photos / f"{number:05d}.jpg").write_bytes(kinds[number % 64])
    names = [f"{n:05d}.jpg" for n in range(count)]
    table = pa.table(
        {
            "image_id": names,
            "uri": [str(photos / name) for name in names],
            "label": pa.array([n % CLASSES for n in range(len(names))], pa.int32()),
        }
    )
    tables.write(table, folder.parent / "images.parquet", "images")
    campaign = init_campaign(folder, images=folder.parent / "images.parquet", classes="imagenet1k").campaign
    asked = [(name, int(c)) for name in names[:images] for c in rng.choice(CLASSES, A_PAGE, replace=False)]
    proposals = pa.table(
        {
            "image_id": [name for name, _ in asked],
            "class_id": pa.array([c for _, c in asked], pa.int32()),
            "score": pa.array([0.5] * len(asked), pa.float32()),
            "n_models": pa.array([1] * len(asked), pa.int32()),
            "source": ["benchmark"] * len(asked),
        }
    )
    about = {"n_classes": str(CLASSES), "classes": campaign.class_hash}
    tables.write(proposals, campaign.path("proposals"), "proposals", about=about)


def _photo(rng: np.random.Generator) -> bytes:
    """Return a JPEG of 500 × 375 pixels that takes about as much room as a photograph."""
    coarse = PIL.Image.fromarray(rng.integers(0, 256, (40, 54, 3), np.uint8)).resize((500, 375))
    noisy = np.asarray(coarse, np.int16) + rng.integers(-12, 13, (375, 500, 3))
    data = io.BytesIO()
    PIL.Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(data, "JPEG", quality=85)
    return data.getvalue()


def warm(folder: Path, images: int) -> None:
    """Make the files that the server would make at the first look."""
    from manyhot.reassess.annotate import CACHE, open_annotation
    from manyhot.reassess.app.picture_cache import TILES, PictureCache

    pictures = PictureCache(folder / CACHE)
    photos = sorted((folder.parent / "photos").iterdir())
    for photo in photos[:images]:
        pictures.read(str(photo), "large")
    with open_annotation(folder) as annotation:
        for class_id in range(CLASSES):
            if uris := annotation.store.example_places(class_id, TILES):
                pictures.strip(uris)


# ── The server ──


class Server:
    """The app, as a command in a process of its own."""

    def __init__(self, folder: Path, database: str | None, more: Sequence[str] = ()) -> None:
        self._arguments = [str(folder), *(["--database", database] if database else [])]
        self._more = more
        self._port, self._process = 0, subprocess.Popen(["true"])
        self._ended = self._began = 0.0

    def start(self) -> str:
        """Start it and return its address."""
        command = [*MANYHOT, "annotate", *self._arguments, *self._more, "--port", str(self._port)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        line = self._process.stdout.readline()
        address = re.search(r"http://[\d.]+:(\d+)", line)
        if address is None:
            raise SystemExit(f"The server did not start: {line}{self._process.stdout.read()}")
        self._port = int(address[1])
        self._began = self._cpu()
        return address[0]

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End it."""
        self._ended = self.spent
        self._process.send_signal(how)
        self._process.wait()

    @property
    def spent(self) -> float:
        """CPU seconds of all starts, each since it was ready."""
        return self._ended + (self._cpu() - self._began if self._process.poll() is None else 0)

    def _cpu(self) -> float:
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def invite(self, names: list[str], address: str) -> list[str]:
        """Return an invitation link for each name."""
        command = [*MANYHOT, "invite", self._arguments[0], *names, *self._arguments[1:], "--address", address]
        told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        return re.findall(r"http\S+/join/\S+", told)


MANYHOT = [sys.executable, "-m", "manyhot"]


# ── The raters ──


class Gone(Exception):
    """The server broke the connection, or there is none."""


class Connection:
    """A kept connection that knows as much of HTTP as it needs: a browser would be most of the load."""

    def __init__(self, host: str, port: int) -> None:
        self._place, self._streams = (host, port), None

    async def send(
        self, method: str, path: str, headers: str = "", body: bytes = b""
    ) -> tuple[int, bytes, bytes]:
        """Return status, headers and body."""
        request = f"{method} {path} HTTP/1.1\r\nHost: {self._place[0]}\r\n{headers}"
        if body and "Content-Type" in headers:
            request += f"Content-Length: {len(body)}\r\n"
        elif body:
            request += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        elif method == "POST":
            request += "Content-Length: 0\r\n"
        try:
            if self._streams is None:
                self._streams = await asyncio.open_connection(*self._place)
            reader, writer = self._streams
            writer.write(request.encode() + b"\r\n" + body)
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
            content = await reader.readexactly(int(length[1])) if length else b""
        except (OSError, asyncio.IncompleteReadError) as error:
            self.close()
            raise Gone from error
        except BaseException:
            self.close()
            raise
        return int(head[9:12]), head, content

    def close(self) -> None:
        """Give it up; the next request opens another."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


@dataclass
class Seen:
    """What the raters met."""

    latencies: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    errors: list[str] = field(default_factory=list)
    lost: int = 0
    kept: dict[str, tuple[str, int, str]] = field(default_factory=dict)
    """Rater, class and answer of each acknowledged key."""
    made: int = 0
    pages: int = 0
    away: list[float] = field(default_factory=list)
    """Seconds from each kill until the next server was ready."""


class Browser:
    """One rater."""

    def __init__(self, link: str, pause: float, seen: Seen, seed: int, *, images: bool = True) -> None:
        parts = urlsplit(link)
        self._sees_images = images
        self._place = (parts.hostname, parts.port)
        self._join, self._pause, self._seen = parts.path, pause, seen
        self._rng = random.Random(seed)
        self._api = Connection(*self._place)
        self._images = asyncio.Queue()
        self._loaded: set[str] = set()
        self._outbox: list[tuple[float, dict]] = []
        self._wake = asyncio.Event()
        self._pages: list[dict] = []
        self._name = link
        self._ended = False
        self._busy = asyncio.Lock()

    async def come_in(self) -> None:
        """Open the invitation, and the page."""
        status, head, _ = await self._api.send("POST", self._join)
        assert status == 303, status
        self._cookie = re.search(rb"(?i)set-cookie: ([^;]+)", head)[1].decode()
        status, _, page = await self._api.send("GET", "/", f"Cookie: {self._cookie}\r\n")
        assert status == 200, status
        csrf = re.search(rb'name="csrf" content="(\w+)"', page)[1].decode()
        self._headers = f"Cookie: {self._cookie}\r\nX-CSRF: {csrf}\r\n"

    async def work(self, until: float) -> None:
        """Answer pages at the pace wanted, and go when all is acknowledged."""
        await asyncio.sleep(self._rng.random() * self._pause)
        tasks = [asyncio.create_task(self._send_answers())]
        tasks += [asyncio.create_task(self._load_images()) for _ in range(CONNECTIONS)]
        await self._ask_for_pages()
        due = time.monotonic()
        while self._pages and time.monotonic() < until:
            page = self._pages[0]
            for shown in page["classes"]:
                due += self._pause / len(page["classes"])
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                answer = self._rng.choice(("yes", "no", "no", "maybe"))
                vote = {"key": secrets.token_hex(12), "page": page["page"], "class_id": shown["class_id"]}
                self._outbox.append((time.monotonic(), vote | {"answer": answer, "main": False}))
                self._seen.made += 1
                self._wake.set()
            self._seen.pages += 1
            del self._pages[0]
            if self._pages:
                tasks.append(asyncio.create_task(self._ask_for_pages(page["page"])))
            else:  # the next page did not come in time
                begun = time.monotonic()
                await self._ask_for_pages(page["page"])
                self._seen.latencies["waited"].append(time.monotonic() - begun)
                due = time.monotonic()
        while self._outbox:
            await asyncio.sleep(0.02)
        self._ended = True
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _ask_for_pages(self, done: str = "") -> None:
        while any(vote["page"] == done for _, vote in self._outbox):
            await asyncio.sleep(0.005)  # answers first, as the page does
        found = json.loads(await self._api_call("queue", "/api/queue", b"{}"))
        have = {p["page"] for p in self._pages}
        for page in found["pages"]:
            if page["page"] not in have and page["page"] != done:
                self._pages.append(page)
                self._fetch(page)

    def _fetch(self, page: dict) -> None:
        for kind, path in [
            ("image", page["image"]),
            *(("examples", c["strip"]) for c in page["classes"] if c["examples"]),
        ]:
            if self._sees_images and path not in self._loaded:
                self._loaded.add(path)
                self._images.put_nowait((kind, path))

    async def _load_images(self) -> None:
        connection = Connection(*self._place)
        try:
            while True:
                kind, path = await self._images.get()
                await self._call(connection, kind, "GET", path, f"Cookie: {self._cookie}\r\n")
        finally:
            connection.close()

    async def _send_answers(self) -> None:
        connection = Connection(*self._place)
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while batch := self._outbox[:100]:
                    body = json.dumps({"items": [vote for _, vote in batch]}).encode()
                    told = json.loads(
                        await self._call(connection, "answers", "POST", "/api/answers", self._headers, body)
                    )
                    now = time.monotonic()
                    self._seen.errors += [f"refused: {why}" for why in told["refused"].values()]
                    for at, vote in batch:
                        if vote["key"] in told["kept"]:
                            self._seen.latencies["kept"].append(now - at)
                            self._seen.kept[vote["key"]] = (vote["page"], vote["class_id"], vote["answer"])
                    del self._outbox[: len(batch)]
        finally:
            connection.close()

    async def _api_call(self, kind: str, path: str, body: bytes) -> bytes:
        async with self._busy:
            return await self._call(self._api, kind, "POST", path, self._headers, body)

    async def _call(
        self, connection: Connection, kind: str, method: str, path: str, headers: str, body: bytes = b""
    ) -> bytes:
        while True:
            begun = time.monotonic()
            try:
                status, _, content = await connection.send(method, path, headers, body)
            except Gone:
                self._seen.lost += 1
                await asyncio.sleep(0.2)
                continue
            self._seen.latencies[kind].append(time.monotonic() - begun)
            if status != 200:
                self._seen.errors.append(f"{status} {method} {path}: {content[:200]!r}")
                if method == "POST":
                    await asyncio.sleep(0.2)
                    continue
            return content


async def load(
    links: list[str], seconds: float, pause: float, server: Server, kills: int, *, images: bool = True
) -> Seen:
    """Let all raters work, with or without images, and kill the server now and then."""
    seen = Seen()
    browsers = [Browser(link, pause, seen, number, images=images) for number, link in enumerate(links)]
    for browser in browsers:
        await browser.come_in()
    until = time.monotonic() + seconds
    work = [asyncio.create_task(browser.work(until)) for browser in browsers]
    rng = random.Random(kills)
    for number in range(kills):
        # Somewhere in each part of the time.
        begin = until - seconds + (number + 0.2 + 0.5 * rng.random()) * seconds / kills
        await asyncio.sleep(max(0.0, begin - time.monotonic()))
        killed = time.monotonic()
        await asyncio.to_thread(server.stop, signal.SIGKILL)
        await asyncio.to_thread(server.start)
        seen.away.append(time.monotonic() - killed)
    await asyncio.gather(*work)
    return seen


# ── What is in the database afterwards ──


def stored(folder: Path, database: str | None) -> list[tuple[str, str, int, str]]:
    """Return key, page, class and answer of all votes, read without manyhot."""
    query = (
        "SELECT v.key, p.key, q.class_id, v.answer FROM votes v "
        "JOIN visits p ON p.id = v.visit_id JOIN questions q ON q.id = v.question_id"
    )
    if database is None:
        with contextlib.closing(sqlite3.connect(folder / "annotation.sqlite")) as connection:
            rows = connection.execute(query).fetchall()
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    else:
        import psycopg

        with psycopg.connect(database) as connection:
            rows = connection.execute(query).fetchall()
    return [(key, page, class_id, ("no", "maybe", "yes")[answer]) for key, page, class_id, answer in rows]


def compare(seen: Seen, rows: list[tuple[str, str, int, str]]) -> str:
    """Return what is wrong; empty where each acknowledged answer is there once, and nothing else."""
    keys = [key for key, *_ in rows]
    there = {key: tuple(rest) for key, *rest in rows}
    lost = [key for key, told in seen.kept.items() if there.get(key) != told]
    strange = set(there) - set(seen.kept)
    twice = len(keys) - len(set(keys))
    if lost or strange or twice or len(seen.kept) != seen.made:
        return f"{len(lost)} lost, {len(strange)} never acknowledged, {twice} twice, {seen.made} made"
    return ""


def add_votes(folder: Path, database: str | None, count: int) -> int:
    """Fill the database with about `count` votes of raters who have gone; return how many there are now."""
    from manyhot.reassess.annotate import open_annotation

    with open_annotation(folder, database=database) as annotation:
        annotation.store.invite("gone")
        return annotation.store._database.write(lambda c: _insert_votes(c, count))


def _insert_votes(c: sa.Connection, count: int) -> int:
    from manyhot.reassess.app.store import engines
    from manyhot.reassess.app.store import schema as s

    rater = c.scalar(sa.select(s.raters.c.id).where(s.raters.c.name == "gone"))
    questions = defaultdict(list)
    for number, page in c.execute(sa.select(s.questions.c.id, s.questions.c.page_id)):
        questions[page].append(number)
    rng = random.Random(0)
    waiting = {s.visits: [], s.votes: []}
    visit = vote = 0
    for turn in range(-(-count // sum(map(len, questions.values())))):
        for page, asked in questions.items():
            visit += 1
            waiting[s.visits].append(
                {"id": visit, "key": f"old{visit}", "page_id": page, "rater_id": rater, "round": 100 + turn}
                | {"shown": json.dumps(asked), "shown_at": visit, "expires_at": visit, "state": "done"}
                | {"done_at": visit, "partial": False}
            )
            for number in asked:
                vote += 1
                waiting[s.votes].append(
                    {"id": vote, "key": f"old{vote}", "rater_id": rater, "visit_id": visit, "main": False}
                    | {"question_id": number, "answer": rng.choice((0, 0, 1, 2)), "answered_at": vote}
                )
        for table, rows in waiting.items():
            c.execute(table.insert(), rows)
            rows.clear()
    engines.take_stock(c)  # votes that come one by one are counted by PostgreSQL itself
    if c.dialect.name == "postgresql":
        for table in waiting:
            numbers = f"pg_get_serial_sequence('{table.name}', 'id')"
            c.execute(sa.text(f"SELECT setval({numbers}, (SELECT max(id) FROM {table.name}))"))
    return vote


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--raters", type=int, default=50)
    parser.add_argument("--faster", type=float, default=10, help="than human pace")
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--votes", type=int, default=0, help="in the database before the load")
    parser.add_argument("--pages", type=int, default=2000)
    parser.add_argument("--examples", type=int, default=10, help="images a class; eight are shown")
    parser.add_argument("--keep", type=Path, help="folder of the campaign, kept for the next run")
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        database = None
        if options.database == "postgresql":
            database = stack.enter_context(postgres.running()).url
        base = options.keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="manyhot-load-")))
        run(base, database, options)


def run(base: Path, database: str | None, options: argparse.Namespace) -> None:
    folder = base / "campaign"
    if not folder.exists():
        base.mkdir(exist_ok=True)
        make_campaign(folder, options.pages, options.examples)
        warm(folder, options.pages)
    for old in folder.glob("annotation.sqlite*"):
        old.unlink()
    before = add_votes(folder, database, options.votes) if options.votes else 0
    server = Server(folder, database)
    address = server.start()
    try:
        links = server.invite([f"rater{n}" for n in range(options.raters)], address)
        pause = SECONDS_A_PAGE / options.faster
        begun, cpu = time.monotonic(), time.process_time()
        seen = asyncio.run(load(links, options.seconds, pause, server, options.kills))
        took, cpu = time.monotonic() - begun, time.process_time() - cpu
    finally:
        server.stop()
    rows = [row for row in stored(folder, database) if not row[0].startswith("old")]
    report(options, seen, took, cpu, server.spent, before)
    wrong = compare(seen, rows)
    print(wrong or f"each of the {len(rows):,} acknowledged answers is there once, and nothing else")
    for error in seen.errors[:10]:
        print(" ", error)
    if wrong or seen.errors:
        raise SystemExit(1)


def report(
    options: argparse.Namespace, seen: Seen, took: float, cpu: float, server: float, before: int
) -> None:
    """Print the latencies."""
    print(
        f"{options.raters} raters, {options.database}, {options.seconds:g} s, {options.kills} kills, "
        f"{before:,} votes before: {seen.pages:,} pages, {len(seen.errors)} errors, "
        f"{seen.lost} connections lost"
    )
    if seen.away:
        print("seconds without a server:", ", ".join(f"{seconds:.1f}" for seconds in seen.away))
    print(
        f"CPU seconds a second: server {server / took:.2f}, raters {cpu / took:.2f}; {os.cpu_count()} cores"
    )
    print(f"{'':<10}{'n':>9}{'50 %':>9}{'95 %':>9}{'99 %':>9}{'most':>9}  ms")
    requests = [t for kind, times in seen.latencies.items() if kind not in ("kept", "waited") for t in times]
    for kind, times in [*sorted(seen.latencies.items()), ("requests", requests)]:
        cuts = np.percentile(times, (50, 95, 99, 100)) * 1000
        print(f"{kind:<10}{len(times):>9,}" + "".join(f"{cut:>9.1f}" for cut in cuts))


if __name__ == "__main__":
    main()
