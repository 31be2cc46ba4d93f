"""How a call runs: the command to name in what it writes, who hears how far it is, and what it has read."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""

OnEvent = Callable[[str, dict[str, Any]], None]
"""Called with the kind of an event, such as ``epoch``, and its values."""

CHECK_ORDER = "check the order of rows and classes"
"""How a note ends that questions all numbers of a result: it is shown before them."""


def split_notes(notes: Iterable[str]) -> tuple[list[str], list[str]]:
    """Return the notes that question the whole result, and all others."""
    listed = list(notes)
    return [n for n in listed if CHECK_ORDER in n], [n for n in listed if CHECK_ORDER not in n]


@dataclass(frozen=True)
class Run:
    """Command line of the call, and callbacks for its progress.

    Attributes
    ----------
    call : str
        The command line, which is stored in the metadata of files and shown on pages. It is empty for a call
        from Python.
    on_progress : callable, optional
        Called with the name of the current step, the completed amount and the total amount.
    on_event : callable, optional
        Called with the kind of an event and its values. Long-running commands, such as ``predict`` and
        ``train``, report their steps as events.
    """

    call: str = ""
    on_progress: Progress | None = None
    on_event: OnEvent | None = None

    def event(self, kind: str, values: dict[str, Any]) -> None:
        """Report a step to whoever listens."""
        if self.on_event is not None:
            self.on_event(kind, values)

    def doubts(self, notes: Iterable[str]) -> None:
        """Report the notes that question the whole result, before its numbers are shown."""
        for note in split_notes(notes)[0]:
            self.event("doubt", {"text": f"Note: {note}."})


_CURRENT: ContextVar[FilesRead | None] = ContextVar("files_read", default=None)


@dataclass
class FilesRead:
    """How a call has read each file of another tool, and each frame.

    Attributes
    ----------
    frame : str
        The name of the data in memory that are being read through a file; empty for the user's own files.
    """

    described: dict[tuple[str, str], str] = field(default_factory=dict)
    others: dict[str, set[str]] = field(default_factory=dict)
    frame: str = ""

    SHOWN: ClassVar[int] = 2
    """Files of one kind that are described; the others are counted."""

    @staticmethod
    def current() -> FilesRead | None:
        """Return what the innermost `recording` records; None outside of one."""
        return _CURRENT.get()

    @contextmanager
    def recording(self) -> Iterator[FilesRead]:
        """Record the files that are read in a block."""
        token = _CURRENT.set(self)
        try:
            yield self
        finally:
            _CURRENT.reset(token)

    def add(self, kind: str, file: str, describe: Callable[[], str]) -> None:
        """Add a file, described unless enough of its kind are. If it is read again, the last time counts."""
        if (kind, file) not in self.described and sum(k == kind for k, _ in self.described) == self.SHOWN:
            self.others.setdefault(kind, set()).add(file)
            return
        token = _CURRENT.set(None)  # the description reads a part of the file again
        try:
            self.described[kind, file] = describe()
        finally:
            _CURRENT.reset(token)

    def lines(self) -> list[str]:
        """Return one line per file that is described, and one per kind for all others."""
        more = (f"{len(files):,} more as {kind}" for kind, files in self.others.items())
        return [*self.described.values(), *more]


@contextmanager
def frame_read(name: str) -> Iterator[None]:
    """Give what is read in a block the name of data in memory, which are read through a file."""
    found = FilesRead.current()
    with contextlib.nullcontext() if found is None else replace(found, frame=name).recording():
        yield


QUIET = Run()
"""Nobody listens: the default of calls from Python."""
