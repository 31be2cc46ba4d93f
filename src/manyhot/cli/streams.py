"""What the system gives a process: standard streams, which may be closed, and signals that end it."""

from __future__ import annotations

import io
import os
import signal
import sys
import threading
import warnings
from types import FrameType
from typing import Any

STOPPED: list[int] = []
"""The signal by which the run was ended, if any."""


def open_streams() -> None:
    """Redirect closed standard streams to the null device, and escape characters that a stream cannot encode.

    Python has no object for a closed stream, and the next file that is opened gets its file descriptor.
    Anything that a library prints would then be written into this file, for example into a table. In the C
    locale, a stream may be limited to ASCII, and printing ± would end the command.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # takes the lowest number that is free
        if getattr(sys, name) is None:
            stream = open(os.devnull, "w" if number else "r", encoding="utf-8")  # noqa: SIM115, PTH123
            setattr(sys, name, stream)
    for output in (sys.stdout, sys.stderr):
        if isinstance(output, io.TextIOWrapper):
            output.reconfigure(errors="backslashreplace")


def shorten_warnings() -> None:
    """Show warnings about plug-ins as plain sentences, without the line of code that raises them."""
    in_full = warnings.formatwarning

    def shown(message: Warning | str, category: type[Warning], *more: Any, **options: Any) -> str:
        from manyhot.plug_ins import PlugInWarning  # only now, because help needs none of it

        if issubclass(category, PlugInWarning):
            return f"Warning: {message}\n"
        return in_full(message, category, *more, **options)

    warnings.formatwarning = shown


def end_in_order() -> None:
    """Make SIGTERM and a closed terminal end a run as Ctrl-C does, so that half-written files are removed."""
    if threading.current_thread() is not threading.main_thread():
        return
    own = os.getpid()

    def stop(number: int, frame: FrameType | None) -> None:
        if os.getpid() != own:  # a process of PyTorch or Ray, which is ended by whoever started it
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        STOPPED.append(number)
        raise KeyboardInterrupt

    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) == signal.SIG_DFL:  # nohup ignores SIGHUP
            signal.signal(number, stop)
