"""Small tables of a report, such as comparisons of a metric between two data sets."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import pyarrow as pa
import pyarrow.compute as pc

from manyhot.report.gallery_files import GalleryLink
from manyhot.report.page import Anchors
from manyhot.report.text import Metric, Named, ends, is_defined, slice_label, title_of, with_minus
from manyhot.tables import Row
from manyhot.tables.result_tables import reading_order

NONE = "–"


@dataclass(frozen=True)
class ColumnHead:
    """The head of a column: its text, whether the column contains numbers, and an explanation."""

    text: str
    number: bool = True
    title: str = ""


def text_heads(*texts: str) -> tuple[ColumnHead, ...]:
    """Return the heads of columns of text."""
    return tuple(ColumnHead(text, number=False) for text in texts)


def number_heads(*texts: str) -> tuple[ColumnHead, ...]:
    """Return the heads of columns of numbers."""
    return tuple(map(ColumnHead, texts))


def heads_of(names: Sequence[str], with_numbers: Collection[str]) -> tuple[ColumnHead, ...]:
    """Return the heads of columns whose names begin with a small letter, as in the terminal."""
    return tuple(ColumnHead(name[0].upper() + name[1:], number=name in with_numbers) for name in names)


@dataclass(frozen=True)
class ListingRow:
    """A row: its cells, an anchor if it shows one of the user's models, and links of cells by position."""

    cells: tuple[str, ...]
    own: bool = False
    anchor: str = ""
    links: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Listing:
    """A table with a title; the first cell of a row is its head.

    Attributes
    ----------
    more : str
        A note on omitted rows and where to find them.
    folded : bool
        Whether the table is collapsed at first.
    """

    anchor: str
    title: str
    heads: tuple[ColumnHead, ...]
    rows: tuple[ListingRow, ...]
    note: str = ""
    more: str = ""
    folded: bool = False


@dataclass(frozen=True)
class Shared:
    """The context of all listings of a report.

    Attributes
    ----------
    named : callable
        Function that returns the presentation of a metric by its name.
    own : collection of str
        The user's own models.
    gallery : GalleryLink, optional
        The gallery in the report's folder.
    clustered : collection of str
        The data sets whose intervals are computed over clusters of images.
    """

    named: Named
    own: Collection[str]
    anchors: Anchors
    gallery: GalleryLink | None = None
    clustered: Collection[str] = ()

    def heads(self, heads: Sequence[ColumnHead], rows: Sequence[Row]) -> list[ColumnHead]:
        """Return the heads of a table of comparisons, which say over what its intervals are computed."""
        if {row[f"dataset_{side}"] for row in rows for side in "xy"}.isdisjoint(self.clustered):
            return [*heads]
        return [replace(head, text=head.text.replace("over images", "over clusters")) for head in heads]

    def gallery_of(self, dataset: str) -> GalleryLink | None:
        """Return the gallery if it shows this data set."""
        return self.gallery if self.gallery is not None and self.gallery.title == dataset else None

    def pair(self, row: Row) -> str:
        """Return the metrics of both places as ``x → y``; one name if they are equal."""
        return _arrow(self.named(row["metric_x"]).label, self.named(row["metric_y"]).label)


def pair_of_images(row: Row) -> str:
    """Return the slices of both places as ``x → y``; one label if they are equal."""
    return _arrow(slice_label(row["slice_x"]), slice_label(row["slice_y"]))


def between(row: Row) -> str:
    """Return the data sets of both places as a title; one name if they are equal."""
    return _arrow(title_of(row["dataset_x"]), title_of(row["dataset_y"]))


