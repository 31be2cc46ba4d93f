"""What tests draw again and again, of which the renderer draws each once: 40 ms a panel, 2 s for its script.

Not for tests of the drawing itself.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

FOLDER = "MANYHOT_TESTS_DRAWN"
"""The variable that names a folder for what is made once; all workers and what they fork share it."""

DRAWERS = ("vegalite_to_svg", "javascript_bundle")
"""The functions of vl-convert whose texts are kept."""


def kept(draw: Callable[..., str]) -> Callable[..., str]:
    """Return what draws once for all who give it the same."""
    folder = Path(os.environ[FOLDER])

    def drawn(*given: str, **options: Any) -> str:
        told = repr((draw.__name__, given, sorted(options.items())))
        path = folder / hashlib.sha256(told.encode()).hexdigest()
        if path.exists():
            return path.read_text(encoding="utf-8")
        text = draw(*given, **options)
        part = path.with_suffix(f".{os.getpid()}")
        part.write_text(text, encoding="utf-8")
        part.replace(path)
        return text

    return drawn
