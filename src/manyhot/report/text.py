"""Numbers, intervals, slices and lists as text."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import pyarrow as pa

from manyhot.errors import counted as counted
from manyhot.tables import metadata as metadata_of
from manyhot.tables.result_tables import describe_metric, registered_metric


@dataclass(frozen=True)
class Metric:
    """How a metric is presented.

    Attributes
    ----------
    name : str
        The name in the results table.
    percent : bool
        Whether the metric is a share and is shown in percent. Values of other metrics are plain numbers.
    short, axis : str
        The short label in figures, and the label of an axis without the unit.
    judged_on : str
        The labels on which an accuracy is based: ``original labels`` or ``label sets``. Empty for other
        metrics.
    interval : str
        How intervals are computed: a key of `INTERVALS`, or empty if the results do not record it.
    """

    name: str
    label: str
    definition: str
    lower_is_better: bool = False
    percent: bool = True
    short: str = ""
    axis: str = ""
    judged_on: str = ""
    interval: str = ""
    given_unit: str = "share"

    @property
    def unit(self) -> str:
        """The text after a value."""
        return " %" if self.percent else ""

    def draw(self, value: float) -> float:
        """Return the value in the unit of figures and tables."""
        return value * 100 if self.percent else value

    def text(self, value: float, decimals: int) -> str:
        """Return the value as text without its unit; an en dash if it is undefined."""
        return with_minus(self.draw(value), decimals) if math.isfinite(value) else "–"


Named = Callable[[str], Metric]
"""Returns the presentation of a metric by its name."""


def metric(name: str, metadata: Mapping[str, Mapping[str, str]] | None = None) -> Metric:
    """Return the presentation of a metric of a results table, such as ``precision@5`` or a call string.

    Parameters
    ----------
    metadata : Mapping, optional
        Metadata of the results: ``interval`` of all metrics; ``label``, ``definition``, ``better`` and
        ``unit`` of metrics that are not registered.
    """
    recorded = (metadata or {}).get(name, {})
    about = describe_metric(name) or recorded
    entry = registered_metric(name)
    in_figures = entry.about if entry is not None and entry.name == name else {}
    label = about.get("label", name)
    return Metric(
        name,
        label,
        about.get("definition", "No description; see the package that registers the metric."),
        about.get("better") == "lower",
        about.get("unit") == "share",
        in_figures.get("short", label),
        in_figures.get("axis", label),
        in_figures.get("judged_on", ""),
        recorded.get("interval", ""),
        about.get("unit", ""),
    )


def metrics_of(results: pa.Table) -> Named:
    """Return a function that maps the name of a metric in a results table to its presentation."""
    return partial(metric, metadata=json.loads(metadata_of(results).get("metrics", "{}")))


Ends = tuple[float | None, float | None]
"""The ends of an interval; None if an end is undefined."""

DATASETS = {
    "imagenet-val": "ImageNet validation",
    "imagenet-val-a-classes": "ImageNet validation (classes of A)",
    "imagenet-val-r-classes": "ImageNet validation (classes of R)",
    "imagenetv2-matched-frequency": "ImageNetV2",
    "imagenetv2-threshold-0.7": "ImageNetV2, threshold 0.7",
    "imagenetv2-threshold0.7": "ImageNetV2, threshold 0.7",
    "imagenetv2-top-images": "ImageNetV2, top images",
    "imagenet-a": "ImageNet-A",
    "imagenet-r": "ImageNet-R",
    "imagenet-sketch": "ImageNet-Sketch",
}
"""Titles of data sets."""

_SIZES = re.compile(r"n_(label|object)s(>=|<=|=)(\d+)")
_NUMBERS = ("no", "one", "two", "three", "four", "five")
_MORE = {">=": " or more", "<=": " or fewer", "=": ""}
_RATED = {"rated=true": "rated", "rated=false": "unrated"}


def title_of(dataset: str) -> str:
    """Return the title of a data set, or its name if it has no title."""
    return DATASETS.get(dataset, dataset)


def ordinal(n: int) -> str:
    """Return ``1st``, ``22nd``, ``113th``."""
    ending = "th" if n % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(n % 10, "th")
    return f"{n:,}{ending}"


def listed(names: Sequence[str], most: int) -> str:
    """Return names as a list in a sentence; if there are too many, the first names and how many follow."""
    if len(names) > most:
        return f"{', '.join(names[: most - 1])} and {len(names) - most + 1:,} more"
    return " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))


def count_range(counts: Iterable[int]) -> str:
    """Return the range of counts, such as ``900–1,000``; one number if they are equal."""
    counts = list(counts)
    if not counts:
        return "0"
    lo, hi = min(counts), max(counts)
    return f"{lo:,}" if lo == hi else f"{lo:,}–{hi:,}"


def images_of(images: str) -> str:
    """Return a description of a slice's images, for use after a number or an article.

    Examples
    --------
    >>> images_of("n_objects>=2"), images_of("all"), images_of("rated=true,n_labels=1")
    ('images with two or more objects', 'images', 'rated images with one label')
    """
    if images == "all":
        return "images"
    parts = [_part(part) for part in images.split(",")]
    which = [words for words, before in parts if before]
    having = " and ".join(words for words, before in parts if not before)
    return " ".join([*which, "images", *([f"with {having}"] if having else [])])


def slice_label(images: str) -> str:
    """Return the label of a slice for the first cell of a row, such as ``two or more labels``."""
    return "all images" if images == "all" else ", ".join(words for words, _ in map(_part, images.split(",")))


def is_size(images: str) -> bool:
    """Return whether a slice is defined by the number of labels or objects."""
    return _SIZES.fullmatch(images) is not None


def _part(condition: str) -> tuple[str, bool]:
    """Return the text of a condition of a slice, and whether it precedes the noun."""
    if condition in _RATED:
        return _RATED[condition], True
    size = _SIZES.fullmatch(condition)
    if size is not None:
        number = _NUMBERS[int(size[3])] if int(size[3]) < len(_NUMBERS) else size[3]
        plural = "" if (size[2], size[3]) == ("=", "1") else "s"
        return f"{number}{_MORE[size[2]]} {size[1]}{plural}", False
    key, equal, value = condition.partition("=")
    if not equal or re.search(r"\W", key):
        return condition, False
    return (f"any {key}" if value == "*" else f"{key} {value}"), False


def is_defined(value: float | None) -> bool:
    """Return whether a value is a finite number."""
    return value is not None and math.isfinite(value)


def with_minus(value: float, decimals: int) -> str:
    """Return a number with a minus sign, not a hyphen; a number that rounds to zero has no sign.

    Examples
    --------
    >>> with_minus(-1.25, 1), with_minus(-0.001, 2), with_minus(1234.5, 1)
    ('−1.2', '0.00', '1,234.5')
    """
    text = f"{value:,.{decimals}f}"
    return text.replace("-", "−") if float(text.replace(",", "")) else text.removeprefix("-")


def fine(value: float) -> int:
    """Return the number of decimals of a difference in points: 1 for at least one point, otherwise 2."""
    return 1 if abs(value) >= 1 else 2


def points(value: float, metric: Metric) -> str:
    """Return the size of a difference: ``10.7 points`` for a share, otherwise a plain number."""
    drawn = abs(metric.draw(value))
    if not metric.percent:
        return f"{drawn:,.3f}"
    text = f"{drawn:,.{fine(drawn)}f}"
    return f"{text} point{'' if text == '1.0' else 's'}"


def ends(interval: Ends, metric: Metric | None = None, decimals: int = 2, *, sign: int = 1) -> str:
    """Return ``10.5 to 10.9``; empty if an end is undefined. If `sign` is -1, the interval is negated."""
    lo, hi = interval
    if lo is None or hi is None or not (is_defined(lo) and is_defined(hi)):
        return ""
    drawn = [metric.draw(e) if metric else e for e in (lo, hi)]
    lo, hi = drawn if sign > 0 else (-drawn[1], -drawn[0])
    return f"{with_minus(lo, decimals)} to {with_minus(hi, decimals)}"


def both_intervals(images: str, models: str, over_images: str) -> str:
    """Return the intervals over images and over models in brackets, with a remark if one is missing.

    `over_images` says whether those over images are computed over clusters of images.
    """
    over = {over_images: images, "over families of models": models}
    there = [f"{text} {what}" for what, text in over.items() if text]
    if not there:
        return "(no interval)"
    missing = [f"none {what}" for what, text in over.items() if not text]
    return f"(95 % interval {'; '.join([', '.join(there), *missing])})"


def holds_zero(*intervals: Ends) -> bool:
    """Return whether any of the defined intervals contains 0."""
    return any(
        lo is not None and hi is not None and is_defined(lo) and is_defined(hi) and lo <= 0 <= hi
        for lo, hi in intervals
    )
