"""Connections: reads as many as there are, changes one after the other.

One thread makes all changes. Those that wait while it works become one transaction: a disk that takes 5 ms
to be sure costs that once for all of them. Each stands or falls alone, behind a savepoint. Who asked for a
change gets its answer when it is on disk.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from alembic import command
from alembic.config import Config

from manyhot.errors import InputError, OutputError

T = TypeVar("T")
Change = Callable[[sa.Connection], T]
TOGETHER = 64
"""Changes of one transaction at most: those who wait for the first wait for the last, too."""
_BUSY_MS = 10_000


class Database:
    """A database with one writer.

    Parameters
    ----------
    url : str
        ``sqlite:///path`` or ``postgresql://user@host/name``.

    Raises
    ------
    InputError
        The address is none, or of another kind of database.
    OutputError
        The database cannot be opened.
    """

    def __init__(self, url: str) -> None:
        self.engine = _engine(url)
        self._waiting: queue.SimpleQueue[tuple[Change[Any], Future[Any]] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def upgrade(self) -> None:
        """Make the tables, or bring those of an earlier version up to date."""
        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
        try:
            with self.engine.connect() as connection:
                config.attributes["connection"] = connection
                command.upgrade(config, "head")
                connection.commit()
        except sa.exc.OperationalError as error:
            raise OutputError(
                "The database cannot be opened.",
                where=self.engine.url.render_as_string(hide_password=True),
                got=str(error.orig).partition("\n")[0],
                do="check the address and that the server runs",
            ) from error

    def read(self, query: Change[T]) -> T:
        """Run a query and return what it returns."""
        with self.engine.connect() as connection:
            return query(connection)

    def write(self, change: Change[T]) -> T:
        """Make a change and return what it returns, once it is on disk."""
        waiting: Future[T] = Future()
        self._waiting.put((change, waiting))
        self._start()
        return waiting.result()

    def close(self) -> None:
        """Make the changes that wait, and close all connections."""
        with self._lock:
            thread, self._thread = self._thread, None
        if thread is not None:
            self._waiting.put(None)
            thread.join()
        self.engine.dispose()

    def _start(self) -> None:
        if self._thread is None:
            with self._lock:
                if self._thread is None:
                    self._thread = threading.Thread(target=self._run, name="manyhot-writer", daemon=True)
                    self._thread.start()

    def _run(self) -> None:
        while (first := self._waiting.get()) is not None:
            batch, ended = [first], False
            while len(batch) < TOGETHER and not self._waiting.empty():
                if (more := self._waiting.get()) is None:
                    ended = True
                    break
                batch.append(more)
            self._together(batch)
            if ended:
                return

    def _together(self, batch: list[tuple[Change[Any], Future[Any]]]) -> None:
        done: list[tuple[Future[Any], Any]] = []
        try:
            with self.engine.connect().execution_options(writes=True) as connection, connection.begin():
                for change, waiting in batch:
                    try:
                        with connection.begin_nested():
                            done.append((waiting, change(connection)))
                    except sa.exc.DBAPIError as error:
                        if error.connection_invalidated:
                            raise
                        waiting.set_exception(error)
                    except Exception as error:  # the asker's own: only it hears of it
                        waiting.set_exception(error)
        except Exception as error:  # the disk, the server: nothing of this is there
            for _, waiting in batch:
                if not waiting.done():
                    waiting.set_exception(error)
            return
        for waiting, result in done:
            waiting.set_result(result)


def _engine(url: str) -> sa.Engine:
    try:
        address = sa.make_url(url)
    except sa.exc.ArgumentError as error:
        raise InputError(
            "This is no address of a database.", got=url, allowed="sqlite:///PATH or postgresql://HOST/NAME"
        ) from error
    if address.get_backend_name() == "sqlite":
        engine = sa.create_engine(
            address, connect_args={"timeout": _BUSY_MS / 1000, "check_same_thread": False}
        )
        sa.event.listen(engine, "connect", _prepare_sqlite)
        sa.event.listen(engine, "begin", _begin_sqlite)
        return engine
    if address.get_backend_name() == "postgresql":
        # pg8000 is BSD; the usual driver is LGPL, which a package under the Apache licence need not bring.
        return sa.create_engine(address.set(drivername="postgresql+pg8000"), pool_pre_ping=True, pool_size=8)
    raise InputError(
        "This kind of database is not supported.",
        got=address.get_backend_name(),
        allowed="sqlite:///PATH or postgresql://HOST/NAME",
    )


def _prepare_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = (
        None  # transactions begin where SQLAlchemy says, not where the driver guesses
    )
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", f"busy_timeout={_BUSY_MS}"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: sa.Connection) -> None:
    # A writer that begins as a reader cannot wait for another writer: it fails at once.
    writes = connection.get_execution_options().get("writes")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
