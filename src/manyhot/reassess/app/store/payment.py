"""What each rater has done, for payment."""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import astuple, dataclass, fields

import sqlalchemy as sa

from manyhot.reassess.app.store import schema
from manyhot.reassess.app.store.accounts import ANSWERS_LEFT_OUT, all_raters
from manyhot.reassess.app.store.database import SECOND
from manyhot.reassess.app.store.golden import count_golden

MOST_SECONDS = 300
"""Seconds of a page that count as work: who takes longer had a break."""


@dataclass(frozen=True)
class RaterWork:
    """The work of a rater.

    Attributes
    ----------
    rater, state : str
    pages : int
        Number of finished pages, including golden pages, without decisions on disagreements.
    accepted : int
        The same number as `pages`, or 0 if the rater's answers are left out or the rater did not qualify.
    seconds : float
        Time from the opening of a page to its last answer, at most `MOST_SECONDS`, summed over pages.
    golden : int
        Number of answered golden questions.
    informedness : float, optional
        Informedness on golden questions.
    """

    rater: str
    state: str
    pages: int
    accepted: int
    seconds: float
    golden: int
    informedness: float | None


def rater_work(connection: sa.Connection) -> list[RaterWork]:
    """Return the work of each rater who has finished a page, sorted by name."""
    visits, votes = schema.visits, schema.votes
    query = (
        sa.select(visits.c.rater_id, visits.c.shown_at, sa.func.max(votes.c.answered_at))
        .outerjoin(votes, votes.c.visit_id == visits.c.id)
        .where(visits.c.round == 0, visits.c.state == "done")
        .group_by(visits.c.id, visits.c.rater_id, visits.c.shown_at)
    )
    seconds = defaultdict[int, list[float]](list)
    for rater_id, shown_at, last in connection.execute(query):
        seconds[rater_id].append(min(max(((last or shown_at) - shown_at) / SECOND, 0.0), MOST_SECONDS))
    found = []
    for rater in all_raters(connection):
        if spent := seconds.get(rater.id):
            golden = count_golden(connection, rater.id)
            refused = rater.state == ANSWERS_LEFT_OUT or rater.qualified is False
            found.append(
                RaterWork(
                    rater.name,
                    rater.state,
                    len(spent),
                    0 if refused else len(spent),
                    round(sum(spent), 1),
                    sum(golden.under_no) + sum(golden.under_yes),
                    golden.informedness,
                )
            )
    return found


def payment_csv(work: Iterable[RaterWork]) -> str:
    """Return the work of raters as a CSV file, with a header."""
    text = io.StringIO()
    csv.writer(text).writerows([[field.name for field in fields(RaterWork)], *map(astuple, work)])
    return text.getvalue()
