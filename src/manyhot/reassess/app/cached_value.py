"""A value that takes long to compute."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import Generic, TypeVar

T = TypeVar("T")


CORE_SHARE = 0.05
"""Share of one core's time, at most, that is spent on computing a value again and again in the background."""


WAIT = 0.7
"""Seconds that a page waits for a value: it comes within a second, if only to say what is being computed."""


class CachedValue(Generic[T]):
    """A value that is computed by one thread at a time, and is good for some seconds.

    Parameters
    ----------
    compute : callable
    seconds : float
        For which a value is good.
    """

    def __init__(self, compute: Callable[[], T], seconds: float = 5.0) -> None:
        self._compute, self._seconds = compute, seconds
        self._lock = threading.Lock()
        self._value: Future[T] | None = None  # the last one
        self._last: Future[T] | None = None  # or the error that came in place of the next
        self._running: Future[T] | None = None
        self._good_until = self._background_from = 0.0
        self._invalidations = 0

    def get(self) -> T:
        """Return the value, computed here and now if it is too old.

        Meanwhile all others get the older value; where there is none, they wait for the first one, or for its
        error. After an error the next call tries again.
        """
        with self._lock:
            if self._value is not None and (self._running or time.monotonic() < self._good_until):
                return self._value.result()
            running, mine = self._begin()
        if mine:  # outside of the lock: nobody who could have the older value waits for it
            self._run(running)
        return running.result()

    def peek(self, seconds: float | None = None) -> T | None:
        """Return the value; after some seconds, by default `WAIT`, an older one, or None where there is none.

        It is computed in a thread of its own, and again when `CORE_SHARE` allows. Until then an error is
        raised each time.
        """
        with self._lock:
            running = self._running
            if running is None and time.monotonic() >= max(self._good_until, self._background_from):
                running, _ = self._begin()
                threading.Thread(target=self._run, args=(running,), daemon=True).start()
        if running is not None:
            wait([running], WAIT if seconds is None else seconds)
        with self._lock:
            last = self._last
        return None if last is None else last.result()

    def invalidate(self) -> None:
        """Compute the value again when it is next needed; a running computation is already out of date."""
        with self._lock:
            self._good_until = self._background_from = 0.0
            self._invalidations += 1

    def expire(self) -> None:
        """Compute the value again as soon as `CORE_SHARE` allows; a quick one at once."""
        with self._lock:
            self._good_until = 0.0

    def _begin(self) -> tuple[Future[T], bool]:
        """Return what is being computed, and whether it is for the caller to compute it."""
        mine = self._running is None
        running = self._running = self._running or Future()
        return running, mine

    def _run(self, running: Future[T]) -> None:
        began, invalidations = time.monotonic(), self._invalidations
        try:
            value = self._compute()
        except BaseException as error:  # for whoever waits
            with self._lock:
                running.set_exception(error)
                self._settle(running, began, invalidations, 0.0)
        else:
            with self._lock:
                running.set_result(value)
                self._value = running
                self._settle(running, began, invalidations, self._seconds)

    def _settle(self, computed: Future[T], began: float, invalidations: int, seconds: float) -> None:
        self._running, self._last = None, computed
        if invalidations == self._invalidations:
            ended = time.monotonic()
            self._good_until = ended + seconds
            self._background_from = ended + (ended - began) / CORE_SHARE
