"""Connections that must say in time, and briefly, what they want."""

from __future__ import annotations

import asyncio
import ipaddress

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_SECONDS = 10.0
"""The first line and the headers of a request must have come by then."""

MAX_HEAD = 32 << 10
"""Bytes of these."""

MOST = 256
"""Connections of one address: 40 browsers behind one router. Of this machine, where proxies are: any."""


class Connection(HttpToolsProtocol):
    """A connection of uvicorn's, which by itself waits for ever, and keeps whatever comes."""

    _timer: asyncio.TimerHandle | None = None
    _head = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait; drop a connection of who has too many."""
        super().connection_made(transport)
        self._wait()
        peer = self.client[0] if self.client else ""
        if not _is_local(peer):
            clients = (getattr(c, "client", None) for c in self.connections)
            if sum(1 for client in clients if client and client[0] == peer) > MOST:
                transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        self._end_wait()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """Wait for the head of a request on a connection that was kept."""
        super().on_message_begin()
        self._wait()

    def on_headers_complete(self) -> None:
        """Wait no more: what comes now is limited by the app."""
        self._end_wait()
        super().on_headers_complete()

    def data_received(self, data: bytes) -> None:
        """Read on; drop a connection whose head does not end."""
        super().data_received(data)
        if self._timer is None:
            return
        self._head += len(data)
        if self._head > MAX_HEAD:
            self._drop()

    def _wait(self) -> None:
        if self._timer is None:
            self._timer = self.loop.call_later(HEAD_SECONDS, self._drop)

    def _end_wait(self) -> None:
        self._head = 0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _drop(self) -> None:
        if not self.transport.is_closing():
            self.transport.abort()


def _is_local(peer: str) -> bool:
    try:
        return ipaddress.ip_address(peer).is_loopback
    except ValueError:
        return True
