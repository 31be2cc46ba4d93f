"""Images → predictions and embeddings: a source lists images, a network scores them, parts become tables.

An image passes through: `sources` (bytes) → `decode` (pixels, optionally `sources.altered`) → `network`
(preprocessing) → `engines` (logits) → `scoring` (top classes) → `parts` (files, resumed; then tables).
`adapters` build networks by name.

Importing this package imports neither torch nor Pillow; building a model does.
"""

from __future__ import annotations
