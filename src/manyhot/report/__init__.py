"""Drawing: pages, chapters, figures, SVG, text and pictures. This room knows no feature."""

from __future__ import annotations
