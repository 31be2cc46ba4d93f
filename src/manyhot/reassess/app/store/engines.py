"""Connections to SQLite and PostgreSQL, and the classification of their errors.

pg8000 1.31 has each statement parsed, described and run, three round trips to the server each time, and looks
for its parameters character by character, half of the app's time; here all that is done once per connection.
It lets some errors of the network out as they are, and SQLAlchemy takes them for our own. It closes a socket
but not the file that reads from it, so that it stays open until the collector comes by.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import socket
import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import pg8000
import pyarrow as pa
import sqlalchemy as sa
from pg8000.converters import make_params
from pg8000.legacy import convert_paramstyle
from pyarrow import csv
from sqlalchemy.engine import ExceptionContext

from manyhot.errors import InputError, OutputError

T = TypeVar("T")
_BUSY_MS = 10_000
"""Time that SQLite waits for another process that writes."""


_READERS = 8
"""Connections for reading. More would not be faster: to open one takes PostgreSQL as long as 20 reads."""


_LOCK = 0x6D616E79
"""PostgreSQL's advisory lock that whoever changes something holds."""


_PASSWORD = re.compile(r"(://[^:/]*:).*@")


# Of PostgreSQL: connection, conflict between transactions, resources, shutdown, the system.
_TROUBLES = ("08", "40", "53", "57", "58")

_SQLITE_TROUBLES = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_NOTADB,
}


def reader(url: str) -> sa.Engine:
    """Return an engine for reading, in which each statement sees what was committed before it started.

    Raises
    ------
    InputError
        If the address is invalid, or of an unsupported kind of database.
    """
    # A transaction around each read would be two more round trips to PostgreSQL.
    return _engine(url, isolation_level="AUTOCOMMIT", pool_size=_READERS, max_overflow=0)


def writer(url: str) -> sa.Engine:
    """Return an engine for transactions; raise the same errors as `reader`."""
    return _engine(url, pool_size=1, max_overflow=4)


