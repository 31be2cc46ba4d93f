"""Predict images: a source lists them, a network scores them, and parts are merged into tables.

An image passes through: `sources` (bytes) → `decode` (pixels, optionally `sources.altered`) → `network`
(preprocessing) → `engines` (logits) → `scoring` (top classes) → `parts` (files, resumed; then tables).
`adapters` build networks by name.

Importing this package imports neither torch nor Pillow; building a model does.
"""

from __future__ import annotations
