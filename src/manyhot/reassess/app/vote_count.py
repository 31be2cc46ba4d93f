"""How many votes a database of the app holds, without what the app needs and without changing it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path


def count_votes(path: Path) -> int | None:
    """Return how many votes a SQLite file of the app holds; None where it is no such file."""
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as connection:
            return int(connection.execute("SELECT COUNT(*) FROM votes").fetchone()[0])
    except sqlite3.Error:
        return None


def count_votes_at(address: str) -> int | None:
    """Return how many votes a database of the app holds, by its address; None where it is empty.

    Raises
    ------
    InputError
        The address is none, or of another kind of database.
    OutputError
        The database cannot be used.
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
