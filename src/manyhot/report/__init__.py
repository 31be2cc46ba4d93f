"""Drawing: pages, chapters, figures, SVG, text and pictures. Nothing here depends on a particular feature."""

from __future__ import annotations
