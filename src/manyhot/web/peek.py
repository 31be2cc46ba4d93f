"""A look at the app's file from outside, without what the app needs: `manyhot status` is quick."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path


def count_votes(path: Path) -> int | None:
    """Return how many votes a SQLite file of the app holds; None where it is none."""
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as connection:
            return int(connection.execute("SELECT COUNT(*) FROM votes").fetchone()[0])
    except sqlite3.Error:
        return None
