"""One file a kind of page."""

from __future__ import annotations
