"""Images → predictions and embeddings: a source lists images, a network scores them, parts become tables.

The way of an image: `sources` (bytes) → `decode` (pixels, perhaps `sources.altered`) → `network`
(preprocessing) → `engines` (logits) → `scoring` (best classes) → `parts` (files, resumed; then tables).
`adapters` build networks by name.

Importing this package imports neither torch nor Pillow; building a model does.
"""

from __future__ import annotations
