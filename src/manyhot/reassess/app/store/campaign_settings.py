"""Settings of a campaign, as chosen by its owner."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from functools import lru_cache
from typing import Any

import sqlalchemy as sa

from manyhot.errors import InputError
from manyhot.reassess.app.store import schema
from manyhot.reassess.app.store.accounts import RATER_COLUMNS, Rater
from manyhot.reassess.app.store.engines import padded

CAMPAIGN_STATES = ("running", "paused", "closed")


@dataclass(frozen=True)
class OwnerSetting:
    """The name, the explanation and the range of a setting on the owner's page.

    Attributes
    ----------
    text, hint : str
    least, most : float
        The range of a number, or of the number of characters of a text.
    """

    text: str
    hint: str
    least: float = 0
    most: float = 1


def _asks(default: Any, text: str, hint: str, least: float = 0, most: float = 1) -> Any:
    """Declare a setting that the owner can change."""
    return field(default=default, metadata={"owner": OwnerSetting(text, hint, least, most)})


@dataclass(frozen=True)
class CampaignSettings:
    """Settings for how a campaign asks its questions, and texts for its raters.

    Attributes
    ----------
    raters : int
        Number of raters per question.
    per_page : int
        Maximum number of classes per page.
    max_pages : int
        Maximum number of pages per rater; 0 for no limit.
    lease_minutes : float
        Minutes without answers after which an open page goes to another rater.
    qualify : int
        Number of golden pages that each rater answers first.
    least_informedness : float
        Minimum informedness on golden questions after the first golden pages, and on the latest
        `golden_latest` golden pages. Raters below this minimum are stopped.
    golden_every : int
        After the first golden pages, a page is golden with a probability of 1 / `golden_every`. With 0, there
        are no further golden pages.
    golden_latest : int
        Number of latest golden pages on which informedness is checked again; 0 for no such check.
    least_seconds : float
        Minimum time per page, in seconds. Raters whose mean time over their last 20 pages is shorter are
        stopped; 0 for no such check.
    refine_from : int
        Number of answers that a question needs before it can be decided; 0 means `raters`.
    show_label : bool
        Whether raters see the original label.
    title, instructions, consent, contact : str
        Texts for raters: the name of the campaign, if it differs from that of its folder, how to answer, what
        they agree to before they begin, and whom they can ask.
    places : int
        Maximum number of raters who join through the link for a crowd; 0 for no limit.
    completion_code, completion_address : str
        A code, and an address to return to. Raters who joined through the link for a crowd get both at the
        end.
    state : str
        One of `CAMPAIGN_STATES`.
    """

    raters: int = _asks(5, "Raters per question", "changes take effect within seconds", 1, 1000)
    per_page: int = 8
    max_pages: int = _asks(0, "Maximum pages per rater", "0: no limit", 0, 10_000_000)
    lease_minutes: float = _asks(
        60.0,
        "Minutes until a page is released",
        "an open page goes to another rater if no answers arrive",
        0.01,
        100_000,
    )
    qualify: int = _asks(0, "Golden pages to qualify", "shown first; 0: no qualification", 0, 10_000)
    least_informedness: float = _asks(
        0.2, "Minimum informedness to qualify", "raters below it are stopped; −1 to 1", -1, 1
    )
    golden_every: int = _asks(20, "Then one golden page in every", "pages, at random; 0: none", 0, 10_000)
    golden_latest: int = _asks(
        10, "Golden pages that are checked again", "the latest ones of each rater; 0: none", 0, 10_000
    )
    least_seconds: float = _asks(
        0.5,
        "Minimum seconds per page",
        "raters with a lower mean over their last 20 pages are stopped; 0: no check",
        0,
        600,
    )
    refine_from: int = _asks(0, "Answers before a decision", "0: the number of raters per question", 0, 1000)
    show_label: bool = _asks(False, "Show raters the original label", "this biases their answers")
    title: str = _asks("", "Title", "shown on all pages; if empty, the name of the folder", 0, 100)
    instructions: str = _asks("", "Instructions", "shown on the first page and in the help (?)", 0, 20_000)
    consent: str = _asks("", "Consent", "raters agree to this text before they begin", 0, 10_000)
    contact: str = _asks("", "Contact", "how raters can reach you, such as a name and an address", 0, 500)
    places: int = _asks(
        100,
        "Places for the crowd",
        "for raters who join through the link for a crowd; 0: no limit",
        0,
        1_000_000,
    )
    completion_code: str = _asks("", "Completion code", "shown at the end to raters of the crowd", 0, 200)
    completion_address: str = _asks(
        "",
        "Address to return to",
        "such as https://…; for raters who joined through the link for a crowd",
        0,
        1000,
    )
    state: str = "running"

    def __post_init__(self) -> None:
        _check_range("per_page", self.per_page, 1, 8)
        for name, asked in OWNER_SETTINGS.items():
            value = getattr(self, name)
            _check_range(name, len(value) if isinstance(value, str) else value, asked.least, asked.most)
        if self.completion_address and not self.completion_address.startswith(("https://", "http://")):
            raise InputError(
                "Raters cannot be sent to this address.",
                got=self.completion_address[:100],
                allowed="https://… or http://…",
            )
        if self.state not in CAMPAIGN_STATES:
            raise InputError(
                "This is not a state of a campaign.", got=repr(self.state), allowed=", ".join(CAMPAIGN_STATES)
            )


def _check_range(name: str, value: float, least: float, most: float) -> None:
    if not least <= value <= most:
        raise InputError(
            f"The setting {name!r} of a campaign is out of range.",
            got=f"{value:g}" if abs(value) < 1e15 else "a far larger number",
            allowed=f"{least:g} to {most:g}",
        )


OWNER_SETTINGS: Mapping[str, OwnerSetting] = {
    one.name: one.metadata["owner"] for one in fields(CampaignSettings) if one.metadata
}
"""What the owner can change at any time."""

_PROTOCOL = (
    "qualify",
    "least_informedness",
    "golden_every",
    "golden_latest",
    "least_seconds",
    "show_label",
    "instructions",
    "consent",
)
"""The settings that say how the answers came about."""


def protocol_of(settings: CampaignSettings) -> dict[str, str]:
    """Return how the answers of a campaign were collected, for its data card, as settings by name."""
    shown = {OWNER_SETTINGS[name].text: getattr(settings, name) for name in _PROTOCOL}
    return {
        text: {True: "yes", False: "no"}[value] if isinstance(value, bool) else f"{value}" or "none"
        for text, value in shown.items()
    }


_KEY = "settings"
_FIELDS = {one.name for one in fields(CampaignSettings)}
_VALUE = sa.select(schema.settings.c.value).where(schema.settings.c.key == _KEY)

_BOTH = sa.select(*RATER_COLUMNS, _VALUE.scalar_subquery()).where(
    schema.raters.c.id.in_(sa.bindparam("ids", expanding=True))
)


def read_settings(connection: sa.Connection) -> CampaignSettings:
    """Return the current settings."""
    return _settings(connection.scalar(_VALUE))


def read_with(connection: sa.Connection, rater: Rater) -> tuple[Rater, CampaignSettings]:
    """Return the current state of a rater, and the current settings."""
    raters, settings = read_with_all(connection, [rater])
    return raters[rater.id], settings


def read_with_all(
    connection: sa.Connection, raters: Iterable[Rater]
) -> tuple[dict[int, Rater], CampaignSettings]:
    """Return the current state of these raters, by number, and the current settings."""
    rows = connection.execute(_BOTH, {"ids": padded(sorted({rater.id for rater in raters}))}).all()
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
