"""Dump a database to Parquet files and restore it, between SQLite and PostgreSQL in either direction."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pyarrow as pa
import sqlalchemy as sa
from pyarrow import parquet as pq

from manyhot.errors import InputError
from manyhot.reassess.app.store import engines, schema

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
    """Make the tables of a new database from files of `dump`, all or nothing.

    Parameters
    ----------
    url : str
        Address of an empty database.
    folder : Path
    revision : str
        Revision of the tables in the files; they are upgraded.
    counts : Mapping of str to int
        Number of rows per table.
    before_commit : callable
        Called last, before the commit; an error undoes everything.

    Raises
    ------
    InputError
        The database is not empty, or a file is broken.
    OutputError
        The database cannot be used.
    """

    def fill(connection: sa.Connection) -> None:
        known = sa.MetaData()
        known.reflect(connection)
        tables = [t for t in known.sorted_tables if t.name in schema.metadata.tables]
        if {t.name for t in tables} != set(counts):
            raise InputError(
                "The backup holds unexpected tables.",
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
            got=f"{came:,} rows or more",
            allowed=f"{count:,}",
        )
    if connection.dialect.name == "postgresql" and "id" in wanted:
        numbers = f"pg_get_serial_sequence('{table.name}', 'id')"
        connection.exec_driver_sql(
            f"SELECT setval({numbers}, coalesce(max(id), 1), max(id) IS NOT NULL) FROM {table.name}"  # noqa: S608
        )
