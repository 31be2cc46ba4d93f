"""Images by number.

Half of all requests are for images. So they go past the router, sessions are looked up once in some seconds,
and what was asked for last is kept in memory: 0.1 ms of a core each, where a route with two queries takes
2 ms. The example images of a class come as one file, a strip: 64 requests a page were most of the app's work.
Threads of their own make the others: a slow disk or a distant bucket never keeps an answer waiting.
"""

from __future__ import annotations

import re
import time
from collections import OrderedDict
from functools import partial

from anyio import CapacityLimiter, to_thread
from starlette.requests import cookie_parser
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from manyhot.errors import ManyhotError
from manyhot.reassess.app.context import NO_SESSION, Context
from manyhot.reassess.app.picture_cache import TILES

_ADDRESS = re.compile(
    r"/(?:images/(?P<id>\w+)/(?P<image>\d{1,9})|examples/(?P<of>\w+)/(?P<class>\d{1,9})/(?P<position>\d{1,9}))"
    r"/(?P<size>small|large)|/examples/(?P<with>\w+)/(?P<strip>\d{1,9})/strip"
    r"(?:/(?P<tiles>\d{1,9}(?:-\d{1,9}){0,8}))?",
    re.ASCII,
)


# What an address shows never changes, and the campaign's id is part of it; it is nobody's but the rater's.
_KEEP = "private, max-age=31536000, immutable"
_HEADERS = [(b"content-type", b"image/jpeg"), (b"cache-control", _KEEP.encode())]
SESSION_SECONDS = 5.0
"""Maximum seconds that a rater with a revoked invitation sees images; answers are rejected immediately."""


MEMORY = 64 << 20
"""Bytes of images that are kept: 1,000 strips."""


NEW_STRIP_COST, NEW_IMAGE_COST = 50.0, {"small": 5.0, "large": 25.0}
"""Images as which a strip and an image count that have to be made first: they take a core up to 100 ms.
Small ones are cheaper: of a page to decide, 64 are shown."""


_THREADS = 8
_SESSIONS = 10_000


class ImageServer:
    """ASGI middleware that answers requests for images and passes on all others.

    Parameters
    ----------
    app : ASGI app
    context : Context
    """

    def __init__(self, app: ASGIApp, context: Context) -> None:
        self._app, self._context = app, context
        self._memory = Memory(MEMORY)
        self._sessions: dict[str, tuple[float, int]] = {}
        self._threads = CapacityLimiter(_THREADS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        asked = _ADDRESS.fullmatch(scope["path"]) if scope["type"] == "http" else None
        if asked is None:
            await self._app(scope, receive, send)
        else:
            answer = await self._answer(scope, asked)
            if isinstance(answer, bytes):
                # A response object would take as long as all of the rest.
                headers = [*_HEADERS, (b"etag", _etag(asked)), (b"content-length", b"%d" % len(answer))]
                await send({"type": "http.response.start", "status": 200, "headers": headers})
                await send({"type": "http.response.body", "body": answer})
            else:
                await answer(scope, receive, send)

    async def _answer(self, scope: Scope, asked: re.Match[str]) -> Response | bytes:
        if scope["method"] not in ("GET", "HEAD"):
            return _refused(405, "Images are read-only.")
        sent = dict(scope["headers"])
        cookies = sent.get(b"cookie", b"").decode("latin-1")
        if (rater := await self._rater(cookies)) is None:
            return _refused(401, NO_SESSION)
        if self._context.campaign_id not in (asked["id"], asked["of"], asked["with"]):
            return _refused(404, "This image does not exist.")
        if _etag(asked) in sent.get(b"if-none-match", b""):
            return Response(status_code=304, headers={"Cache-Control": _KEEP, "ETag": _etag(asked).decode()})
        image = self._memory.get(asked[0])
        if image is not None:
            return image
        try:
            read = partial(self._read, asked, rater)
            data, whole = await to_thread.run_sync(read, limiter=self._threads)
        except _TooManyError as error:
            refused = _refused(429, "Too many requests; try again in a moment.")
            refused.headers["Retry-After"] = str(int(error.seconds) + 1)
            return refused
        except ManyhotError as error:
            return _refused(404, error.what)  # where it lies is not for raters
        if not whole:  # it may be another time
            return Response(data, headers={"Cache-Control": "no-store"}, media_type="image/jpeg")
        self._memory.put(asked[0], data)
        return data

    async def _rater(self, cookies: str) -> int | None:
        """Return the number of the rater of a request; None without a session."""
        until, known = self._sessions.get(cookies, (0.0, 0))
        if until > time.monotonic():
            return known
        token = cookie_parser(cookies).get(self._context.cookie)
        rater = await to_thread.run_sync(self._context.store.of_session, token) if token else None
        if token is None or rater is None:
            self._sessions.pop(cookies, None)
            return None
        if len(self._sessions) >= _SESSIONS:
            self._sessions.clear()
        self._context.limits.know(token)
        if len(cookies) < 1000:  # whoever sends long ones does not fill the memory
            self._sessions[cookies] = time.monotonic() + SESSION_SECONDS, rater.id
        return rater.id

    def _read(self, asked: re.Match[str], rater: int) -> tuple[bytes, bool]:
        """Return an image, and whether it is complete."""
        store, pictures = self._context.store, self._context.pictures
        if asked["strip"]:
            tiles = asked["tiles"]
            positions = [*map(int, tiles.split("-"))] if tiles else range(1, TILES + 1)
            uris = store.strip_places(int(asked["strip"]), positions)
            if uris:
                if not pictures.has_strip(uris):
                    self._count_new(rater, NEW_STRIP_COST)
                return pictures.strip(uris)
        else:
            number, position = asked["image"], asked["position"]
            uri = store.image(int(number)) if number else store.example(int(asked["class"]), int(position))
            if uri is not None:
                if not pictures.has_image(uri, asked["size"]):
                    self._count_new(rater, NEW_IMAGE_COST[asked["size"]])
                return pictures.read(uri, asked["size"]), True
        raise ManyhotError("This image does not exist.")

    def _count_new(self, rater: int, cost: float) -> None:
        """Count an image that has to be made, by rater: one person can have many sessions."""
        if wait := self._context.limits.made.take(str(rater), cost):
            raise _TooManyError(wait)


class _TooManyError(Exception):
    """A rater asks for too much that has to be made first."""

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = seconds


class Memory:
    """A cache of the most recently requested files, up to a total number of bytes, for use in one thread."""

    def __init__(self, most: int) -> None:
        self._most, self._used = most, 0
        self._files: OrderedDict[str, bytes] = OrderedDict()

    def get(self, name: str) -> bytes | None:
        """Return a file; None if it is not in the cache."""
        data = self._files.get(name)
        if data is not None:
            self._files.move_to_end(name)
        return data

    def put(self, name: str, data: bytes) -> None:
        """Store a file, and remove the least recently requested files if there are too many bytes."""
        self._used += len(data) - len(self._files.pop(name, b""))
        self._files[name] = data
        while self._used > self._most:
            self._used -= len(self._files.popitem(last=False)[1])


def _etag(asked: re.Match[str]) -> bytes:
    return b'"%s"' % asked[0].encode()  # an address is that of one image for good


def _refused(status: int, why: str) -> Response:
    return JSONResponse({"detail": why}, status)
