"""The annotation app: people answer the questions of a campaign, and their votes come out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from manyhot.lazy import lazily

if TYPE_CHECKING:
    from manyhot.web.app import create_app
    from manyhot.web.numbers import Outside
    from manyhot.web.reach import Reach
    from manyhot.web.store import Asked, Example, Settings, Store

_HOME = {
    "Asked": "manyhot.web.store",
    "Example": "manyhot.web.store",
    "Outside": "manyhot.web.numbers",
    "Reach": "manyhot.web.reach",
    "Settings": "manyhot.web.store",
    "Store": "manyhot.web.store",
    "create_app": "manyhot.web.app",
}

__all__ = ["Asked", "Example", "Outside", "Reach", "Settings", "Store", "create_app"]

__getattr__, __dir__ = lazily(__name__, _HOME)
