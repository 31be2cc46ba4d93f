"""How to draw: pages, chapters, figures, SVG, text and pictures. Knows no feature."""

from __future__ import annotations
