"""Parts that all pages share: anchors of links, the security policy, assets and templates."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import unicodedata
from collections.abc import Sequence
from functools import cache
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from manyhot.report.text import counted, listed, metric, ordinal, title_of


class Anchors:
    """Creates readable anchors that are unique in a page and do not change when the report is regenerated.

    Examples
    --------
    >>> anchors = Anchors()
    >>> anchors("models", "timm/ResNet-50"), anchors("models", "timm resnet 50")
    ('models-timm-resnet-50', 'models-timm-resnet-50-2')
    """

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def __call__(self, *names: str) -> str:
        """Return the anchor of a part of the page by its path of names."""
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
    """Return the Content-Security-Policy of a self-contained page with these inline scripts."""
    # The hash covers the text between the tags, including the line break after the first.
    digests = (base64.b64encode(hashlib.sha256(f"\n{s}".encode()).digest()).decode() for s in scripts)
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests)
    return (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src {allowed}; base-uri 'none'; form-action 'none'"
    )


def script_json(data: object) -> Markup:
    """Return data as JSON for a script element."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    # Inside a script element only "</" and "<!--" could end or bend it.
    return Markup(text.replace("<", "\\u003c"))  # noqa: S704  JSON, with "<" escaped


@cache
def asset(name: str) -> str:
    """Return the text of a style sheet or script of this package."""
    return (files("manyhot.report") / "templates" / name).read_text(encoding="utf-8")


@cache
def environment() -> Environment:
    """Return the Jinja environment of the templates."""
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
        "title_of": title_of,
    }
    return environment


def _labels(names: Sequence[str]) -> str:
    return ", ".join(metric(name).label for name in names)


def _unbroken(text: str) -> Markup:
    """Return text in which names of metrics, and numbers with their unit, are not broken over two lines."""
    text = re.sub(r"(?<=\d) %", "\N{NO-BREAK SPACE}%", text)
    return Markup(re.sub(r"\b(Top-[15])\b", r'<span class="nb">\1</span>', str(escape(text))))  # noqa: S704


def _intervals(text: str) -> Markup:
    """Return text in which intervals are greyed out."""
    pattern = r"\((?:95 % interval|no interval)[^()]*\)"
    marked = re.sub(pattern, r'<span class="ci">\g<0></span>', str(_unbroken(text)))
    return Markup(marked)  # noqa: S704  escaped by _unbroken
