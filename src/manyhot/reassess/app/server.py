"""The server of the app: listens, and ends in order."""

from __future__ import annotations

import contextlib
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from manyhot.errors import InputError

if TYPE_CHECKING:
    import uvicorn
    from fastapi import FastAPI


def serve(app: FastAPI, host: str, port: int, ready: Callable[[str], None]) -> None:
    """Serve an app until Ctrl-C or SIGTERM; both raise KeyboardInterrupt.

    Parameters
    ----------
    app : FastAPI
    host : str
    port : int
        0 takes a free one.
    ready : callable
        Called with the address as soon as it answers.

    Raises
    ------
    InputError
        The address cannot be used.
    """
    import uvicorn

    with _listen(host, port) as listening, _ended_alike():
        name = f"[{host}]" if ":" in host else host
        ready(f"http://{name}:{listening.getsockname()[1]}")
        # Threads take turns after 0.1 ms instead of 5: who writes waits for the database ten times an answer,
        # and each time for a turn.
        sys.setswitchinterval(0.0001)
        uvicorn.Server(configured(app)).run(sockets=[listening])


@contextlib.contextmanager
def _ended_alike() -> Iterator[None]:
    """Let SIGTERM end the program in order, too: else answers are left in SQLite's log beside the file."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def configured(app: FastAPI) -> uvicorn.Config:
    """Return how the app is served."""
    import uvicorn

    from manyhot.reassess.app.access import LimitedConnection

    # No log of requests: their addresses hold invitations.
    # Connections outlive the look at a page; 5 s, which is usual, would break them in between.
    # What proxies say is for the app to believe or not.
    return uvicorn.Config(
        app,
        http=LimitedConnection,
        ws="none",
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=10,
    )


def _listen(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=256
        )
    except OSError as error:
        raise InputError(
            "The address cannot be listened on.",
            where=f"{host}:{port}",
            got=error.strerror or error,
            do="choose another --port, or 0 for a free one",
        ) from error
