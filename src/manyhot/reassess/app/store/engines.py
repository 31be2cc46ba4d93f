"""Connections to SQLite and PostgreSQL, and the classification of their errors."""

from __future__ import annotations

import contextlib
import io
import os
import re
import sqlite3
from collections.abc import Iterable
from typing import Any, TypeVar

import pyarrow as pa
import sqlalchemy as sa
from pyarrow import csv
from sqlalchemy.engine import ExceptionContext

from manyhot.errors import InputError, OutputError
from manyhot.extras import required

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
    driver: Any = connection.connection.driver_connection
    failure: Any = connection.dialect.loaded_dbapi.Error
    try:
        with driver.cursor().copy(statement) as copy:
            copy.write(text.getbuffer())
    except failure as error:
        raise sa.exc.DBAPIError.instance(
            statement, None, error, failure, hide_parameters=True, dialect=connection.dialect
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
    a minute while answers arrive: after 800 of them, it compared each answer with each visit, which took 40
    ms per page.
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
    return str(error.orig).partition("\n")[0]


def _is_trouble(error: sa.exc.DBAPIError) -> bool:
    if error.connection_invalidated:
        return True
    if _code(error.orig):
        return _code(error.orig).startswith(_TROUBLES)
    code = getattr(error.orig, "sqlite_errorcode", None)
    if code is not None:
        return code & 0xFF in _SQLITE_TROUBLES
    return isinstance(error, sa.exc.OperationalError)  # psycopg: there is no server


def _code(error: BaseException | None) -> str:
    """Return the PostgreSQL code of an error; empty for other errors."""
    return getattr(error, "sqlstate", None) or ""


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
        required("psycopg", "PostgreSQL", '"manyhot[postgresql]"')
        engine = sa.create_engine(
            address.set(drivername="postgresql+psycopg"), use_native_hstore=False, **options
        )
        sa.event.listen(engine, "handle_error", _notice_lost)
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


def _notice_lost(context: ExceptionContext) -> None:
    # A server that goes down says so with a code, of which SQLAlchemy's dialect knows nothing.
    if _code(context.original_exception).startswith(("57P", "08")):
        context.is_disconnect = True
