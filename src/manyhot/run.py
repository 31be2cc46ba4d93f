"""How a call runs: the command to name in what it writes, and whom to tell how far it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""


@dataclass(frozen=True)
class Run:
    """How a call runs.

    Attributes
    ----------
    call : str
        The command line, which stands in the metadata of files and on pages; empty for a call from Python.
    on_progress : callable, optional
        Called with what is being done, how much of it is done, and how much there is.
    """

    call: str = ""
    on_progress: Progress | None = None


QUIET = Run()
"""Nobody is told anything: the default of calls from Python."""
