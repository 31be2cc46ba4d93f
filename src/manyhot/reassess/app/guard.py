"""Limits and headers of every request and response."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.requests import cookie_parser
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from manyhot.reassess.app.access import MAX_HEAD, SEARCH_COST
from manyhot.reassess.app.context import Context

MAX_BODY = 256 << 10
"""Maximum bytes of a request: 200 answers and remarks are under 100 kB."""


MAX_TARGET = 4096
"""Maximum bytes of an address with its query."""


BODY_SECONDS = 30.0
"""Seconds within which a body must arrive."""


HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    # An invitation's address is its secret. "no-referrer" would make browsers hide where forms come from.
    "referrer-policy": "same-origin",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "x-robots-tag": "noindex, nofollow",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",  # unless a route says otherwise
}
"""Headers of every response."""

_RAW = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
_SAFE = ("GET", "HEAD", "OPTIONS", "TRACE")


class RefusedError(HTTPException):
    """A request is rejected."""

    def __init__(self, status: int, why: str, wait: float = 0.0) -> None:
        headers = {"Retry-After": str(int(wait) + 1)} if wait else {}
        if status in (408, 413):
            headers["Connection"] = "close"  # what still comes is not read
        super().__init__(status, why, headers)


class Guard:
    """Reject requests that are too large, slow, frequent or from another site, and set security headers.

    Parameters
    ----------
    app : ASGI app
    context : Context
    """

    def __init__(self, app: ASGIApp, context: Context) -> None:
        self._app, self._context = app, context

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = False

        async def guarded(message: Message) -> None:
            nonlocal began
            if message["type"] == "http.response.start":
                began = True
                headers = list(message.get("headers", ()))
                said = {name.lower() for name, _ in headers}
                message["headers"] = [*headers, *(header for header in _RAW if header[0] not in said)]
            await send(message)

        try:
            sent = self._sent(scope)
            self._check_origin(scope, sent)
            await self._counted(scope, sent, _Body(sent, receive).receive, guarded)
        except RefusedError as error:
            if began:
                raise
            await _refuse(scope, guarded, error)

    def _sent(self, scope: Scope) -> dict[str, str]:
        """Return the headers of a request that is for us."""
        if len(scope.get("raw_path") or b"") + len(scope["query_string"]) > MAX_TARGET:
            raise RefusedError(414, "The address is too long.")
        if sum(len(name) + len(value) for name, value in scope["headers"]) > MAX_HEAD:  # that came at once
            raise RefusedError(431, "The headers are too long.")
        sent: dict[str, str] = {}
        for name, value in scope["headers"]:
            key = name.decode("latin-1").lower()
            if key == "host" and key in sent:
                raise RefusedError(400, "The request names two hosts.")
            joined = "; " if key == "cookie" else ", "
            sent[key] = (
                f"{sent[key]}{joined}{value.decode('latin-1')}" if key in sent else value.decode("latin-1")
            )
        if not self._context.reach.admits(sent.get("host", "").lower()):
            raise RefusedError(
                421,
                "The app is not served under this host name; allow it with manyhot annotate "
                "--allow-host NAME.",
            )
        return sent

    def _check_origin(self, scope: Scope, sent: Mapping[str, str]) -> None:
        """Reject changes sent by a page of another site; logging in and joining have no token yet."""
        if scope["method"] in _SAFE:
            return
        site, origin = sent.get("sec-fetch-site"), sent.get("origin")
        own = origin is None or self._context.reach.is_own(origin.lower(), sent.get("host", "").lower())
        if site not in (None, "same-origin", "none") or not own:
            raise RefusedError(403, "The request did not come from a page of this app.")

    async def _counted(self, scope: Scope, sent: Mapping[str, str], receive: Receive, send: Send) -> None:
        """Let a request through where its session, or else its address, has not made too many."""
        limits, path = self._context.limits, scope["path"]
        if path.startswith("/static/") or path in ("/health", "/health/ready"):
            await self._app(scope, receive, send)
            return
        session = cookie_parser(sent.get("cookie", "")).get(self._context.cookie, "")
        if not limits.knows(session):
            client = self._context.reach.client(
                (scope.get("client") or ("",))[0], sent.get("x-forwarded-for", "")
            )
            _wait(limits.strangers.take(client))  # before: those that come at once do not all pass
            try:
                await self._app(scope, receive, send)
            finally:
                if limits.knows(session):
                    limits.strangers.give_back(client)
            return
        if path.startswith(("/images/", "/examples/")):
            _wait(limits.images.take(session))
            await self._app(scope, receive, send)
            return
        _wait(limits.sessions.take(session, SEARCH_COST if path == "/api/classes" else 1.0))
        if not limits.begin(session):
            _wait(1.0)
        try:
            await self._app(scope, receive, send)
        finally:
            limits.end(session)


class _Body:
    """A body that comes in time and is not too large."""

    def __init__(self, sent: Mapping[str, str], receive: Receive) -> None:
        length = sent.get("content-length", "0")
        if length.isascii() and length.isdigit() and int(length[:20]) > MAX_BODY:
            raise RefusedError(413, "The request is too large.")
        self._receive, self._came, self._more = receive, 0, True
        self._until: float | None = None

    async def receive(self) -> Message:
        if not self._more:  # who waits now waits for the end of the connection
            return await self._receive()
        if self._until is None:
            self._until = asyncio.get_running_loop().time() + BODY_SECONDS
        try:
            async with asyncio.timeout_at(self._until):
                message = await self._receive()
        except TimeoutError as error:
            raise RefusedError(408, "The request came too slowly.") from error
        self._more = bool(message.get("more_body"))
        self._came += len(message.get("body", b""))
        if self._came > MAX_BODY:
            raise RefusedError(413, "The request is too large.")
        return message


def _wait(seconds: float) -> None:
    if seconds:
        raise RefusedError(429, "Too many requests; try again in a moment.", seconds)


async def _refuse(scope: Scope, send: Send, error: RefusedError) -> None:
    is_api = scope["path"].startswith("/api/")
    status, why = error.status_code, error.detail
    body = json.dumps({"detail": why}) if is_api else f"{HTTPStatus(status).phrase}. {why}"
    kind = b"application/json" if is_api else b"text/plain; charset=utf-8"
    headers = [(b"content-type", kind), (b"content-length", str(len(body)).encode())]
    headers += [(name.lower().encode(), value.encode()) for name, value in (error.headers or {}).items()]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body.encode()})
