"""How many votes a database of the app holds, without what the app needs and without changing it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

_COUNT = """
SELECT raters.name, COUNT(*) FROM votes JOIN raters ON raters.id = votes.rater_id
WHERE raters.state <> 'left out' GROUP BY raters.name
UNION ALL
SELECT raters.name, COUNT(*) FROM raters JOIN votes ON raters.id = votes.rater_id
JOIN visits ON visits.id = votes.visit_id
WHERE raters.state = 'left out' AND visits.round > 0 GROUP BY raters.name
"""
"""The votes that `manyhot export` writes: of raters whose answers are left out, only their decisions."""


def count_votes(path: Path) -> dict[str, int]:
    """Return the number of votes of each rater in a SQLite file; empty if it is not of the app."""
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as connection:
            return dict(connection.execute(_COUNT).fetchall())
    except sqlite3.Error:
        return {}


def count_votes_at(address: str) -> dict[str, int]:
    """Return the number of votes of each rater in the database of the app at an address.

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
                return {}
            return {row[0]: row[1] for row in connection.execute(sa.text(_COUNT))}
    except sa.exc.SQLAlchemyError as error:
        raise engines.trouble(engine, error) or error from error
    finally:
        engine.dispose()
