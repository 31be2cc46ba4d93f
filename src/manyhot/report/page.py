"""Anchors in the page, for links that stay the same when the report is made again."""

from __future__ import annotations

import base64
import hashlib
import re
import unicodedata
from collections.abc import Sequence
from functools import cache
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from manyhot.report.metrics import metric
from manyhot.report.words import called, counted, listed, ordinal


class Anchors:
    """Gives everything a name that is unique in the page and readable in a link.

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


def policy(*scripts: str) -> str:
    """Return what a page may load: itself, and scripts that are these."""
    # A hash is of what stands between the tags, the line break after the first included.
    digests = (base64.b64encode(hashlib.sha256(f"\n{s}".encode()).digest()).decode() for s in scripts)
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests)
    return (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src {allowed}; base-uri 'none'; form-action 'none'"
    )


@cache
def asset(name: str) -> str:
    """Return a style or script of ours."""
    return (files("manyhot.report") / "templates" / name).read_text(encoding="utf-8")


@cache
def environment() -> Environment:
    """Return what fills templates."""
    environment = Environment(
        loader=PackageLoader("manyhot.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "counted": counted,
        "ordinal": ordinal,
        "listed": listed,
        "labels": _labels,
        "unbroken": _unbroken,
        "intervals": _intervals,
        "called": called,
    }
    return environment


def _labels(names: Sequence[str]) -> str:
    return ", ".join(metric(name).label for name in names)


def _unbroken(text: str) -> Markup:
    """Return text in which no line ends within the name of a metric."""
    return Markup(re.sub(r"\b(Top-[15])\b", r'<span class="nb">\1</span>', str(escape(text))))  # noqa: S704


def _intervals(text: str) -> Markup:
    """Return text in which intervals step back, so that the sentence is read without them."""
    told = r"\((?:95 % interval|no interval)[^()]*\)"
    marked = re.sub(told, r'<span class="ci">\g<0></span>', str(_unbroken(text)))
    return Markup(marked)  # noqa: S704  escaped by _unbroken
