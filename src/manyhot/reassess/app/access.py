"""Access to the app: host names and proxies, slow connections, and rate limits.

Limits are in memory: after a restart, all start again. Each kind has a bucket for each key, which refills at
a rate. A request takes from it, and is refused if it is empty.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

from fastapi import HTTPException
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from manyhot.errors import InputError

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_HOST = re.compile(r"(?:\[([0-9a-f:.]+)\]|([\w.-]+))(?::\d{1,5})?", re.ASCII)
_LOOPBACK = ("127.0.0.0/8", "::1")


@dataclass(frozen=True)
class Reach:
    """Host names, address and proxies through which the app is reached.

    Attributes
    ----------
    address : str
        Public address, such as ``https://rate.example.org``; if empty, the address of each request is used.
    names : frozenset of str, optional
        Allowed host names of the machine, in lower case; None allows any. Numeric addresses are always
        allowed, because another site cannot use one as its own name.
    proxies : tuple of networks
        Proxies whose ``X-Forwarded-For`` and ``X-Forwarded-Proto`` headers are trusted.
    """

    address: str = ""
    names: frozenset[str] | None = None
    proxies: tuple[_Network, ...] = ()

    @classmethod
    def of(
        cls,
        host: str,
        address: str | None = None,
        names: Iterable[str] = (),
        proxies: Sequence[str] = (),
    ) -> Reach:
        """Return the `Reach` of an app that listens on an address.

        Parameters
        ----------
        host : str
            Address that the app listens on.
        address : str, optional
            Public address.
        names : iterable of str
            Additional host names of the machine.
        proxies : sequence of str
            Addresses or networks of trusted proxies. If the app listens only on this machine but users reach
            it at another address, a proxy on this machine is trusted, too.

        Raises
        ------
        InputError
            If the address is not an HTTP or HTTPS address, or if the address of a proxy is invalid.
        """
        public = _public(address)
        known = {"localhost", host.lower(), *(name.lower() for name in names)}
        if public:
            known.add(urlsplit(public).hostname or "")
            if is_loopback(host) and not is_loopback(urlsplit(public).hostname or ""):
                proxies = [*proxies, *_LOOPBACK]
        return cls(public, frozenset(known), tuple(_proxy_network(proxy) for proxy in proxies))

    def admits(self, host: str) -> bool:
        """Return whether the Host of a request, in lower case, is allowed.

        The check rejects requests to another site's host name that resolves to the app (DNS rebinding).
        """
        found = _HOST.fullmatch(host)
        if found is None:
            return False
        name = found[1] or found[2]
        if self.names is None or name in self.names:
            return True
        return _ip_address(name) is not None or name.endswith(".localhost")

    def is_own(self, origin: str, host: str) -> bool:
        """Return whether an Origin header is that of the app's own pages."""
        return origin == self.address or (
            origin.partition("://")[2] == host and origin.startswith(("http://", "https://"))
        )

    def client(self, peer: str, forwarded: str) -> str:
        """Return the client's address, the last that is not a trusted proxy's; for IPv6, return its network.

        Parameters
        ----------
        peer : str
            Address of the connection.
        forwarded : str
            The X-Forwarded-For header of the request.
        """
        found = peer
        for one in reversed(forwarded.split(",")):
            if not self.trusts(found) or _ip_address(one.strip()) is None:
                break
            found = one.strip()
        return _network_of(found)

    def trusts(self, peer: str) -> bool:
        """Return whether an address is that of a trusted proxy."""
        address = _ip_address(peer)
        return address is not None and any(address in network for network in self.proxies)

    def is_https(self, scheme: str, peer: str, forwarded: str) -> bool:
        """Return whether the client uses HTTPS, either with the app or with the proxy in front of it."""
        if self.address or not (forwarded and self.trusts(peer)):
            return scheme == "https" or self.address.startswith("https://")
        return forwarded.strip().lower() == "https"


