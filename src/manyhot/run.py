"""How a call runs: the command to name in what it writes, and who hears how far it is."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

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


QUIET = Run()
"""Nobody listens: the default of calls from Python."""
