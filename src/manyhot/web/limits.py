"""How often who may ask.

In memory: after a restart all begin anew. Each kind has a bucket a key, which fills at a rate; a request
takes from it, and is refused where it is empty.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from fastapi import HTTPException

# A fast rater: a page a second, 8 answers and a look at the queue each. A benchmark is ten times as fast.
SESSION = (50.0, 1000.0)
"""Requests a second of one session, and how many at once before that counts; images apart."""

IMAGES = (100.0, 2_000.0)
"""As `SESSION`, of images: a page has nine, some more where one looks closer; one to refine, 65."""

STRANGERS = (10.0, 300.0)
"""As `SESSION`, of one address without a session: 30 people who come in at once take 100."""

LOGINS = (1 / 10, 10.0)
"""Passwords of one address."""

GUESSES = (1 / 30, 20.0)
"""Passwords for one name, from wherever: 2,900 a day."""

AT_ONCE = 16
"""Requests of one session under way at once; browsers have six."""

HASHED_AT_ONCE = 4
"""Passwords that are hashed or wait for it: each takes 64 MB, 50 ms of a core and a thread."""

SEARCH = 5.0
"""A search of classes counts as so many requests."""


class Buckets:
    """Buckets of one kind, by key.

    Parameters
    ----------
    limit : (float, float)
        What comes back a second, and what is in a full one.
    most : int
        Buckets that are kept; those that are full again go first.
    clock : callable
        Seconds.
    """

    def __init__(
        self, limit: tuple[float, float], most: int = 20_000, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._rate, self._full = limit
        self._most, self._clock = most, clock
        self._lock = threading.Lock()
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, key: str, count: float = 1.0) -> float:
        """Take from a bucket and return 0; the seconds until there is enough where there is not."""
        with self._lock:
            left, now = self._look(key)
            if left < count:
                return (count - left) / self._rate
            if len(self._left) >= self._most and key not in self._left:
                self._forget(now)
            self._left[key] = (left - count, now)
            self._left.move_to_end(key)
            return 0.0

    def wait(self, key: str) -> float:
        """Return the seconds until `take` gives one, 0 where it does; take nothing."""
        with self._lock:
            return max(0.0, (1.0 - self._look(key)[0]) / self._rate)

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


class Limits:
    """All limits of an app."""

    def __init__(self) -> None:
        self.sessions, self.images, self.strangers = Buckets(SESSION), Buckets(IMAGES), Buckets(STRANGERS)
        self._logins, self._guesses = Buckets(LOGINS), Buckets(GUESSES)
        self._known: OrderedDict[str, None] = OrderedDict()
        self._under_way: Counter[str] = Counter()
        self._hashing = threading.BoundedSemaphore(HASHED_AT_ONCE)
        self._lock = threading.Lock()

    def know(self, session: str) -> None:
        """Note that a session is one: from now on it has limits of its own."""
        with self._lock:
            self._known[session] = None
            self._known.move_to_end(session)
            if len(self._known) > 20_000:
                self._known.popitem(last=False)

    def knows(self, session: str) -> bool:
        """Return whether a session is known to be one."""
        return session in self._known

    def begin(self, session: str) -> bool:
        """Count a request that is under way; return whether there are not too many."""
        if self._under_way[session] >= AT_ONCE:
            return False
        self._under_way[session] += 1
        return True

    def end(self, session: str) -> None:
        """Count a request that is done."""
        self._under_way[session] -= 1
        if not self._under_way[session]:
            del self._under_way[session]

    def try_password(self, client: str, name: str) -> None:
        """Count a password that somebody tries.

        Raises
        ------
        HTTPException
            429: too many.
        """
        wait = self._logins.take(client) or self._guesses.take(name[:100])
        if wait:
            seconds = int(wait) + 1
            raise HTTPException(
                429,
                f"Too many passwords were tried; try again in {seconds} s.",
                {"Retry-After": str(seconds)},
            )

    @contextmanager
    def hashing(self) -> Iterator[None]:
        """Be one of few who have a password hashed.

        Raises
        ------
        HTTPException
            503: too many others.
        """
        if not self._hashing.acquire(blocking=False):
            raise HTTPException(503, "Too many log in just now; try again.", {"Retry-After": "2"})
        try:
            yield
        finally:
            self._hashing.release()
