"""What figures call things, so that a stranger understands an axis."""

from __future__ import annotations

from manyhot.report.metrics import metric

AXES = {
    "top1": "Top-1 accuracy, original labels",
    "top5": "Top-5 accuracy, original labels",
    "real1": "ReaL accuracy: best class in the label set",
    "real5": "Best five classes meet the label set",
    "mla": "Multi-label accuracy, mean over classes",
    "variable_topk": "Variable top-k: share of the label set found",
    "asma": "ASMA: variable top-k, mean over set sizes",
}
"""Metrics in words, without the unit."""

SHORT = {
    "top1": "Top-1, original labels",
    "top5": "Top-5, original labels",
    "real1": "ReaL, label sets",
    "real5": "ReaL top-5, label sets",
    "mla": "Multi-label accuracy",
    "variable_topk": "Variable top-k",
    "asma": "ASMA",
}
"""The same where there is little room."""


def axis(name: str) -> str:
    """Return the title of an axis of a metric, with its unit."""
    return _with_unit(AXES.get(name, metric(name).label), name)


def short(name: str) -> str:
    """Return a metric in few words."""
    return SHORT.get(name, metric(name).label)


def interval(lo: float | None, hi: float | None, decimals: int = 1) -> str:
    """Return ``11.6 to 12.1``; empty without an interval."""
    return "" if lo is None or hi is None else f"{signed(lo, decimals)} to {signed(hi, decimals)}"


def signed(value: float, decimals: int = 1) -> str:
    """Return a number with a true minus sign."""
    return f"{value:.{decimals}f}".replace("-", "−")


def shortened(name: str, most: int) -> str:
    """Return a name of at most so many letters: its start and its end, which tell versions apart."""
    return name if len(name) <= most else f"{name[: most - 14]}…{name[-13:]}"


def slug(name: str) -> str:
    """Return a name for files and anchors."""
    return "-".join("".join(c if c.isalnum() else " " for c in name.lower()).split())


def _with_unit(words: str, name: str) -> str:
    return f"{words} (%)" if metric(name).percent else words
