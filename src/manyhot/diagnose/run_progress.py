"""Progress of many runs over images, reported as one."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from manyhot.run import Run


@dataclass
class RunProgress:
    """Reports many runs of `predict` as one: images of all of them, and how long the rest takes.

    Attributes
    ----------
    run : Run
        Whose events are reported, or else whose progress.
    activity : str
        What is being done, for progress.
    total : int, optional
        Images of all runs; None where it is not known.
    done : int
        Images of the runs that are complete.
    """

    run: Run
    activity: str
    total: int | None = None
    done: int = 0
    _scored: int = 0
    _begun: float = 0.0
    _now: int = 0
    _seen: set[str] = field(default_factory=set)

    def __call__(self, kind: str, values: dict[str, Any]) -> None:
        """Pass an event on as one of the whole; of events other than progress only the first of its kind."""
        if kind == "progress":
            self._progress(values)
        elif kind not in self._seen:
            self._seen.add(kind)
            begun = {"images": self.total, "left": None if self.total is None else self.total - self.done}
            self.run.event(kind, values | begun if kind == "model" else values)

    def progress_only(self, kind: str, values: dict[str, Any]) -> None:
        """Pass on progress alone."""
        if kind == "progress":
            self._progress(values)

    def add(self, images: int) -> None:
        """Note that a run is complete."""
        self.done += images
        self._scored += self._now
        self._now = 0

    def _progress(self, values: dict[str, Any]) -> None:
        self._begun = self._begun or time.perf_counter()
        self._now = values["images"]
        # What an earlier run predicted counts as done, but not for the rate: it would flatter the time left.
        scored, done = self._scored + self._now, self.done + self._now
        rate = scored / max(time.perf_counter() - self._begun, 1e-3)
        left = None if self.total is None else round(max(self.total - done, 0) / rate, 1)
        if self.run.on_event is None:
            if self.run.on_progress:
                self.run.on_progress(self.activity, done, self.total or 0)
            return
        self.run.event(
            "progress",
            {
                "model": values["model"],
                "images": done,
                "of": self.total,
                "images_per_second": round(rate, 1),
                "seconds_left": left,
            },
        )