def group_by_dataset(rows: Iterable[Row]) -> Iterator[tuple[str, list[Row]]]:
    """Yield the title of each pair of data sets, and its rows. Names distinguish pairs of the same title."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["dataset_x"], row["dataset_y"]), []).append(row)
    titles = Counter(between(own[0]) for own in groups.values())
    for own in groups.values():
        title = between(own[0])
        yield title if titles[title] == 1 else f"{title} ({_places(own[0])})", own


def _places(row: Row) -> str:
    """Return the data sets of both ends by their names in the tables, which keep links stable."""
    return _arrow(row["dataset_x"], row["dataset_y"])


def _arrow(x: str, y: str) -> str:
    return x if x == y else f"{x} → {y}"


def picked(table: pa.Table, models: Collection[str] = ()) -> list[Row]:
    """Return the rows with means over models, and the rows of `models`."""
    where = pc.or_(
        pc.is_null(table["model"]), pc.is_in(table["model"], pa.array(sorted(models), pa.string()))
    )
    rows: list[Row] = table.filter(pc.fill_null(where, True)).to_pylist()
    return rows


def list_drops(
    rows: Sequence[Row], shared: Shared, *, title: str, section: str, folded: bool = False
) -> Listing:
    """Return the drops of a metric between two places: the mean over models, then the user's own models."""
    anchor = shared.anchors(section, "drops", _places(rows[0]))
    order = {name: reading_order(name) for name in {r["metric_x"] for r in rows}}
    ordered = sorted(rows, key=lambda r: (order[r["metric_x"]], pair_of_images(r), r["model"] or ""))
    heads, entries = without_empty(shared.heads(_DROPS, rows), [_drop(r, shared, anchor) for r in ordered])
    return Listing(anchor, title, heads, entries, folded=folded)


_DROPS = (
    *text_heads("Metric", "Images", "Model"),
    *number_heads("From", "To"),
    ColumnHead(
        "Drop", title="Value in From minus value in To, in percentage points if the metric is a share"
    ),
    ColumnHead("95 % over images"),
    ColumnHead(
        "95 % over families",
        title="Jackknife over families of models, because models of one family are correlated",
    ),
    ColumnHead(
        "Above fit",
        title="Effective robustness: value in To minus the value that the logit fit predicts",
    ),
    ColumnHead("n"),
)


def _drop(row: Row, shared: Shared, anchor: str) -> ListingRow:
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
    return ListingRow(cells, own, shared.anchors(anchor, row["model"], cells[0], cells[1]) if own else "")


def list_fits(rows: Sequence[Row], shared: Shared, *, title: str, section: str) -> Listing:
    """Return the regression lines over models, one row per scale."""
    heads, entries = without_empty(_FITS, [_fit(r, shared) for r in rows])
    return Listing(shared.anchors(section, "fits", _places(rows[0])), title, heads, entries, folded=True)


_FITS = (
    *text_heads("Metric", "Images", "Models"),
    ColumnHead("Scale", number=False, title="Scale of both axes"),
    ColumnHead("Slope"),
    ColumnHead("95 % of slope", title="Jackknife over families of models"),
    ColumnHead("Intercept"),
    ColumnHead("95 % of intercept", title="Jackknife over families of models"),
    *number_heads("R²", "n models", "Families"),
)


