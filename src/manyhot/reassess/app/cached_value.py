"""A value that is computed by one thread at a time, and cached."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import Generic, TypeVar

T = TypeVar("T")
CORE_SHARE = 0.05
"""By default, the maximum share of one core's time for recomputing a value in the background."""


WAIT = 0.7
"""Seconds that a page waits for a value; afterwards, it says what is being computed."""


_QUICK = 0.02
"""Seconds that a rater waits for a value of which there is an older one."""


class CachedValue(Generic[T]):
    """A value that is computed by one thread at a time and cached for some seconds.

    Parameters
    ----------
    compute : callable
    seconds : float
        Time for which a value is valid.
    core_share : float
        Maximum share of one core's time for recomputing the value in the background.
    """

    def __init__(
        self, compute: Callable[[], T], seconds: float = 5.0, core_share: float = CORE_SHARE
    ) -> None:
        self._compute, self._seconds, self._core_share = compute, seconds, core_share
        self._lock = threading.Lock()
        self._value: Future[T] | None = None  # the last one
        self._last: Future[T] | None = None  # or the error that came in place of the next
        self._running: Future[T] | None = None
        self._good_until = self._background_from = 0.0
        self._invalidations = 0

    def get(self) -> T:
        """Return the value; compute it now if it is too old.

        During the computation, other callers get the older value. If there is none, they wait for the new
        value or its error. After an error, the next call tries again.
        """
        with self._lock:
            if self._value is not None and (self._running or time.monotonic() < self._good_until):
                return self._value.result()
            running, mine = self._begin()
        if mine:  # outside of the lock: nobody who could have the older value waits for it
            self._run(running)
        return running.result()

    def recent(self) -> T:
        """Return the value or, if that takes more than a moment, an older value; wait only if none exists."""
        running = self._refresh()
        if running is not None and self._value is not None:
            wait([running], _QUICK)
        value = self._value or running  # not yet another one, if this one ended in an error meanwhile
        return self.get() if value is None else value.result()

    def peek(self, seconds: float | None = None) -> T | None:
        """Return the value or, if that takes more than `seconds` (by default `WAIT`), an older value or None.

        The value is computed in a separate thread, and computed again when `core_share` allows it. If the
        computation fails, each call raises the error until the value is computed again.
        """
        running = self._refresh()
        if running is not None:
            wait([running], WAIT if seconds is None else seconds)
        with self._lock:
            last = self._last
        return None if last is None else last.result()

    def invalidate(self) -> None:
        """Compute the value again when it is next needed, and discard the result of a running computation."""
        with self._lock:
            self._good_until = self._background_from = 0.0
            self._invalidations += 1

    def expire(self) -> None:
        """Compute the value again as soon as `core_share` allows it, or immediately if that is quick."""
        with self._lock:
            self._good_until = 0.0

    def _refresh(self) -> Future[T] | None:
        """Return what is being computed; a thread begins if the value is too old and may be computed."""
        with self._lock:
            running = self._running
            if running is None and time.monotonic() >= max(self._good_until, self._background_from):
                running, _ = self._begin()
                threading.Thread(target=self._run, args=(running,), daemon=True).start()
            return running

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
            self._background_from = ended + (ended - began) / self._core_share
