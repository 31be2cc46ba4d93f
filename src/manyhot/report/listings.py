"""Small tables of a report: comparisons between two ends, in words."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from manyhot.report.gallery_files import GalleryLink
from manyhot.report.metrics import Metric, Named
from manyhot.report.page import Anchors
from manyhot.report.words import called, ends, known, signed, slice_label
from manyhot.tables import Row
from manyhot.tables.metrics import reading_order

ENDS = ("dataset_x", "metric_x", "slice_x", "dataset_y", "metric_y", "slice_y")
NONE = "–"


@dataclass(frozen=True)
class Head:
    """The head of a column: its text, whether it holds numbers, and what it means."""

    text: str
    number: bool = True
    title: str = ""


@dataclass(frozen=True)
class Entry:
    """A row; `anchor` leads to one of the user's own models, `links` from cells by their place."""

    cells: tuple[str, ...]
    own: bool = False
    anchor: str = ""
    links: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Listing:
    """A table with a title; the first cell of a row is its head.

    Attributes
    ----------
    anchor, title, note : str
    heads : tuple of Head
    rows : tuple of Entry
    more : str
        What is not shown, and where it is.
    folded : bool
        Whether it is closed at first, as a figure or the table before it shows the main part.
    """

    anchor: str
    title: str
    heads: tuple[Head, ...]
    rows: tuple[Entry, ...]
    note: str = ""
    more: str = ""
    folded: bool = False


@dataclass(frozen=True)
class Shared:
    """What all builders of listings need.

    Attributes
    ----------
    named : callable
        Gives a metric by its name.
    own : collection of str
        The user's own models.
    anchors : Anchors
    gallery : GalleryLink, optional
        Beside the report.
    """

    named: Named
    own: Collection[str]
    anchors: Anchors
    gallery: GalleryLink | None = None

    def gallery_of(self, dataset: str) -> GalleryLink | None:
        """Return the gallery if it is of this data set."""
        return self.gallery if self.gallery is not None and self.gallery.title == dataset else None

    def pair(self, row: Row) -> str:
        """Return the metrics of both ends, once if they are the same."""
        x, y = self.named(row["metric_x"]).label, self.named(row["metric_y"]).label
        return x if x == y else f"{x} → {y}"


def pair_of_images(row: Row) -> str:
    """Return the slices of both ends, once if they are the same."""
    x, y = slice_label(row["slice_x"]), slice_label(row["slice_y"])
    return x if x == y else f"{x} → {y}"


def between(row: Row) -> str:
    """Return the data sets of both ends in words, as a title."""
    x, y = called(row["dataset_x"]), called(row["dataset_y"])
    return x if x == y else f"{x} → {y}"


