"""Names of places in the page, for links that stay the same when the report is made again."""

from __future__ import annotations

import re
import unicodedata


class Anchors:
    """Gives every thing a name that is unique in the page and readable in a link.

    Examples
    --------
    >>> anchors = Anchors()
    >>> anchors("models", "timm/ResNet-50"), anchors("models", "timm resnet 50")
    ('models-timm-resnet-50', 'models-timm-resnet-50-2')
    """

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def __call__(self, *names: str) -> str:
        """Return the anchor of something, by the names that lead to it."""
        base = "-".join(filter(None, (_slug(name) for name in names))) or "part"
        anchor, n = base, 2
        while anchor in self._taken:
            anchor, n = f"{base}-{n}", n + 1
        self._taken.add(anchor)
        return anchor


def _slug(name: str) -> str:
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9.]+", "-", plain).strip("-.")[:80]
