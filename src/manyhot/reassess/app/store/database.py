"""Parallel reads and sequential writes; dumps, and their restoration.

One thread makes all changes. Changes that wait while it works are combined into one transaction: a disk with
5 ms per commit costs that once for all of them. Each one succeeds or fails alone: if one fails, all are made
again behind savepoints. A caller gets the result when the change is on disk.

Several processes can use one database: SQLite allows one writer at a time, and a lock does so in PostgreSQL.

A dump is a folder of Parquet files; it can be restored from SQLite to PostgreSQL and the reverse.
"""

from __future__ import annotations

import contextlib
import os
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import sqlalchemy as sa
from pyarrow import parquet as pq

from manyhot.errors import InputError, OutputError
from manyhot.reassess.app.store import engines, schema

T = TypeVar("T")
_Item = TypeVar("_Item")
_Change = Callable[[sa.Connection], T]
_ChangeOfMany = Callable[[sa.Connection, list[_Item]], list[T]]
TOGETHER = 64
"""Maximum number of changes per transaction: the caller of the first also waits for the last."""


@dataclass(frozen=True, eq=False)
class _Waiting:
    """One of those that `change` is for, and who waits for what it returns."""

    change: _ChangeOfMany[Any, Any]
    item: Any
    future: Future[Any]
    most: int
    """Maximum number of items of this change per transaction."""
    is_last: bool
    """Whether it is made after all others that wait, in a transaction of its own."""


CLOSING = 10.0
"""Seconds that closing waits for running reads."""


