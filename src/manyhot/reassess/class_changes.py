"""Changed names and definitions of the classes of a campaign, with the answers given before."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import compute as pc

from manyhot import tables
from manyhot.classes import ClassList
from manyhot.errors import MatchError
from manyhot.reassess.app.server import DATABASE
from manyhot.reassess.app.vote_count import count_by_class, count_votes
from manyhot.tables import Campaign

_LISTED = 5
"""Changes that a note lists."""

Change = Mapping[str, Any]
"""A row of the table ``class_changes``."""


def changes_of_classes(campaign: Campaign, before: ClassList, after: ClassList) -> list[Change]:
    """Return changes of class names and definitions, each with the number of answers given before.

    Raises
    ------
    MatchError
        If a class gets the name of another class, since answers about one would become answers about the
        other.
    """
    _check_exchanged(campaign, before, after)
    changed = [
        (class_id, column, old, new)
        for column in ("name", "definition")
        for class_id, (old, new) in enumerate(
            zip(getattr(before, f"{column}s"), getattr(after, f"{column}s"), strict=False)
        )
        if (old or "") != (new or "")
    ]
    answers = _answers_by_class(campaign) if changed else {}
    now = time.time_ns() // 1000
    return [
        {
            "class_id": class_id,
            "key": before.keys[class_id],
            "column": column,
            "before": old or "",
            "after": new or "",
            "n_answers": answers.get(class_id, 0),
            "at": now,
        }
        for class_id, column, old, new in changed
    ]


def _check_exchanged(campaign: Campaign, before: ClassList, after: ClassList) -> None:
    owner = {name.casefold(): place for place, name in enumerate(before.names)}
    for place, (old, new) in enumerate(zip(before.names, after.names, strict=False)):
        other = owner.get(new.casefold(), place)
        if old != new and other != place:
            raise MatchError(
                "A class of the campaign gets the name of another, so the meaning of answers would change.",
                where=campaign.path("classes"),
                got=f"{new} as the name of class {place} ({before.keys[place]}), which is the name of class "
                f"{other} ({before.keys[other]})",
                allowed="the names of the campaign, or names that no other class of the campaign has",
                do="keep the names of the campaign, and put new classes at the end of the list",
            )


def _answers_by_class(campaign: Campaign) -> Mapping[int, int]:
    """Return the number of answers about each class in the app, and in the votes table from elsewhere."""
    database, path = campaign.folder / DATABASE, campaign.path("votes")
    counts = Counter(count_by_class(database) if database.is_file() else {})
    if path.is_file():
        votes = tables.read(path, "votes")
        if "page_id" in votes.column_names and database.is_file():
            pages = pa.array(count_votes(database), pa.string())
            votes = votes.filter(pc.invert(pc.is_in(votes["page_id"], pages)))
        counts.update(votes["class_id"].to_pylist())
    return counts


def record_changes(campaign: Campaign, changes: Sequence[Change], call: str) -> None:
    """Add changes to the table of the campaign, unless an interrupted call has already added them."""
    path = campaign.path("class_changes")
    rows: list[Change] = tables.read(path, "class_changes").to_pylist() if path.is_file() else []
    names = ("class_id", "column", "before", "after")
    last = {(row["class_id"], row["column"]): [row[name] for name in names] for row in rows}
    new = [c for c in changes if last.get((c["class_id"], c["column"])) != [c[name] for name in names]]
    if new:
        table = pa.Table.from_pylist([*rows, *new], schema=tables.schema("class_changes"))
        tables.write(table, path, "class_changes", call=call)


def change_notes(changes: Sequence[Change]) -> Iterator[str]:
    """Yield a note that lists changes."""
    if changes:
        what = "; ".join(map(change_text, changes[:_LISTED]))
        more = f"; and {len(changes) - _LISTED:,} more" if len(changes) > _LISTED else ""
        yield f"the wording of classes has changed: {what}{more}"


def change_text(change: Change) -> str:
    """Return a change as text, with the number of answers given under the old wording."""
    old, new = (change[end] or "none" for end in ("before", "after"))
    answers = f"{change['n_answers']:,} answers under the old wording"
    return f"{change['column']} of {change['key']}: {old} -> {new} ({answers})"


def recorded_changes(folder: Path) -> str:
    """Return the recorded changes of a campaign as text; empty if there are none."""
    path = folder / "class_changes.parquet"
    rows = pq.read_table(path).to_pylist() if path.is_file() else []
    return "; ".join(map(change_text, rows))
