"""What tests draw again and again, of which the renderer draws each once: 40 ms a panel, 2 s for its script.

In a run with several workers, the process that starts them draws for all: V8 takes each process half a second
to start, and each command in a process of its own would start it anew. Not for tests of the drawing itself.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import os
import threading
from collections.abc import Callable
from multiprocessing.connection import Client, Listener
from pathlib import Path
from typing import Any

FOLDER = "MANYHOT_TESTS_DRAWN"
"""The variable that names a folder for what is made once; all workers and what they fork share it."""

DRAWERS = ("vegalite_to_svg", "javascript_bundle")
"""The functions of vl-convert whose texts are kept."""

SOCKET = "drawer"
"""The socket in that folder of the process that draws."""


def serve() -> Callable[[], None]:
    """Draw in a thread of this process for those that ask for it, and return what ends it."""
    try:
        listener = Listener(str(Path(os.environ[FOLDER]) / SOCKET), "AF_UNIX", backlog=16)
    except OSError:  # an address that is too long: each process draws for itself
        return lambda: None
    threading.Thread(target=_answer, args=(listener,), daemon=True).start()
    return listener.close


def _answer(listener: Listener) -> None:
    while True:
        with contextlib.suppress(OSError, EOFError), listener.accept() as caller:
            name, given, options = caller.recv()
            try:
                text = getattr(importlib.import_module("vl_convert"), name)(*given, **options)
            except Exception:  # the caller draws it, too, and raises what it raises
                text = None
            caller.send(text)


def _drawn_elsewhere(path: Path, name: str, *given: str, **options: Any) -> str | None:
    """Return what the process that draws makes of it; None if there is none, or if it cannot be drawn."""
    if path.exists():
        with contextlib.suppress(OSError, EOFError), Client(str(path), "AF_UNIX") as drawer:
            drawer.send((name, given, options))
            return drawer.recv()
    return None


def kept(draw: Callable[..., str]) -> Callable[..., str]:
    """Return what draws once for all who give it the same."""
    folder = Path(os.environ[FOLDER])

    def drawn(*given: str, **options: Any) -> str:
        told = repr((draw.__name__, given, sorted(options.items())))
        path = folder / hashlib.sha256(told.encode()).hexdigest()
        if path.exists():
            return path.read_text(encoding="utf-8")
        text = _drawn_elsewhere(folder / SOCKET, draw.__name__, *given, **options)
        if text is None:
            text = draw(*given, **options)
        part = path.with_suffix(f".{os.getpid()}")
        part.write_text(text, encoding="utf-8")
        part.replace(path)
        return text

    return drawn
