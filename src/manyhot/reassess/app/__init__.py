"""The web app in which raters answer and owners look after a campaign."""

from __future__ import annotations

from typing import TYPE_CHECKING

from manyhot.extras import lazily

if TYPE_CHECKING:
    from manyhot.reassess.app.app import create_app
    from manyhot.reassess.app.network import Reach
    from manyhot.reassess.app.progress import Outside
    from manyhot.reassess.app.store import Asked, Example, Settings, Store

_HOME = {
    "Asked": "manyhot.reassess.app.store",
    "Example": "manyhot.reassess.app.store",
    "Outside": "manyhot.reassess.app.progress",
    "Reach": "manyhot.reassess.app.network",
    "Settings": "manyhot.reassess.app.store",
    "Store": "manyhot.reassess.app.store",
    "create_app": "manyhot.reassess.app.app",
}


__all__ = ["Asked", "Example", "Outside", "Reach", "Settings", "Store", "create_app"]


__getattr__, __dir__ = lazily(__name__, _HOME)