def _fit(row: Row, shared: Shared) -> ListingRow:
    return ListingRow(
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
    """Return which models a fit includes, such as ``85 % and more`` for ``x>=0.85``."""
    head, sign, bound = models.partition(">=")
    if head != "x" or not sign or not bound.replace(".", "", 1).isdigit():
        return models
    return f"{x.draw(float(bound)):.6g}{x.unit} and more"


def list_ranks(rows: Sequence[Row], shared: Shared) -> Listing:
    """Return a table that shows how well two rankings of the models agree."""
    heads, entries = without_empty(shared.heads(_RANKS, rows), [_rank(r, shared) for r in rows])
    return Listing(
        shared.anchors("ranks", "orders"), "Agreement of the rankings", heads, entries, folded=True
    )


_RANKS = (
    *text_heads("Ranked by", "Data", "Images"),
    *number_heads("Kendall's τ", "95 % over images", "95 % over families", "Models"),
    ColumnHead("Swapped pairs", title="Pairs of models whose order is reversed"),
    ColumnHead("Beyond noise", title="Swapped pairs whose difference is beyond noise in both rankings"),
)


def _rank(row: Row, shared: Shared) -> ListingRow:
    beyond = row["n_beyond_noise"]
    return ListingRow(
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
    """Return the pairs of models whose order is reversed beyond noise, the largest differences first."""
    ordered = sorted(
        rows, key=lambda r: (-min(abs(r["difference_x"]), abs(r["difference_y"])), r["model_a"], r["model_b"])
    )
    first = rows[0]
    x, y = shared.named(first["metric_x"]), shared.named(first["metric_y"])
    apart = first["dataset_x"] != first["dataset_y"]
    at_x, at_y = (
        f"{m.label} on {title_of(first[end])}" if apart else m.label
        for m, end in ((x, "dataset_x"), (y, "dataset_y"))
    )
    heads = (
        *text_heads(f"Better by {at_x}", f"Better by {at_y}"),
        ColumnHead("Ahead by", title=f"{at_x} of the first model minus {at_x} of the second"),
        ColumnHead("Behind by", title=f"{at_y} of the second model minus {at_y} of the first"),
    )
    entries = tuple(
        ListingRow(
            (
                r["model_a"],
                r["model_b"],
                _difference(r["difference_x"], x),
                _difference(-r["difference_y"], y),
            ),
            own=r["model_a"] in shared.own or r["model_b"] in shared.own,
        )
        for r in ordered[:most]
    )
    left = len(ordered) - len(entries)
    more = f"{left:,} more in swaps.csv." if left else ""
    anchor = shared.anchors("ranks", "swaps", shared.pair(first), _places(first))
    return Listing(anchor, title, heads, entries, "", more, folded=True)


def list_sensitivity(rows: Sequence[Row], shared: Shared, *, title: str) -> Listing:
    """Return how a drop changes if label sets at one place are made similar to label sets at the other."""
    heads, entries = without_empty(_SENSITIVITY, [_changed(r, shared) for r in rows])
    note = f"First: {title_of(rows[0]['dataset_x'])}; second: {title_of(rows[0]['dataset_y'])}."
    anchor = shared.anchors("shift", "sensitivity", _places(rows[0]))
    return Listing(anchor, title, heads, entries, note, folded=True)


_SENSITIVITY = (
    *text_heads("Metric", "What was changed"),
    *number_heads("First", "Second", "Drop", "95 % over families"),
    ColumnHead("Two or more labels", title="Share of label sets with two or more labels, in both data sets"),
    *number_heads("n", "Models"),
)


def _changed(row: Row, shared: Shared) -> ListingRow:
    m = shared.named(row["metric"])
    return ListingRow(
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
    labels = {
        "not empty": "without images with an empty label set",
        "sizes of y": "first re-weighted to the set sizes of the second",
        "sizes of x": "second re-weighted to the set sizes of the first",
        "rated at x": "only rated images of the first",
        "rated, sizes of y": "only rated images of the first, re-weighted to the set sizes of the second",
        "threshold at x": "threshold of the labels of the first",
    }
    text = labels.get(row["analysis"], str(row["analysis"]))
    threshold = row["threshold"]
    return text if threshold is None or not is_defined(threshold) else f"{text}: {threshold:.6g}"


def count_pair(x: int, y: int) -> str:
    """Return the numbers of images at both places as ``x → y``; one number if they are equal."""
    return _arrow(f"{x:,}", f"{y:,}")


def without_empty(
    heads: Sequence[ColumnHead], entries: Sequence[ListingRow]
) -> tuple[tuple[ColumnHead, ...], tuple[ListingRow, ...]]:
    """Return columns and rows without the columns that are empty or "all images" in every row."""
    filled = [i for i in range(len(heads)) if {e.cells[i] for e in entries} - {"", NONE, "all images"}]
    shown = [ListingRow(tuple(e.cells[i] or NONE for i in filled), e.own, e.anchor) for e in entries]
    return tuple(heads[i] for i in filled), tuple(shown)


def span(values: Sequence[float], m: Metric, decimals: int) -> str:
    """Return the range of values, as ``70.1–83.2``."""
    texts = [m.text(pick(values), decimals) for pick in (min, max)]
    return texts[0] if texts[0] == texts[1] else "–".join(texts)


def _decimals(m: Metric) -> int:
    return 2 if m.percent else 3


def _value(value: float, m: Metric) -> str:
    return f"{m.text(value, _decimals(m))}{m.unit}" if math.isfinite(value) else NONE


def _difference(value: float | None, m: Metric) -> str:
    return with_minus(m.draw(value), _decimals(m)) if value is not None and is_defined(value) else NONE


def _plain(value: float | None, decimals: int) -> str:
    return with_minus(value, decimals) if value is not None and math.isfinite(value) else NONE


def _share(value: float) -> str:
    return f"{100 * value:.1f} %" if math.isfinite(value) else NONE
