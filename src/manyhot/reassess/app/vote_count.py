"""How many votes a database of the app holds, without what the app needs and without changing it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path


def count_votes(path: Path) -> int | None:
    """Return the number of votes in a SQLite file of the app; None if the file is not of this kind."""
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as connection:
            return int(connection.execute("SELECT COUNT(*) FROM votes").fetchone()[0])
    except sqlite3.Error:
        return None


def count_votes_at(address: str) -> int | None:
    """Return the number of votes in the database of the app at an address; None if the database is empty.

    Raises
    ------
    InputError
        If the address is invalid, or of an unsupported kind of database.
    OutputError
        If the database cannot be used.
    """
    import sqlalchemy as sa

    from manyhot.reassess.app.store import engines, schema

    engine = engines.reader(address)
    if engine.dialect.name == "sqlite":  # to connect would make the file
        return count_votes(Path(str(engine.url.database)))
    try:
        with engine.connect() as connection:
            if not sa.inspect(connection).has_table(schema.votes.name):
                return None
            count = sa.select(sa.func.count()).select_from(schema.votes)
            return int(connection.execute(count).scalar_one())
    except sa.exc.SQLAlchemyError as error:
        raise engines.trouble(engine, error) or error from error
    finally:
        engine.dispose()