class Database:
    """A database with one writer.

    Parameters
    ----------
    url : str
        ``sqlite:///path`` or ``postgresql://user@host/name``.

    Raises
    ------
    InputError
        If the address is invalid, or of an unsupported kind of database.
    """

    def __init__(self, url: str) -> None:
        self._reads, self._writes = engines.reader(url), engines.writer(url)
        self._queue: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._later: list[_Waiting] = []  # of the writer alone
        self._lock = threading.Lock()
        self._quiet, self._reading = threading.Condition(self._lock), 0
        self._thread: threading.Thread | None = None
        self._closed = False
        self._process = os.getpid()

    def upgrade(self) -> None:
        """Create the tables, or upgrade those of an earlier version.

        Raises
        ------
        InputError
            If the database is from a later version of manyhot, or belongs to another program.
        OutputError
            If the database cannot be opened.
        """
        schema.upgrade_tables(self._writes)

    def read(self, query: _Change[T]) -> T:
        """Run a query and return its result.

        Raises
        ------
        OutputError
            If the database is currently not available.
        """
        for last in (False, True):
            try:
                with self._open(), self._reads.connect() as connection:
                    return query(connection)
            except sa.exc.SQLAlchemyError as error:
                # A server that was started anew: the pool has forgotten the connections to the old one.
                if last or not engines.is_lost(error):
                    raise self._as_raised(error) from error
        raise AssertionError

    def read_together(self, query: _Change[T]) -> T:
        """Run queries on one consistent snapshot; raise the same errors as `read`."""
        options = {"begin": "BEGIN"} if self._writes.dialect.name == "sqlite" else {}
        level = {} if options else {"isolation_level": "REPEATABLE READ"}
        try:
            with self._open(), self._writes.connect() as connection:
                return query(connection.execution_options(**options, **level))
        except sa.exc.SQLAlchemyError as error:
            raise self._as_raised(error) from error

    def write(self, change: _Change[T]) -> T:
        """Make a change and return its result, once it is on disk.

        If the connection is lost, the change may be repeated in its own transaction.

        Raises
        ------
        OutputError
            If the database is currently not available. If the connection was lost during the commit, the
            change may have been made nevertheless.
        """
        return self.begin(change).result()

    def begin(self, change: _Change[T]) -> Future[T]:
        """Start `write` without waiting for it; the future contains the result or the error."""
        return self.begin_with_others(lambda connection, _: [change(connection)], None)

    def write_last(self, change: Callable[[sa.Connection, Callable[[], bool]], T]) -> T:
        """Make a part of a long change after all waiting changes, and return its result; see `write`.

        Parameters
        ----------
        change : callable
            Its second argument is a function that returns whether other changes are waiting. If so, the
            change should end soon.
        """

        def others_wait() -> bool:
            return bool(self._later) or not self._queue.empty()

        return self._begin(lambda c, _: [change(c, others_wait)], None, 1, is_last=True).result()

    def begin_with_others(
        self, change: _ChangeOfMany[_Item, T], item: _Item, *, most: int = TOGETHER
    ) -> Future[T]:
        """Start one change for the items of many callers, with fewer round trips than `begin`.

        Parameters
        ----------
        change : callable
            Called with the items of all current callers; returns a result for each item. If it fails, it is
            called again for each item separately.
        item : object
        most : int
            Maximum number of items per transaction. Long changes use a small number. They are made in
            transactions of their own, so that answers do not wait for pages of other raters.
        """
        return self._begin(change, item, most, is_last=False)

    def _begin(self, change: _ChangeOfMany[_Item, T], item: _Item, most: int, *, is_last: bool) -> Future[T]:
        if os.getpid() != self._process:
            raise RuntimeError("A database can be used only in the process that opened it.")
        waiting: Future[T] = Future()
        with self._lock:
            self._check_open()
            self._queue.put(_Waiting(change, item, waiting, most, is_last))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="manyhot-writer", daemon=True)
                self._thread.start()
        return waiting

    def close(self) -> None:
        """Make pending changes, wait for running reads, and close all connections."""
        with self._lock:
            self._closed = True
            thread, self._thread = self._thread, None
            self._queue.put(None)
        if thread is not None and self._process == os.getpid():
            thread.join()
        with self._lock:
            # A connection that is in use now would never be closed.
            self._quiet.wait_for(lambda: not self._reading, CLOSING)
        self._reads.dispose()
        self._writes.dispose()

    @contextlib.contextmanager
    def _open(self) -> Iterator[None]:
        """Be one of those who read: `close` waits for them."""
        with self._lock:
            self._check_open()
            self._reading += 1
        try:
            yield
        finally:
            with self._lock:
                self._reading -= 1
                if not self._reading:
                    self._quiet.notify_all()

    def _check_open(self) -> None:
        if self._closed:
            raise OutputError(
                "The database is closed: the app is shutting down.", where=engines.where(self._writes)
            )

    def _run(self) -> None:
        has_ended = False
        while self._later or not has_ended:
            waiting = self._later
            while not has_ended and (not waiting or not self._queue.empty()):
                if (one := self._queue.get()) is None:
                    has_ended = True
                else:
                    waiting.append(one)
            batch, self._later = _next_batch(waiting)
            # Who waits no more, and did not before now, gets nothing; from here on nobody can take it back.
            batch = [one for one in batch if one.future.set_running_or_notify_cancel()]
            for some in _transactions(batch):
                self._settle(some)

    def _settle(self, batch: list[_Waiting]) -> None:
        """Make changes and tell those who wait; whatever happens, nobody waits for ever."""
        try:
            results = self._made(batch)
        except BaseException as error:
            for one in batch:
                if not one.future.done():
                    one.future.set_exception(self._as_raised(error))
            return
        for future, result in results:
            future.set_result(result)

    def _made(self, batch: list[_Waiting]) -> list[tuple[Future[Any], Any]]:
        """Make changes; each behind a savepoint, which is two round trips, only where one of them fails."""
        apart, lost = False, 0
        while True:
            try:
                return self._together(batch, apart)
            except _OneFailedError:
                apart = True
            except _LostError:  # before anything could be kept; most often a server that was started anew
                lost += 1
                if lost > 1:
                    raise

    def _together(self, batch: list[_Waiting], apart: bool) -> list[tuple[Future[Any], Any]]:
        results: list[tuple[Future[Any], Any]] = []
        committing = False
        options = {"begin": "BEGIN IMMEDIATE"}
        try:
            with self._writes.connect().execution_options(**options) as connection, connection.begin():
                engines.lock(connection)
                for group in _groups(batch, apart):
                    try:
                        made = _apart(connection, group) if apart else _make(connection, group)
                    except Exception as error:
                        if len(batch) == 1 or engines.is_lost(error) or not _goes_on(connection):
                            raise
                        if not apart:
                            raise _OneFailedError from error
                        group[0].future.set_exception(self._as_raised(error))  # the asker's own
                    else:
                        results += zip((one.future for one in group), made, strict=True)
                committing = True
        except sa.exc.DBAPIError as error:
            if engines.is_lost(error) and not committing:
                raise _LostError from error
            raise
        return results

    def _as_raised(self, error: BaseException) -> BaseException:
        """Return the error that callers get."""
        cause = error.__cause__ if isinstance(error, _LostError) and error.__cause__ else error
        told = engines.trouble(self._writes, cause)
        if told is not None:
            told.__cause__ = cause
        return told or cause


