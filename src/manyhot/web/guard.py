"""What holds for every request and answer."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_BODY = 256 << 10
"""Bytes of a request: 200 answers and remarks are under 100 kB."""

_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",  # an invitation's address is its secret
    "x-content-type-options": "nosniff",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",  # unless a route says otherwise
}
_RAW = [(name.encode(), value.encode()) for name, value in _HEADERS.items()]


class TooLargeError(Exception):
    """The body of a request is too large."""


class Guard:
    """Limits what comes in, and says in each answer what browsers must not do with it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        came, began = 0, False

        async def limited() -> Message:
            nonlocal came
            message = await receive()
            came += len(message.get("body", b""))
            if came > MAX_BODY:
                raise TooLargeError
            return message

        async def guarded(message: Message) -> None:
            nonlocal began
            if message["type"] == "http.response.start":
                began = True
                headers = list(message.get("headers", ()))
                said = {name.lower() for name, _ in headers}
                message["headers"] = [*headers, *(header for header in _RAW if header[0] not in said)]
            await send(message)

        try:
            await self._app(scope, limited, guarded)
        except TooLargeError:
            if began:
                raise
            await guarded(
                {"type": "http.response.start", "status": 413, "headers": [(b"connection", b"close")]}
            )
            await guarded({"type": "http.response.body", "body": b"The request is too large."})
