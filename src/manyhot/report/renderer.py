"""A process that draws figures, because the renderer keeps Python's lock while it draws.

It starts while results are computed, takes half a second to get ready, and then draws on a core of its own:
the 15 figures of ``manyhot evaluate imagenet`` take 1.5 CPU s.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Sequence

_SERVE = """
import json, sys
sys.path[:] = json.loads(sys.argv[1])
import vl_convert
sys.stdin.reconfigure(encoding="utf-8")
sys.stdout.reconfigure(encoding="utf-8")
for line in sys.stdin:
    drawn = [vl_convert.vegalite_to_svg(panel, allowed_base_urls=[]) for panel in json.loads(line)]
    print(json.dumps(drawn), flush=True)
"""
"""What the process runs. If it fails, the caller draws itself, and raises the error."""

_POINT = json.dumps({"data": {"values": [{}]}, "mark": "point"})
"""The first drawing takes half a second longer than later ones."""


class Renderer:
    """A process that draws panels, one figure after the other."""

    def __init__(self) -> None:
        self._owner = os.getpid()
        self._lock = threading.Lock()
        self._process = subprocess.Popen(  # noqa: S603  our own code
            # -P: a module in the folder of the call is not a library.
            [sys.executable, "-P", "-c", _SERVE, json.dumps(sys.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            encoding="utf-8",
        )
        atexit.register(self.close)
        self._send([_POINT])
        self._is_ready = False

    @property
    def is_mine(self) -> bool:
        """Whether this process started the renderer: a process that was forked from it did not."""
        return self._owner == os.getpid() and self._process.poll() is None

    def draw(self, panels: Sequence[str]) -> list[str] | None:
        """Return the SVG of panels, or None if the process has failed."""
        with self._lock, contextlib.suppress(OSError, ValueError):
            if not self._is_ready:
                self._receive()
                self._is_ready = True
            self._send(panels)
            return self._receive()
        return None

    def close(self) -> None:
        """End the process."""
        if self._owner == os.getpid():
            self._process.kill()
            with contextlib.suppress(OSError):
                self._process.communicate()

    def _send(self, panels: Sequence[str]) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # then nothing is received
            self._process.stdin.write(json.dumps(panels) + "\n")
            self._process.stdin.flush()

    def _receive(self) -> list[str]:
        assert self._process.stdout is not None
        drawn: list[str] = json.loads(self._process.stdout.readline())
        return drawn


_running: list[Renderer] = []


def start() -> None:
    """Start the process, unless this process has loaded the library that draws."""
    if "vl_convert" in sys.modules or running() is not None:
        return
    with contextlib.suppress(OSError):
        _running[:] = [Renderer()]


def running() -> Renderer | None:
    """Return the renderer that this process has started; None if there is none."""
    return next((r for r in _running if r.is_mine), None)