class _LostError(Exception):
    """The connection was lost before the transaction was to be kept."""


class _OneFailedError(Exception):
    """One of several changes failed, and nothing was kept."""


def _next_batch(waiting: list[_Waiting]) -> tuple[list[_Waiting], list[_Waiting]]:
    """Return the changes to make now, and those that wait for a later transaction."""
    batch: list[_Waiting] = []
    later: list[_Waiting] = []
    taken = Counter[object]()
    for one in waiting:
        fits = len(batch) < TOGETHER and taken[one.change] < one.most
        (batch if fits else later).append(one)
        taken[one.change] += fits
    return batch, later


def _transactions(batch: list[_Waiting]) -> Iterator[list[_Waiting]]:
    """Yield the changes of each transaction: short ones do not wait for long ones."""
    for is_long in (False, True):
        if some := [one for one in batch if not one.is_last and (one.most < TOGETHER) == is_long]:
            yield some
    yield from ([one] for one in batch if one.is_last)


def _groups(batch: list[_Waiting], apart: bool) -> list[list[_Waiting]]:
    """Return those of one change together, or each apart; nobody has been answered, so the order is ours."""
    groups: dict[object, list[_Waiting]] = {}
    for one in batch:
        if not one.future.done():  # refused before the connection was lost
            groups.setdefault(one if apart else one.change, []).append(one)
    return list(groups.values())


def _make(connection: sa.Connection, group: list[_Waiting]) -> list[Any]:
    return group[0].change(connection, [one.item for one in group])


def _apart(connection: sa.Connection, group: list[_Waiting]) -> list[Any]:
    """Make a change that stands or falls alone."""
    connection.exec_driver_sql("SAVEPOINT change")
    try:
        made = _make(connection, group)
    except Exception:
        if _goes_on(connection):
            connection.exec_driver_sql("ROLLBACK TO SAVEPOINT change")
        raise
    connection.exec_driver_sql("RELEASE SAVEPOINT change")
    return made


def _goes_on(connection: sa.Connection) -> bool:
    """Whether the transaction is still there: SQLite drops it where a disk is full."""
    if connection.invalidated:
        return False
    driver: Any = connection.connection.driver_connection
    return connection.dialect.name != "sqlite" or bool(driver.in_transaction)


SECOND = 1_000_000
MINUTE = 60 * SECOND
DAY = 24 * 60 * MINUTE


def now() -> int:
    """Return the microseconds since 1970."""
    return time.time_ns() // 1000


_ROWS = 10_000


def dump(connection: sa.Connection, folder: Path) -> dict[str, int]:
    """Write each table to a file in a folder; return the number of rows per table.

    Parameters
    ----------
    connection : sqlalchemy.Connection
        With a transaction that sees a consistent snapshot.
    folder : Path
    """
    counts = {}
    for table in schema.metadata.sorted_tables:
        counts[table.name] = 0
        with pq.ParquetWriter(folder / f"{table.name}.parquet", _arrow(table), compression="zstd") as writer:
            for rows in _parts(connection, table):
                counts[table.name] += len(rows)
                writer.write_table(pa.Table.from_pylist(rows, schema=_arrow(table)))
    return counts


