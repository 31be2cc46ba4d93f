"""The web app in which raters answer questions and owners manage a campaign."""

from __future__ import annotations

from typing import TYPE_CHECKING

from manyhot.extras import lazily

if TYPE_CHECKING:
    from manyhot.reassess.app.access import Reach
    from manyhot.reassess.app.app import create_app
    from manyhot.reassess.app.progress import AppCallbacks
    from manyhot.reassess.app.store import CampaignSettings, Example, ImageQuestions, Store

_HOME = {
    "ImageQuestions": "manyhot.reassess.app.store",
    "Example": "manyhot.reassess.app.store",
    "AppCallbacks": "manyhot.reassess.app.progress",
    "Reach": "manyhot.reassess.app.access",
    "CampaignSettings": "manyhot.reassess.app.store",
    "Store": "manyhot.reassess.app.store",
    "create_app": "manyhot.reassess.app.app",
}

__all__ = ["AppCallbacks", "CampaignSettings", "Example", "ImageQuestions", "Reach", "Store", "create_app"]
__getattr__, __dir__ = lazily(__name__, _HOME)