def _public(address: str | None) -> str:
    if not address:
        return ""
    found = urlsplit(address)
    if found.scheme not in ("http", "https") or not found.hostname or found.path.strip("/") or found.query:
        raise InputError(
            "This is not a valid address of the app.",
            got=address,
            allowed="https://NAME or http://NAME, optionally with :PORT",
        )
    return f"{found.scheme}://{found.netloc.lower()}"


def _proxy_network(text: str) -> _Network:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError as error:
        raise InputError(
            "This is not a valid address of a proxy.",
            got=text,
            allowed="an IP address, or a network such as 10.0.0.0/8",
        ) from error


def _network_of(address: str) -> str:
    """Return whom limits are for: who has one IPv6 address has the 2⁶⁴ of its network."""
    found = _ip_address(address)
    if found is None:
        return address
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    if found.ipv4_mapped:
        return str(found.ipv4_mapped)
    return str(ipaddress.ip_network((found, 64), strict=False))


def _ip_address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine."""
    address = _ip_address(host)
    return host == "localhost" or (address is not None and address.is_loopback)


HEAD_SECONDS = 10.0
"""The first line and the headers of a request must have come by then."""


MAX_HEAD = 32 << 10
"""Bytes of these."""


MAX_CONNECTIONS = 256
"""Connections of one address: 40 browsers behind one router. This machine has no limit, nor
have named proxies."""


class LimitedConnection(HttpToolsProtocol):
    """A uvicorn connection with limits on the time and size of headers and on connections per client."""

    reach = Reach()
    _timer: asyncio.TimerHandle | None = None
    _head = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the time limit, or close the connection if its client has too many connections."""
        super().connection_made(transport)
        self._wait()
        peer = self.client[0] if self.client else ""
        if _ip_address(peer) is not None and not is_loopback(peer) and not self.reach.trusts(peer):
            clients = (getattr(c, "client", None) for c in self.connections)
            if sum(1 for client in clients if client and client[0] == peer) > MAX_CONNECTIONS:
                transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the time limit."""
        self._end_wait()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """Start the time limit for the headers of the next request on a persistent connection."""
        super().on_message_begin()
        self._wait()

    def on_headers_complete(self) -> None:
        """Cancel the time limit; from now on, the app's own limits apply to the request."""
        self._end_wait()
        super().on_headers_complete()

    def data_received(self, data: bytes) -> None:
        """Read data, and close the connection if the headers are too large."""
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


# A fast rater: a page a second, 8 answers and a look at the queue each. A benchmark is ten times as fast.
SESSION_RATE = (50.0, 1000.0)
"""Requests a second of one session, and how many at once before that counts; images apart."""


IMAGE_RATE = (100.0, 2_000.0)
"""As `SESSION_RATE`, of images: a page has nine, some more where one looks closer; one to refine, 65."""


STRANGER_RATE = (10.0, 300.0)
"""As `SESSION_RATE`, of one address without a session: 30 people who come in at once take 100."""


LOGIN_RATE = (1 / 10, 10.0)
"""Passwords of one address."""


GUESS_RATE = (1 / 30, 20.0)
"""Passwords for one name, from wherever: 2,900 a day."""


_MAX_SESSIONS = 20_000
"""Sessions whose limits are their own: the oldest are forgotten first."""


AT_ONCE = 16
"""Requests of one session under way at once; browsers have six."""


HASHED_AT_ONCE = 4
"""Passwords that are hashed or wait for it: each takes 64 MB, 50 ms of a core and a thread."""


SENT_RATE = (20_000.0, 512_000.0)
"""Bytes a second of answers and remarks of one rater, and how many at once: ten pages take 10,000."""


SEARCH_COST = 5.0
"""A search of classes counts as so many requests."""