def restore_database(
    url: str, folder: Path, revision: str, counts: Mapping[str, int], before_commit: Callable[[], None]
) -> None:
    """Create the tables of a new database from files written by `dump`, completely or not at all.

    Parameters
    ----------
    url : str
        Address of an empty database.
    folder : Path
    revision : str
        Revision of the tables in the files. The tables are upgraded to the current revision.
    counts : Mapping of str to int
        Number of rows per table.
    before_commit : callable
        Called last, before the commit. If it raises an error, everything is undone.

    Raises
    ------
    InputError
        If the database is not empty, or a file is broken.
    OutputError
        If the database cannot be used.
    """

    def fill(connection: sa.Connection) -> None:
        known = sa.MetaData()
        known.reflect(connection)
        tables = [t for t in known.sorted_tables if t.name in schema.metadata.tables]
        if {t.name for t in tables} != set(counts):
            raise InputError(
                "The backup contains unexpected tables.",
                got=", ".join(sorted(counts)),
                allowed=", ".join(sorted(t.name for t in tables)),
            )
        for table in tables:
            _load(connection, table, folder / f"{table.name}.parquet", counts[table.name])
        engines.take_stock(connection)

    engine = engines.writer(url)
    try:
        schema.create_tables(engine, revision, fill, before_commit)
    except sa.exc.SQLAlchemyError as error:
        raise engines.trouble(engine, error) or error from error
    finally:
        engine.dispose()


def _arrow(table: sa.Table) -> pa.Schema:
    return pa.schema([pa.field(c.name, _kind(c.type), bool(c.nullable)) for c in table.columns])


def _kind(kind: sa.types.TypeEngine[object]) -> pa.DataType:
    for known, arrow in (
        (sa.Boolean, pa.bool_()),
        (sa.BigInteger, pa.int64()),
        (sa.SmallInteger, pa.int16()),
        (sa.Integer, pa.int32()),
        (sa.Text, pa.string()),
    ):
        if isinstance(kind, known):
            return arrow
    raise TypeError(f"no Arrow type for {kind!r}")


def _parts(connection: sa.Connection, table: sa.Table) -> Iterator[list[dict[str, object]]]:
    query = sa.select(table).order_by(*table.primary_key.columns)
    for part in connection.execution_options(yield_per=_ROWS).execute(query).mappings().partitions():
        yield [dict(row) for row in part]


def _load(connection: sa.Connection, table: sa.Table, path: Path, count: int) -> None:
    wanted = {column.name for column in table.columns}
    came = 0
    try:
        with pq.ParquetFile(path) as file:
            if set(file.schema_arrow.names) != wanted:
                raise InputError(
                    f"The table {table.name!r} of the backup has unexpected columns.",
                    got=", ".join(file.schema_arrow.names),
                    allowed=", ".join(sorted(wanted)),
                )
            for part in file.iter_batches(_ROWS):
                came += len(part)
                if came > count:
                    break
                connection.execute(table.insert(), part.to_pylist())
    except (
        pa.ArrowException,
        OSError,
        sa.exc.DataError,
        sa.exc.IntegrityError,
        sa.exc.StatementError,
    ) as error:
        if isinstance(error, sa.exc.DBAPIError) and engines.trouble(connection.engine, error):
            raise
        raise InputError(
            f"The table {table.name!r} of the backup is broken.", got=str(error).partition("\n")[0]
        ) from error
    if came != count:
        raise InputError(
            f"The table {table.name!r} of the backup is broken.",
            got=f"{came:,} rows or more" if came > count else f"{came:,} rows",
            allowed=f"{count:,}",
        )
    if connection.dialect.name == "postgresql" and "id" in wanted:
        engines.continue_numbers(connection, table)
