"""One file per kind of page."""

from __future__ import annotations
