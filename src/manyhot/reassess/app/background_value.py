"""Values that take long to find."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from typing import Generic, TypeVar

T = TypeVar("T")


SHARE = 0.05
"""Of one core's time at most is spent on finding a value again and again."""


WAIT = 0.7
"""Seconds that a page waits for a value: it comes within a second, if only to say what is being found."""


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
        self._until = self._spent = 0.0
        self._forgotten = 0
        self._finding: threading.Event | None = None
        self._failed: Exception | None = None

    def __call__(self, wait: float | None = None) -> T | None:
        """Return the value, or after `wait` seconds (by default `WAIT`) an older one or None."""
        with self._lock:
            if self._finding is None and time.monotonic() >= self._until:
                self._finding = threading.Event()
                threading.Thread(target=self._run, args=(self._finding,), daemon=True).start()
            finding = self._finding
        if finding is not None:
            finding.wait(WAIT if wait is None else wait)
        with self._lock:
            if self._failed is not None:
                raise self._failed
            return None if self._known is None else self._known[1]

    def forget(self) -> None:
        """Find the value anew when it is asked for next; what is being found is out of date already."""
        with self._lock:
            self._until = 0.0
            self._forgotten += 1

    def age(self) -> None:
        """Find the value anew as soon as `SHARE` allows: one that is quickly found at once."""
        with self._lock:
            self._until = min(self._until, self._spent)

    def _run(self, done: threading.Event) -> None:
        began, forgotten, failed, found = time.monotonic(), self._forgotten, None, None
        try:
            found = (began, self._find())
        except Exception as error:  # whoever asks next hears of it
            failed = error
        took = time.monotonic() - began
        with self._lock:
            self._known, self._failed = found or self._known, failed
            self._spent = time.monotonic() + took / SHARE
            self._until = max(self._spent, time.monotonic() + self._least)
            if forgotten != self._forgotten:
                self._until = 0.0
            self._finding = None
        done.set()


class Briefly(Generic[T]):
    """A value that is found again after some seconds, by one of those who ask.

    Whoever asks meanwhile gets the value as it was; where there is none yet, all wait for the first one, or
    for its error. Who asks after an error tries again.

    Parameters
    ----------
    find : callable
    seconds : float
        For which a value is good.
    """

    def __init__(self, find: Callable[[], T], seconds: float = 5.0) -> None:
        self._find, self._seconds = find, seconds
        self._lock = threading.Lock()
        self._known: tuple[float, T] | None = None
        self._finding: Future[T] | None = None

    def __call__(self) -> T:
        """Return the value; older than some seconds only while it is being found again."""
        with self._lock:
            known, finding = self._known, self._finding
            if known is not None and (finding is not None or time.monotonic() < known[0]):
                return known[1]
            mine: Future[T] = Future()
            self._finding = finding or mine
        # Outside of the lock: nobody who could have the older value waits for it.
        return self._compute(mine) if finding is None else finding.result()

    def _compute(self, finding: Future[T]) -> T:
        try:
            found = self._find()
        except BaseException as error:
            with self._lock:
                self._finding = None
            finding.set_exception(error)
            raise
        with self._lock:
            self._known, self._finding = (time.monotonic() + self._seconds, found), None
        finding.set_result(found)
        return found


class Settled:
    """Parts of a value that are done with since it was found."""

    def __init__(self) -> None:
        self._value: object = None
        self._parts: set[int] = set()

    def add(self, value: object, part: int) -> None:
        """Note that a part of a value is done with."""
        if value is not self._value:
            self._value, self._parts = value, set()
        self._parts.add(part)

    def rest(self, value: object, parts: Iterable[int]) -> list[int]:
        """Return the parts that are not; all of a value that was found anew."""
        done = self._parts if value is self._value else set()
        return [part for part in parts if part not in done]