def grouped(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Return rows by the data sets that they compare, under their title."""
    found: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        found.setdefault((row["dataset_x"], row["dataset_y"]), []).append(row)
    return {between(rows[0]): rows for rows in found.values()}


def _places(row: Row) -> str:
    """Return the data sets of both ends as the tables name them, for a link that stays the same."""
    x, y = row["dataset_x"], row["dataset_y"]
    return x if x == y else f"{x} → {y}"


def picked(table: pa.Table, models: Collection[str] = ()) -> list[Row]:
    """Return the rows of means over models, and those of the models given."""
    where = pc.or_(
        pc.is_null(table["model"]), pc.is_in(table["model"], pa.array(sorted(models), pa.string()))
    )
    rows: list[Row] = table.filter(pc.fill_null(where, True)).to_pylist()
    return rows


def list_drops(rows: Sequence[Row], shared: Shared, *, title: str, section: str) -> Listing:
    """Return drops between two ends: the mean over models first, then the user's own."""
    anchor = shared.anchors(section, "drops", _places(rows[0]))
    ordered = sorted(rows, key=lambda r: (reading_order(r["metric_x"]), pair_of_images(r), r["model"] or ""))
    return Listing(anchor, title, *without_empty(_DROPS, [_drop(r, shared, anchor) for r in ordered]))


_DROPS = (
    Head("Metric", number=False),
    Head("Images", number=False),
    Head("Model", number=False),
    Head("From"),
    Head("To"),
    Head("Drop", title="From less to, in points where the metric is a share"),
    Head("95 % over images"),
    Head("95 % over families", title="Families of models redrawn: models of one rise and fall together"),
    Head("Above fit", title="Effective robustness: what a model has at the second end beyond the logit fit"),
    Head("n"),
)


def _drop(row: Row, shared: Shared, anchor: str) -> Entry:
    m = shared.named(row["metric_x"])
    own = row["model"] in shared.own
    cells = (
        shared.pair(row),
        pair_of_images(row),
        row["model"] or f"mean of {row['n_models']:,}",
        _value(row["value_x"], m),
        _value(row["value_y"], shared.named(row["metric_y"])),
        _difference(row["drop"], m),
        ends((row["lo"], row["hi"]), m, _decimals(m)),
        ends((row["lo_models"], row["hi_models"]), m, _decimals(m)),
        _difference(row["above_fit"], m) if row["model"] else "",
        count_pair(row["n_x"], row["n_y"]),
    )
    return Entry(cells, own, shared.anchors(anchor, row["model"], cells[0], cells[1]) if own else "")


def list_fits(
    rows: Sequence[Row], shared: Shared, *, title: str, section: str, folded: bool = False
) -> Listing:
    """Return lines through the models, a row a scale."""
    heads, entries = without_empty(_FITS, [_fit(r, shared) for r in rows])
    return Listing(shared.anchors(section, "fits", _places(rows[0])), title, heads, entries, folded=folded)


_FITS = (
    Head("Metric", number=False),
    Head("Images", number=False),
    Head("Models", number=False),
    Head("Scale", number=False, title="Scale of both axes"),
    Head("Slope"),
    Head("95 % of slope", title="Over families of models"),
    Head("Intercept"),
    Head("95 % of intercept", title="Over families of models"),
    Head("R²"),
    Head("n models"),
    Head("Families"),
)


def _fit(row: Row, shared: Shared) -> Entry:
    return Entry(
        (
            shared.pair(row),
            pair_of_images(row),
            _which(row["models"], shared.named(row["metric_x"])),
            row["scale"],
            _plain(row["slope"], 3),
            ends((row["slope_lo"], row["slope_hi"]), None, 3),
            _plain(row["intercept"], 3),
            ends((row["intercept_lo"], row["intercept_hi"]), None, 3),
            _plain(row["r2"], 3),
            f"{row['n']:,}",
            f"{row['n_families']:,}",
        )
    )


def _which(models: str, x: Metric) -> str:
    """Return ``all``, or from which value on: ``x>=0.85`` as ``85 % and more``."""
    head, sign, bound = models.partition(">=")
    if head != "x" or not sign or not bound.replace(".", "", 1).isdigit():
        return models
    return f"{x.draw(float(bound)):.6g}{x.unit} and more"


def list_ranks(rows: Sequence[Row], shared: Shared) -> Listing:
    """Return how similar two rankings of the models are."""
    heads, entries = without_empty(_RANKS, [_rank(r, shared) for r in rows])
    return Listing(shared.anchors("ranks", "orders"), "How similar the rankings are", heads, entries)


_RANKS = (
    Head("Orders by", number=False),
    Head("Data", number=False),
    Head("Images", number=False),
    Head("Kendall's τ"),
    Head("95 % over images"),
    Head("95 % over families"),
    Head("Models"),
    Head("Swapped pairs", title="Pairs of models in another order"),
    Head("Beyond noise", title="Pairs in another order that differ beyond noise at both ends"),
)


def _rank(row: Row, shared: Shared) -> Entry:
    beyond = row["n_beyond_noise"]
    return Entry(
        (
            shared.pair(row),
            between(row),
            pair_of_images(row),
            _plain(row["tau"], 3),
            ends((row["lo"], row["hi"]), None, 3),
            ends((row["lo_models"], row["hi_models"]), None, 3),
            f"{row['n_models']:,}",
            f"{row['n_swapped']:,} of {row['n_pairs']:,}",
            "not tested" if beyond is None else f"{beyond:,}",
        )
    )


def list_swaps(rows: Sequence[Row], shared: Shared, *, title: str, most: int) -> Listing:
    """Return pairs of models that change order beyond noise, the clearest first."""
    ordered = sorted(
        rows, key=lambda r: (-min(abs(r["diff_x"]), abs(r["diff_y"])), r["model_a"], r["model_b"])
    )
    first = rows[0]
    x, y = shared.named(first["metric_x"]), shared.named(first["metric_y"])
    apart = first["dataset_x"] != first["dataset_y"]
    at_x, at_y = (
        f"{m.label} on {called(first[end])}" if apart else m.label
        for m, end in ((x, "dataset_x"), (y, "dataset_y"))
    )
    heads = (
        Head(f"Better by {at_x}", number=False),
        Head(f"Better by {at_y}", number=False),
        Head("Ahead by", title=f"In {at_x}, the first of the second"),
        Head("Behind by", title=f"In {at_y}, the first of the second"),
    )
    entries = tuple(
        Entry(
            (r["model_a"], r["model_b"], _difference(r["diff_x"], x), _difference(-r["diff_y"], y)),
            own=r["model_a"] in shared.own or r["model_b"] in shared.own,
        )
        for r in ordered[:most]
    )
    left = len(ordered) - len(entries)
    more = f"{left:,} more in swaps.csv." if left else ""
    return Listing(
        shared.anchors("ranks", "swaps", shared.pair(first), _places(first)), title, heads, entries, "", more
    )


def list_sensitivity(rows: Sequence[Row], shared: Shared, *, title: str, warning: str) -> Listing:
    """Return how a drop changes if the sets of one side are made like those of the other."""
    heads, entries = without_empty(_SENSITIVITY, [_changed(r, shared) for r in rows])
    note = f"First: {called(rows[0]['dataset_x'])}; second: {called(rows[0]['dataset_y'])}. {warning}"
    anchor = shared.anchors("shift", "sensitivity", _places(rows[0]))
    return Listing(anchor, title, heads, entries, note, folded=True)


_SENSITIVITY = (
    Head("Metric", number=False),
    Head("What was changed", number=False),
    Head("First"),
    Head("Second"),
    Head("Drop"),
    Head("95 % over families"),
    Head("Two labels or more", title="Share of the label sets with two labels or more, at both ends"),
    Head("n"),
    Head("Models"),
)


def _changed(row: Row, shared: Shared) -> Entry:
    m = shared.named(row["metric"])
    return Entry(
        (
            m.label,
            _analysis(row),
            _value(row["value_x"], m),
            _value(row["value_y"], m),
            _difference(row["drop"], m),
            ends((row["lo_models"], row["hi_models"]), m, _decimals(m)),
            f"{_share(row['multi_x'])} → {_share(row['multi_y'])}",
            count_pair(row["n_x"], row["n_y"]),
            f"{row['n_models']:,}",
        )
    )


def _analysis(row: Row) -> str:
    words = {
        "not empty": "without images whose set is empty",
        "sizes of y": "first re-weighted to the set sizes of the second",
        "sizes of x": "second re-weighted to the set sizes of the first",
        "rated at x": "rated images of the first only",
        "rated, sizes of y": "rated images of the first only, re-weighted to the set sizes of the second",
        "threshold at x": "threshold of the labels of the first",
    }
    text = words.get(row["analysis"], str(row["analysis"]))
    threshold = row["threshold"]
    return text if threshold is None or not known(threshold) else f"{text}: {threshold:.6g}"


def count_pair(x: int, y: int) -> str:
    """Return the n of both ends, once if they are the same."""
    return f"{x:,}" if x == y else f"{x:,} → {y:,}"


def without_empty(
    heads: Sequence[Head], entries: Sequence[Entry]
) -> tuple[tuple[Head, ...], tuple[Entry, ...]]:
    """Leave out columns that are empty in all rows, or that say of every row that it covers all images."""
    kept = [i for i in range(len(heads)) if {e.cells[i] for e in entries} - {"", NONE, "all images"}]
    # A column that is the same in every row is not an empty one: its value still counts.
    shown = [Entry(tuple(e.cells[i] or NONE for i in kept), e.own, e.anchor) for e in entries]
    return tuple(heads[i] for i in kept), tuple(shown)


def span(values: Sequence[float], m: Metric, decimals: int) -> str:
    """Return the lowest and the highest of some values."""
    texts = [m.text(pick(values), decimals) for pick in (min, max)]
    return texts[0] if texts[0] == texts[1] else "–".join(texts)


def _decimals(m: Metric) -> int:
    return 2 if m.percent else 3


def _value(value: float, m: Metric) -> str:
    return f"{m.text(value, _decimals(m))}{m.unit}" if math.isfinite(value) else NONE


def _difference(value: float | None, m: Metric) -> str:
    return signed(m.draw(value), _decimals(m)) if value is not None and known(value) else NONE


def _plain(value: float | None, decimals: int) -> str:
    return signed(value, decimals) if value is not None and math.isfinite(value) else NONE


def _share(value: float) -> str:
    return f"{100 * value:.1f} %" if math.isfinite(value) else NONE
