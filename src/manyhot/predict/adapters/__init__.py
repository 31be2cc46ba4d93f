"""Models by name: what builds a network from a library, a file or a function."""

from __future__ import annotations
