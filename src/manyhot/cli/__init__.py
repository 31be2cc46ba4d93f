"""The command line: the program and its exit codes.

Nothing but Typer is imported before a command runs, so that ``--help`` and completion answer at once.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import re
import sys
import threading
from pathlib import Path
from typing import NoReturn

import typer

from manyhot.cli import streams
from manyhot.cli.application import application
from manyhot.errors import ManyhotError, OutputError
from manyhot.extras import check_addresses, missing_extra
from manyhot.files import is_full, write_refused

app = application()

GARBAGE = 50_000
"""Number of new containers before Python looks for circles among them. At 700, its default, the modules that
a command imports are looked through hundreds of times: 0.25 s of `evaluate imagenet-x`."""

MORE_OPEN_FILES = "allow more open files, for example with: ulimit -n 256"

LEAST_ADDRESSES = 3_000_000_000
"""Bytes of addresses that commands need: evaluating three images reserves 2.8 GB, and uses 0.3 GB."""


def main() -> None:
    """Run the command line and exit with its code.

    Codes: 0 on success; 1 for a bug; 2 for wrong usage or an unknown name; 3 for invalid input; 4 if an extra
    is not installed; 5 if data could not be downloaded; 6 if a result could not be written; 7 if a compared
    model is worse by more than a margin; 130 if the run was interrupted, and 143 if it was terminated.
    """
    streams.open_streams()
    if sys.flags.optimize > 1:
        sys.stderr.write(
            "Error: Python runs with -OO, which removes the docstrings that declare the commands.\n"
            "  do:      use -O, or unset PYTHONOPTIMIZE\n"
        )
        sys.exit(2)
    if "" in sys.argv[1:]:
        # A variable of the shell that is not set; a folder called nothing would be the current one.
        sys.stderr.write(
            "Error: An argument is empty.\n  do:      check that the shell variables in it are set\n"
        )
        sys.exit(2)
    gc.set_threshold(GARBAGE)
    streams.end_in_order()
    streams.shorten_warnings()
    try:
        if {"--help", "-h", "--version"}.isdisjoint(sys.argv):
            check_addresses(LEAST_ADDRESSES, "manyhot and its libraries")
        app(prog_name="manyhot")
    except ManyhotError as error:
        _leave(_complain(error))
    except OSError as error:
        _leave(_refused(error))
    except BaseException as error:
        # Typer makes a SystemExit of Ctrl-C, and PyTorch, while it is imported, a RuntimeError.
        if _is_interrupt(error):
            sys.stderr.write("Interrupted; no file was left half-written.\n")
            _leave(128 + streams.STOPPED[0] if streams.STOPPED else 130)
        if _reader_left(error):
            _leave(0)
        known = missing_extra(error) or _panic(error)
        if known is None:
            raise
        _leave(_complain(known))


def _complain(error: ManyhotError) -> int:
    """Print an error, and return the exit code."""
    typer.secho(f"Error: {error}", err=True, fg="red" if sys.stderr.isatty() else None)
    return error.exit_code


def _panic(error: BaseException) -> ManyhotError | None:
    """Return the error for memory that is used up, or a panic in Rust, which no caller can handle."""
    if isinstance(error, MemoryError):
        return OutputError("Out of memory.", got=str(error) or None, do="make more memory available")
    # How the renderer of figures reports a panic of its own, and one before.
    cancelled = any(text in str(error) for text in ("oneshot canceled", "receiver is gone"))
    if type(error).__name__ != "PanicException" and not cancelled:
        return None
    reason = " ".join(str(error).split())
    if in_rust := re.search(r'message: "([^"]+)"', reason):
        reason = in_rust[1]
    few_files = cancelled or "open files" in reason
    do = MORE_OPEN_FILES if few_files else None
    return OutputError("A library cannot work in this environment.", got=reason, do=do)


def _is_interrupt(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, KeyboardInterrupt) or (isinstance(error, SystemExit) and error.code == 130):
            return True
        error = error.__cause__ or error.__context__
    return False


def _reader_left(error: BaseException) -> bool:
    """Return whether Typer ended because nobody reads standard output any more, as in ``| head``."""
    cause = error.__context__
    return isinstance(error, SystemExit) and isinstance(cause, OSError) and cause.errno == errno.EPIPE


def _leave(code: int) -> NoReturn:
    """Exit, at once where threads are at work or somebody waits for the prompt."""
    if threading.active_count() > 1 or code > 128:
        # An engine cannot be stopped within a batch, and aborts when Python ends under it. Where none is at
        # work, to take PyTorch and OpenVINO down in order takes 1.2 s.
        with contextlib.suppress(OSError):
            sys.stdout.flush()
        os._exit(code)
    sys.exit(code)


def _refused(error: OSError) -> int:
    """Say what the system refused, and return the exit code."""
    what = error.strerror or str(error)
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return _complain(
            OutputError("A library cannot work in this environment.", got=what, do=MORE_OPEN_FILES)
        )
    if error.filename is None and error.errno in (errno.ENOSPC, errno.EPIPE, errno.EBADF, errno.EIO):
        # Files raise errors of our own; this is standard output: full, or nobody reads on.
        sys.stderr.write(f"Error: Cannot write to standard output: {what}.\n")
        return 6
    if is_full(error) or error.errno == errno.EFBIG:  # of a temporary file; others raise errors of our own
        place = Path(os.fsdecode(error.filename or "an unknown file"))
        return _complain(write_refused(place, error).renamed({"out": "--out"}))
    where = "" if error.filename is None else f"\n  where:   {error.filename}"
    sys.stderr.write(f"Error: A file or folder cannot be used: {what}.{where}\n")
    return 3
