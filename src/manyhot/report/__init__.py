"""Drawing: pages, chapters, figures, SVG, text and pictures. No feature is known here."""

from __future__ import annotations
