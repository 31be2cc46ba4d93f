"""Values that take long to find."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")

SHARE = 0.05
"""Of one core's time at most is spent on finding a value again and again."""


class Meanwhile(Generic[T]):
    """A value that is found in a thread of its own; who asks gets the last one where it takes too long.

    Parameters
    ----------
    find : callable
    least : float
        Seconds for which a value is good.
    """

    def __init__(self, find: Callable[[], T], least: float = 2.0) -> None:
        self._find, self._least = find, least
        self._lock = threading.Lock()
        self._known: tuple[float, T] | None = None
        self._until = 0.0
        self._finding: threading.Event | None = None
        self._failed: Exception | None = None

    def __call__(self, wait: float = 1.5) -> T | None:
        """Return the value after `wait` seconds at most: an older one or None if it is not found by then."""
        with self._lock:
            if self._finding is None and time.monotonic() >= self._until:
                self._finding = threading.Event()
                threading.Thread(target=self._run, args=(self._finding,), daemon=True).start()
            finding = self._finding
        if finding is not None:
            finding.wait(wait)
        with self._lock:
            if self._failed is not None:
                raise self._failed
            return None if self._known is None else self._known[1]

    def forget(self) -> None:
        """Find the value anew when it is asked for next."""
        with self._lock:
            self._until = 0.0

    def _run(self, done: threading.Event) -> None:
        began, failed, found = time.monotonic(), None, None
        try:
            found = (began, self._find())
        except Exception as error:  # whoever asks next hears of it
            failed = error
        took = time.monotonic() - began
        with self._lock:
            self._known, self._failed = found or self._known, failed
            self._until = time.monotonic() + max(self._least, took / SHARE)
            self._finding = None
        done.set()