class Buckets:
    """Buckets of one kind, by key.

    Parameters
    ----------
    limit : (float, float)
        Number of tokens added per second, and capacity of a bucket.
    most : int
        Maximum number of buckets; full buckets are removed first.
    clock : callable
        Returns the time in seconds.
    """

    def __init__(
        self, limit: tuple[float, float], most: int = 20_000, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._rate, self._full = limit
        self._most, self._clock = most, clock
        self._lock = threading.Lock()
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, key: str, count: float = 1.0) -> float:
        """Take tokens from a bucket and return 0, or return the seconds until the bucket has enough."""
        with self._lock:
            left, now = self._look(key)
            if left < count:
                return (count - left) / self._rate
            if len(self._left) >= self._most and key not in self._left:
                self._forget(now)
            self._left[key] = (left - count, now)
            self._left.move_to_end(key)
            return 0.0

    def give_back(self, key: str) -> None:
        """Put back a token that was taken."""
        with self._lock:
            left, now = self._look(key)
            self._left[key] = (min(self._full, left + 1.0), now)

    def _look(self, key: str) -> tuple[float, float]:
        now = self._clock()
        left, then = self._left.get(key, (self._full, now))
        return min(self._full, left + (now - then) * self._rate), now

    def _forget(self, now: float) -> None:
        full = [k for k, (left, t) in self._left.items() if left + (now - t) * self._rate >= self._full]
        for key in full:
            del self._left[key]
        if not full:
            self._left.popitem(last=False)


def _refuse_for(wait: float, why: str) -> None:
    """Raise an error if a request has to wait."""
    if wait:
        seconds = str(int(wait) + 1)
        raise HTTPException(429, f"{why}; try again in {seconds} s.", {"Retry-After": seconds})


class Limits:
    """All limits of an app."""

    def __init__(self) -> None:
        self.sessions, self.images, self.strangers = (
            Buckets(SESSION_RATE),
            Buckets(IMAGE_RATE),
            Buckets(STRANGER_RATE),
        )
        self.made, self.sent = Buckets(IMAGE_RATE), Buckets(SENT_RATE)
        self._logins, self._guesses = Buckets(LOGIN_RATE), Buckets(GUESS_RATE)
        self._tokens: OrderedDict[str, None] = OrderedDict()
        self._under_way: Counter[str] = Counter()
        self._hashing = threading.BoundedSemaphore(HASHED_AT_ONCE)
        self._lock = threading.Lock()

    def know(self, session: str) -> None:
        """Register a valid session, which has its own limits from now on."""
        with self._lock:
            self._tokens[session] = None
            self._tokens.move_to_end(session)
            if len(self._tokens) > _MAX_SESSIONS:
                self._tokens.popitem(last=False)

    def knows(self, session: str) -> bool:
        """Return whether a session is registered."""
        return session in self._tokens

    def begin(self, session: str) -> bool:
        """Count a running request; return whether it is within the limit."""
        if self._under_way[session] >= AT_ONCE:
            return False
        self._under_way[session] += 1
        return True

    def end(self, session: str) -> None:
        """Count a finished request."""
        self._under_way[session] -= 1
        if not self._under_way[session]:
            del self._under_way[session]

    def try_password(self, client: str, name: str) -> None:
        """Count a password attempt.

        Raises
        ------
        HTTPException
            429: too many attempts.
        """
        wait = self._logins.take(client) or self._guesses.take(name[:100])
        _refuse_for(wait, "Too many password attempts")

    def send(self, rater: str, size: int) -> None:
        """Count the bytes that a rater sends for storage, over all of the rater's sessions.

        Raises
        ------
        HTTPException
            429: too many bytes.
        """
        _refuse_for(self.sent.take(rater, float(size)), "You are sending too much text")

    @contextmanager
    def hashing(self) -> Iterator[None]:
        """Wait for a free slot to hash a password.

        Raises
        ------
        HTTPException
            503: too many others are waiting.
        """
        if not self._hashing.acquire(blocking=False):
            raise HTTPException(
                503, "Too many people are logging in; try again in a moment.", {"Retry-After": "2"}
            )
        try:
            yield
        finally:
            self._hashing.release()
