"""The server of the app, with an orderly shutdown."""

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
import importlib
import os
import shlex
from typing import TYPE_CHECKING, Annotated, Any

from manyhot.console import without_passwords
from manyhot.errors import MissingExtraError
from manyhot.parameters import FromEnvironment, Shown
from manyhot.tables import Campaign

if TYPE_CHECKING:
    from manyhot.reassess.app.store import Store


def serve(app: FastAPI, host: str, port: int, ready: Callable[[str], None]) -> None:
    """Serve an app until Ctrl-C or SIGTERM; both raise KeyboardInterrupt.

    Parameters
    ----------
    app : FastAPI
    host : str
    port : int
        0 chooses a free port.
    ready : callable
        Called with the address as soon as the server responds.

    Raises
    ------
    InputError
        If the server cannot listen on the address.
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
    """Return the configuration of the server."""
    import uvicorn

    from manyhot.reassess.app.access import LimitedConnection

    class Connection(LimitedConnection):
        reach = app.state.context.reach

    # No log of requests: their addresses hold invitations.
    # Connections outlive the look at a page; 5 s, which is usual, would break them in between.
    # What proxies say is for the app to believe or not.
    return uvicorn.Config(
        app,
        http=Connection,
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
            "The server cannot listen on this address.",
            where=f"{host}:{port}",
            got=error.strerror or error,
            do="choose another `port`; 0 selects a free one",
        ) from error


DATABASE = "annotation.sqlite"
"""The database file of the annotation app in the folder of a campaign."""

_VARIABLE = "MANYHOT_DATABASE"

# Arguments of a command are seen by all who use the machine; its environment is not.
DatabaseAddress = Annotated[str | None, Shown("ADDRESS"), FromEnvironment(_VARIABLE)]


def database_option(database: str | None) -> str:
    """Return the option ``--database`` for a suggested command; empty if the environment sets the address."""
    if database is None or database == os.environ.get(_VARIABLE):
        return ""
    return f" --database {shlex.quote(without_passwords(database))}"


def web_extra() -> Any:
    """Return the package `manyhot.reassess.app`; raise an error if packages that it needs are not installed.

    Raises
    ------
    MissingExtraError
        If they are not installed.
    """
    try:
        from manyhot.reassess import app

        importlib.import_module("manyhot.reassess.app.app")
    except ImportError as error:
        raise MissingExtraError(
            "The annotation app needs packages that are not installed.",
            got=error,
            do='pip install "manyhot[web]"',
        ) from error
    return app


def address_of(campaign: Campaign, database: str | None) -> str:
    """Return the address of the database of a campaign."""
    return database or f"sqlite:///{campaign.folder / DATABASE}"


@contextlib.contextmanager
def open_store(campaign: Campaign, database: str | None) -> Iterator[Store]:
    """Open the existing database of a campaign.

    Raises
    ------
    InputError
        If the campaign has no database yet.
    """
    web = web_extra()
    nobody = InputError(
        "Annotation of this campaign has not begun yet.",
        where=campaign.folder,
        got=f"no {DATABASE} in it" if database is None else "an empty database",
        do=f"begin: manyhot annotate {campaign.folder}",
    )
    if database is None and not (campaign.folder / DATABASE).is_file():
        raise nobody
    store = web.Store(address_of(campaign, database))
    try:
        if not store.is_filled():
            raise nobody
        yield store
    finally:
        store.close()
