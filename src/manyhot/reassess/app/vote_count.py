"""What a database of the app holds, without what the app needs and without changing it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

_COUNT = """
SELECT visits.key, COUNT(*) FROM votes JOIN raters ON raters.id = votes.rater_id
JOIN visits ON visits.id = votes.visit_id
WHERE raters.state <> 'left out' OR visits.round > 0 GROUP BY visits.key
"""
"""The votes that `manyhot export` writes: of raters whose answers are left out, only their decisions."""


FURTHER = """
WITH unfinished AS (
  SELECT id, page_id, classes FROM slots WHERE visit_id IS NULL AND classes IS NOT NULL
  UNION ALL
  SELECT slots.id, slots.page_id, slots.classes FROM visits
  JOIN slots ON slots.id = visits.slot_id AND slots.visit_id = visits.id
  WHERE visits.state = 'open' AND slots.classes IS NOT NULL
)
SELECT unfinished.classes, COUNT(DISTINCT votes.question_id) FROM unfinished
LEFT JOIN visits ON visits.page_id = unfinished.page_id AND visits.slot_id = unfinished.id
AND visits.rater_id NOT IN (SELECT id FROM raters WHERE state = 'left out')
LEFT JOIN votes ON votes.visit_id = visits.id
GROUP BY unfinished.id, unfinished.classes
"""
"""The classes of each slot of further answers that is not finished, and how many of them were answered."""


def still_to_come(slots: Iterable[Any]) -> int:
    """Return the number of further answers that are still to come, from the rows of `FURTHER`."""
    return sum(len(json.loads(classes)) - answered for classes, answered in slots)


def count_votes(path: Path) -> dict[str, int]:
    """Return the number of votes on each page in a SQLite file; empty if the app did not create the file.

    Pages are identified by the page_id of their votes.
    """
    return dict(_rows(path, _COUNT))


_BY_CLASS = """
SELECT questions.class_id, COUNT(*) FROM votes JOIN questions ON questions.id = votes.question_id
GROUP BY questions.class_id
"""


def count_by_class(path: Path) -> dict[int, int]:
    """Return the number of answers about each class in a SQLite file; empty if the app did not create it."""
    return dict(_rows(path, _BY_CLASS))


def count_further(path: Path) -> int:
    """Return the number of further answers still to come in a SQLite file; 0 if the app did not create it."""
    return still_to_come(_rows(path, FURTHER))


def _rows(path: Path, query: str) -> list[Any]:
    """Return the rows of a query; none if the file lacks the tables."""
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as connection:
            return connection.execute(query).fetchall()
    except sqlite3.Error:
        return []


def count_at(address: str) -> tuple[dict[str, int], int]:
    """Return the results of `count_votes` and `count_further` for the app's database at an address.

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
        path = Path(str(engine.url.database))
        return count_votes(path), count_further(path)
    try:
        with engine.connect() as connection:
            there = sa.inspect(connection)
            if not there.has_table(schema.votes.name):
                return {}, 0
            votes = {row[0]: row[1] for row in connection.execute(sa.text(_COUNT))}
            if "classes" not in {column["name"] for column in there.get_columns(schema.slots.name)}:
                return votes, 0  # of an earlier version
            return votes, still_to_come(connection.execute(sa.text(FURTHER)).all())
    except sa.exc.SQLAlchemyError as error:
        raise engines.trouble(engine, error) or error from error
    finally:
        engine.dispose()
