"""Settings of a campaign, as chosen by its owner."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields, replace
from functools import lru_cache
from typing import Any

import sqlalchemy as sa

from manyhot.errors import InputError
from manyhot.reassess.app.store import schema
from manyhot.reassess.app.store.accounts import RATER_COLUMNS, Rater

CAMPAIGN_STATES = ("running", "paused", "closed")


@dataclass(frozen=True)
class CampaignSettings:
    """How a campaign asks its questions.

    Attributes
    ----------
    raters : int
        Number of raters per question.
    per_page : int
        Maximum number of classes per page.
    show_label : bool
        Whether raters see the original label.
    qualify : int
        Number of golden pages that each rater answers first.
    golden_every : int
        After the first golden pages, a page is golden with a probability of 1 / `golden_every`. With 0, there
        are no further golden pages.
    least_informedness : float
        Minimum informedness on golden questions after the first golden pages. Raters below it are stopped.
    lease_minutes : float
        Minutes after which an open page goes to another rater.
    max_pages : int
        Maximum number of pages per rater; 0 for no limit.
    refine_from : int
        Number of answers that a question needs before it can be decided; 0 means `raters`.
    state : str
        One of `CAMPAIGN_STATES`.
    """

    raters: int = 5
    per_page: int = 8
    show_label: bool = False
    qualify: int = 0
    golden_every: int = 20
    least_informedness: float = 0.2
    lease_minutes: float = 60.0
    max_pages: int = 0
    refine_from: int = 0
    state: str = "running"

    def __post_init__(self) -> None:
        for name, least, most in _RANGES:
            value = getattr(self, name)
            if not least <= value <= most:
                raise InputError(
                    f"The setting {name!r} of a campaign is out of range.",
                    got=f"{value:g}" if abs(value) < 1e15 else "a far larger number",
                    allowed=f"{least:g} to {most:g}",
                )
        if self.state not in CAMPAIGN_STATES:
            raise InputError(
                "This is not a state of a campaign.", got=repr(self.state), allowed=", ".join(CAMPAIGN_STATES)
            )


_RANGES = (
    ("raters", 1, 1000),
    ("per_page", 1, 8),
    ("qualify", 0, 10_000),
    ("golden_every", 0, 10_000),
    ("least_informedness", -1, 1),
    ("lease_minutes", 0.01, 100_000),
    ("max_pages", 0, 10_000_000),
    ("refine_from", 0, 1000),
)

_KEY = "settings"
_FIELDS = {field.name for field in fields(CampaignSettings)}
_VALUE = sa.select(schema.settings.c.value).where(schema.settings.c.key == _KEY)

_BOTH = sa.select(*RATER_COLUMNS, _VALUE.scalar_subquery()).where(
    schema.raters.c.id.in_(sa.bindparam("ids", expanding=True))
)


def read_settings(connection: sa.Connection) -> CampaignSettings:
    """Return the current settings."""
    return _settings(connection.scalar(_VALUE))


def read_with(connection: sa.Connection, rater: Rater) -> tuple[Rater, CampaignSettings]:
    """Return a rater and the current settings, after pending changes."""
    raters, settings = read_with_all(connection, [rater])
    return raters[rater.id], settings


def read_with_all(
    connection: sa.Connection, raters: Iterable[Rater]
) -> tuple[dict[int, Rater], CampaignSettings]:
    """Return all raters by number, and the current settings."""
    rows = connection.execute(_BOTH, {"ids": sorted({rater.id for rater in raters})}).all()
    return {row[0]: Rater(*row[:-1]) for row in rows}, _settings(rows[0][-1])


def change_settings(connection: sa.Connection, **changes: Any) -> CampaignSettings:
    """Change some settings and return all."""
    changed = replace(read_settings(connection), **changes)
    put_value(connection, _KEY, asdict(changed))
    return changed


@lru_cache(8)
def _settings(text: str | None) -> CampaignSettings:
    return CampaignSettings(
        **{key: value for key, value in json.loads(text or "{}").items() if key in _FIELDS}
    )


def put_value(connection: sa.Connection, key: str, value: Any) -> None:
    """Store a value under a key, replacing the old one."""
    text = json.dumps(value)
    done = connection.execute(schema.settings.update().where(schema.settings.c.key == key).values(value=text))
    if not done.rowcount:
        connection.execute(schema.settings.insert().values(key=key, value=text))


def drop_value(connection: sa.Connection, key: str) -> None:
    """Remove a key and its value."""
    connection.execute(schema.settings.delete().where(schema.settings.c.key == key))


def get_value(connection: sa.Connection, key: str) -> Any:
    """Return the value stored under a key; None if there is none."""
    text = connection.scalar(sa.select(schema.settings.c.value).where(schema.settings.c.key == key))
    return None if text is None else json.loads(text)