def lock(connection: sa.Connection) -> None:
    """Take the lock for changes, until the end of the transaction."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")


_AT_ONCE = 20_000
"""Rows that are sent to the database together."""


def insert_rows(connection: sa.Connection, table: sa.Table, rows: pa.Table) -> None:
    """Add many rows. On PostgreSQL, this uses COPY, which is twenty times as fast as INSERT."""
    names = ", ".join(rows.column_names)
    for start in range(0, len(rows), _AT_ONCE):
        part = rows.slice(start, _AT_ONCE)
        if connection.dialect.name == "postgresql":
            _copy(connection, f"COPY {table.name} ({names}) FROM STDIN WITH (FORMAT csv)", part)
        else:
            marks = ", ".join("?" * len(rows.column_names))
            values = list(zip(*(column.to_pylist() for column in part.columns), strict=True))
            connection.exec_driver_sql(f"INSERT INTO {table.name} ({names}) VALUES ({marks})", values)  # noqa: S608
    if connection.dialect.name == "postgresql" and "id" in rows.column_names and len(rows):
        continue_numbers(connection, table)


def _copy(connection: sa.Connection, statement: str, rows: pa.Table) -> None:
    text = io.BytesIO()
    csv.write_csv(rows, text, csv.WriteOptions(include_header=False))
    text.seek(0)
    driver: Any = connection.connection.driver_connection
    try:
        driver.cursor().execute(statement, stream=text)
    except pg8000.Error as error:
        raise sa.exc.DBAPIError.instance(
            statement, None, error, pg8000.Error, hide_parameters=True, dialect=connection.dialect
        ) from error


def continue_numbers(connection: sa.Connection, table: sa.Table) -> None:
    """Make PostgreSQL continue its row numbers after rows that were added with explicit numbers."""
    numbers = f"pg_get_serial_sequence('{table.name}', 'id')"
    connection.exec_driver_sql(
        f"SELECT setval({numbers}, coalesce(max(id), 1), max(id) IS NOT NULL) FROM {table.name}"  # noqa: S608
    )


def take_stock(connection: sa.Connection) -> None:
    """Update PostgreSQL's statistics of tables with rows; without statistics, its queries scan whole tables.

    An empty table must not have any. PostgreSQL then makes plans for a table without rows, and keeps them for
    a minute while answers arrive: after 800 of them, it compared each with each visit, for 40 ms a page.
    """
    if connection.dialect.name == "postgresql":
        names = ", ".join(connection.exec_driver_sql(_FILLED).scalars())
        connection.exec_driver_sql(f"ANALYZE {names}")


_FILLED = (
    "SELECT oid::regclass::text FROM pg_class WHERE relkind = 'r' AND pg_relation_size(oid) > 0 "
    "AND relnamespace = current_schema()::regnamespace"
)


def padded(values: Iterable[T]) -> list[T]:
    """Return values padded with copies of the last value, so that fewer different statements are prepared."""
    found = list(values)
    return found + found[-1:] * ((1 << max(len(found) - 1, 0).bit_length()) - len(found))


def is_lost(error: BaseException) -> bool:
    """Return whether an error means that the connection is lost."""
    return isinstance(error, sa.exc.DBAPIError) and error.connection_invalidated


def trouble(engine: sa.Engine, error: BaseException) -> OutputError | None:
    """Return the exception to raise for an error of the database; None for errors of the program."""
    if isinstance(error, sa.exc.TimeoutError):
        got = "too many connections at once"
    elif isinstance(error, sa.exc.PendingRollbackError | sa.exc.ResourceClosedError):
        got = "the connection was lost"
    elif isinstance(error, sa.exc.DBAPIError) and _is_trouble(error):
        got = error_text(error)
    else:
        return None
    return OutputError(
        "The database is not available.",
        where=where(engine),
        got=got,
        do="check that the disk has free space and that the server is running",
    )


def where(engine: sa.Engine) -> str:
    """Return the address of a database, without its password."""
    return engine.url.set(drivername=engine.dialect.name).render_as_string(hide_password=True)


def error_text(error: sa.exc.DBAPIError) -> str:
    """Return the message of a database error in one line."""
    told = error.orig.args[0] if error.orig is not None and error.orig.args else error.orig
    return str(told.get("M", told) if isinstance(told, dict) else told).partition("\n")[0]


def _is_trouble(error: sa.exc.DBAPIError) -> bool:
    if error.connection_invalidated:
        return True
    if _code(error.orig):
        return _code(error.orig).startswith(_TROUBLES)
    code = getattr(error.orig, "sqlite_errorcode", None)
    if code is not None:
        return code & 0xFF in _SQLITE_TROUBLES
    return isinstance(error, sa.exc.InterfaceError)  # pg8000: there is no server


def _code(error: BaseException | None) -> str:
    """Return the PostgreSQL code of an error; empty for other errors."""
    told = error.args[0] if error is not None and error.args else None
    return str(told.get("C", "")) if isinstance(told, dict) else ""


def _engine(url: str, **options: Any) -> sa.Engine:
    try:
        address = sa.make_url(url)
    except (sa.exc.ArgumentError, ValueError):
        raise InputError(
            "This is not a valid address of a database.",
            got=_PASSWORD.sub(r"\1***@", url),
            allowed="sqlite:///PATH or postgresql://HOST/NAME",
        ) from None  # the cause repeats the address
    kind = address.get_backend_name()
    # Parameters of statements hold what raters wrote, and hashes of tokens: not for logs.
    options["hide_parameters"] = True
    if kind == "sqlite" and address.database:
        engine = sa.create_engine(
            address, connect_args={"timeout": _BUSY_MS / 1000, "check_same_thread": False}, **options
        )
        sa.event.listen(engine, "do_connect", _make_private)
        sa.event.listen(engine, "connect", _prepare_sqlite)
        sa.event.listen(engine, "begin", _begin_sqlite)
        return engine
    if kind == "postgresql":
        # pg8000 is BSD; the usual driver is LGPL, which a package under the Apache licence need not bring.
        engine = sa.create_engine(address.set(drivername="postgresql+pg8000"), **options)
        sa.event.listen(engine, "handle_error", _notice_lost)
        sa.event.listen(engine, "do_connect", _connect)
        return engine
    raise InputError(
        "This kind of database is not supported.",
        got=address.render_as_string(hide_password=True),
        allowed="sqlite:///PATH or postgresql://HOST/NAME",
    )


def _make_private(_dialect: object, _record: object, arguments: Any, _options: object) -> None:
    # It holds who wrote what, and what passwords were hashed to. The files beside it get its mode.
    path = str(arguments[0])
    if path != ":memory:" and not path.startswith("file:"):
        with contextlib.suppress(OSError):  # it is there already, or SQLite says what is wrong
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))


def _prepare_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # transactions begin where we say, not where the driver guesses
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", f"busy_timeout={_BUSY_MS}"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: sa.Connection) -> None:
    # A writer that begins as a reader cannot wait for another writer: it fails at once.
    begin = connection.get_execution_options().get("begin")
    if begin:
        connection.exec_driver_sql(begin)


def _connect(_dialect: object, _record: object, _arguments: object, options: dict[str, Any]) -> object:

    return PostgresConnection(**options)


def _notice_lost(context: ExceptionContext) -> None:
    # A server that goes down says so with a code, of which SQLAlchemy's dialect knows nothing.
    if _code(context.original_exception).startswith(("57P", "08")):
        context.is_disconnect = True


_PREPARED = 500
"""Maximum number of prepared statements per connection; the app has about 100."""


class PostgresConnection(pg8000.Connection):  # type: ignore[misc]
    """A connection to PostgreSQL.

    Parameters
    ----------
    host : str
    port : int
    unix_sock : str, optional
        Path of a Unix socket, used in place of `host` and `port`.
    **options
        Options of `pg8000.Connection`.

    Raises
    ------
    pg8000.InterfaceError
        If the server cannot be reached, or the connection is lost. All methods raise this error.
    """

    def __init__(
        self, host: str = "localhost", port: int = 5432, unix_sock: str | None = None, **options: Any
    ) -> None:
        self._prepared: dict[str, tuple[Any, ...]] = {}
        self._bound: tuple[str | None, Sequence[object]] = None, ()
        opened: list[socket.socket] = []
        try:
            if (
                unix_sock is None
            ):  # pg8000 forgets its own if the server goes before it says whether it has TLS
                opened.append(socket.create_connection((host, port)))
                opened[0].setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                options["sock"] = opened[0]
            super().__init__(host=host, port=port, unix_sock=unix_sock, **options)
        except BaseException as error:
            for one in opened:
                one.close()
            if isinstance(error, OSError):
                raise _lost(error) from error
            raise

    def cursor(self) -> _Cursor:
        """Return a cursor whose statements are prepared once."""
        return _Cursor(self)

    def bind(self, statement: str, values: Sequence[object]) -> None:
        """Set the values for the next time that this statement is run."""
        self._bound = statement, values

    def execute_simple(self, statement: str) -> object:
        """Run a statement; one with values is usually prepared already."""
        bound, values = self._bound
        if statement is not bound:  # BEGIN comes before it
            return super().execute_simple(statement)
        self._bound = None, ()
        if statement not in self._prepared:
            text, _ = convert_paramstyle("format", statement, values)
            if len(self._prepared) >= _PREPARED:
                return super().execute_unnamed(text, values)
            self._prepared[statement] = self.prepare_statement(text, ())
        name, columns, converters = self._prepared[statement]
        return self.execute_named(name, make_params(self.py_types, values), columns, converters, statement)

    def handle_messages(self, context: object) -> None:
        """Read the server's reply."""
        try:
            super().handle_messages(context)
        except OSError as error:
            raise _lost(error) from error

    def close(self) -> None:
        """End the session on the server, if it still responds, and close the socket."""
        if self._usock is None:
            raise pg8000.InterfaceError("connection is closed")
        stream = self._sock
        with contextlib.suppress(pg8000.InterfaceError):  # nobody listens any more
            super().close()
        with contextlib.suppress(OSError):  # what was not sent
            stream.close()


class _Cursor(pg8000.Cursor):  # type: ignore[misc]
    """A cursor that lets its connection remember each statement as SQLAlchemy wrote it."""

    def execute(self, operation: str, args: Sequence[object] = (), stream: object = None) -> object:
        """Run a statement."""
        if not args or stream is not None:
            return super().execute(operation, args, stream)
        self._c.bind(operation, args)
        return super().execute(operation)


def _lost(error: OSError) -> Exception:
    # By these two words SQLAlchemy knows that the connection is of no use any more.
    lost: Exception = pg8000.InterfaceError(f"network error: {error}")
    return lost
