"""Training with label sets: losses, one loop, and linear heads on features.

An image passes through: ``predict.sources`` (bytes) → `batches` (crops) → a network of `networks` → a loss of
`losses` against the `targets` → a step of `loop`. A `recipe` holds the settings.

Importing this package imports no PyTorch.
"""

from __future__ import annotations
