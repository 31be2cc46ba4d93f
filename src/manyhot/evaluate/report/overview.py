"""The most important findings, each in one sentence.

Rows of the tables are selected and put into words; nothing is computed here. A sentence claims only what its
numbers and their intervals support: a direction only if no interval contains 0, all models only if each of
them was checked.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
from pyarrow import compute as pc

from manyhot.evaluate.ranks import best_and_closest
from manyhot.evaluate.report.datasets import SAME, UNKNOWN, DataSet, MetricColumn, Model, Value
from manyhot.evaluate.report.report_tables import ReportTables
from manyhot.report.gallery_files import GalleryLink
from manyhot.report.text import (
    Metric,
    Named,
    both_intervals,
    counted,
    ends,
    fine,
    holds_zero,
    images_of,
    is_defined,
    is_size,
    listed,
    points,
    title_of,
    with_minus,
)
from manyhot.tables import Results
from manyhot.tables.result_tables import LABEL_SETS, ORIGINAL_LABELS, accuracies

_MOST = 3
"""Number of findings that are shown: as many as an audience can keep in mind."""


TITLES = {
    "labels": ("Labels", "Labels"),
    "models": ("Models", "Models"),
    "consistency": ("Consistency", "Error consistency"),
    "classes": ("Classes", "Classes, the worst first"),
    "trust": ("Confidence", "Can its confidence be trusted?"),
    "posterior": ("Raters", "What raters leave open"),
    "groups": ("Groups", "Groups of images"),
    "shift": ("Shift", "Shift between data sets"),
    "saturation": ("Saturation", "Saturation"),
    "ranks": ("Ranks", "Ranks"),
}
"""The parts of the page in reading order: what they are called in its contents, and at their head."""


_WIDE = 99_999
"""Pairs up to which their number stands in large letters."""


PROTOCOLS = (
    "Set sizes found under different protocols are not the same quantity, and neither are accuracies on them."
)

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Finding:
    """A finding.

    Attributes
    ----------
    kind : str
        ``objects``, ``shift``, ``saturation``, ``ranks``, ``errors`` or ``best``.
    figure, about : str
        The main number of the finding, which is shown in large type, and its meaning.
    sentence, caution : str
        The finding as a full sentence, and a caveat.
    section, where : str
        Anchor and title of the section that contains the numbers.
    see : str
        Address of the images in the gallery, if there is one.
    """

    kind: str
    figure: str
    about: str
    sentence: str
    caution: str
    section: str
    where: str
    see: str = ""


def findings(
    tables: ReportTables, datasets: Sequence[DataSet], named: Named, gallery: GalleryLink | None = None
) -> tuple[Finding, ...]:
    """Return the most important findings in the tables, at most `_MOST`.

    Parameters
    ----------
    datasets : sequence of DataSet
        Data sets of the same results.
    named : callable
        Returns a metric by its name.
    gallery : GalleryLink, optional
        Beside the report.
    """
    results = Results(tables.results, tables["pairs"])
    slopes = _saturation(tables["fits"], named) if tables.has_trends else []
    orders = _ranks(tables, named) if tables.has_trends else []
    # The verdict on two models comes first, and says which is best.
    ranked = datasets if tables.has_trends else [data for data in datasets if not _has_verdict(data)]
    # Over all models a slope says little: what saturates are the best.
    among_best = pc.any(pc.not_equal(tables["fits"]["models"], "all")).as_py()
    found = [
        *_objects(tables, named),
        *_shift(tables, named),
        *(slopes if among_best else ()),
        *_errors(datasets, gallery),
        *orders,
        *(() if among_best else slopes),
        *(finding for data in ranked for finding in _best(data, results)),
    ]
    return tuple(found[:_MOST])


def _has_verdict(data: DataSet) -> bool:
    column = data.column(data.primary.name)
    return column is not None and len(_defined(column, data)) == len(data.models) == 2


def _part(anchor: str) -> tuple[str, str]:
    return anchor, TITLES[anchor][1]


def _models(data: DataSet) -> tuple[str, str]:
    return data.anchor, f"Models on {title_of(data.name)}"


def _objects(tables: ReportTables, named: Named) -> list[Finding]:
    """Return what several objects, or labels, do to accuracy."""
    rows = [
        r
        for r in _means(tables["drops"])
        if r["dataset_x"] == r["dataset_y"]
        and r["metric_x"] == r["metric_y"]
        and is_size(r["slice_y"])
        and not is_size(r["slice_x"])
    ]
    if not rows:
        return []
    row = min(rows, key=_several_first)
    m = named(row["metric_x"])
    start = f"{'all' if row['slice_x'] == 'all' else 'the'} {row['n_x']:,} {images_of(row['slice_x'])}"
    start = start.replace("images", f"images of {title_of(row['dataset_x'])}", 1)
    end = f"the {row['n_y']:,} {images_of(row['slice_y']).removeprefix('images ')}"
    sentence = f"From {start} to {end}, {_judged(m)} {_change(tables, row, m)}."
    return [
        Finding(
            "objects",
            _signed_drop(row["drop"], m),
            f"{m.label} on {images_of(row['slice_y'])}{_unsure(row)}",
            sentence,
            "",
            *_part("groups"),
        )
    ]


def _several_first(row: Row) -> tuple[bool, bool, bool, bool]:
    return (
        row["metric_x"] != "top1",
        "object" not in row["slice_y"],
        ">=2" not in row["slice_y"],
        row["slice_x"] == "all" and row["n_x"] > 2 * row["n_y"],
    )


def _shift(tables: ReportTables, named: Named) -> list[Finding]:
    """Return how far models fall from one data set to another, by one label and by label sets."""
    drops = tables["drops"]
    rows = [
        r
        for r in _means(drops)
        if r["dataset_x"] != r["dataset_y"]
        and r["metric_x"] == r["metric_y"]
        and r["slice_x"] == r["slice_y"] == "all"
    ]
    if not rows:
        return []
    by_metric = _clearest(rows, pc.unique(tables.results["dataset"]).to_pylist())
    first = by_metric.get("top1") or next(iter(by_metric.values()))
    on_sets = next((by_metric[name] for name in accuracies(LABEL_SETS) if name in by_metric), None)
    m = named(first["metric_x"])
    x, y = title_of(first["dataset_x"]), title_of(first["dataset_y"])
    sentence = (
        f"From {x} ({first['n_x']:,} images) to {y} ({first['n_y']:,}), {_judged(m)} "
        f"{_change(tables, first, m)}"
    )
    about = f"{m.label} from {x} to {y}{_unsure(first)}"
    if on_sets is not None and on_sets is not first:
        other = named(on_sets["metric_x"])
        who = on_sets["n_models"] != first["n_models"]
        sentence += (
            f". {other.label}, computed on label sets ({on_sets['n_x']:,} and {on_sets['n_y']:,} "
            "images), "
            f"{_change(tables, on_sets, other, who=who)}"
        )
        about += f"; {_signed_drop(on_sets['drop'], other)} by {other.label}{_unsure(on_sets)}"
    caution = PROTOCOLS if on_sets is not None else ""
    figure = _signed_drop(first["drop"], m)
    return [Finding("shift", figure, about, f"{sentence}.", caution, *_part("shift"))]


def _clearest(rows: Iterable[Row], order: Sequence[str]) -> dict[str, Row]:
    """Return a pair of data sets, by metric: one judged both ways, and the first as the results list them."""
    pairs: dict[tuple[str, str], dict[str, Row]] = {}
    for row in rows:
        pairs.setdefault((row["dataset_x"], row["dataset_y"]), {})[row["metric_x"]] = row

    on_sets = set(accuracies(LABEL_SETS))

    def preference(names: tuple[str, str]) -> tuple[bool, bool, list[int]]:
        places = [order.index(name) if name in order else len(order) for name in names]
        return "top1" not in pairs[names], not on_sets & set(pairs[names]), places

    return pairs[min(pairs, key=preference)]


def _saturation(fits: pa.Table, named: Named) -> list[Finding]:
    """Return what a point of one metric comes with in another, over all models and among the best."""
    rows = [
        r
        for r in fits.to_pylist()
        if r["dataset_x"] == r["dataset_y"]
        and r["slice_x"] == r["slice_y"]
        and r["metric_x"] != r["metric_y"]
        and r["scale"] == "plain"
        # A slope without an interval, of a few models or families, is none to open with.
        and is_defined(r["slope_lo"])
    ]
    overall = [r for r in rows if r["models"] == "all"]
    if not overall:
        return []
    row = min(overall, key=lambda r: (r["metric_x"], r["metric_y"]) != ("top1", "real1"))
    ends_of = ("dataset_x", "metric_x", "slice_x", "metric_y")
    best = next((r for r in rows if r["models"] != "all" and all(r[e] == row[e] for e in ends_of)), None)
    x, y = named(row["metric_x"]), named(row["metric_y"])
    sentence = (
        f"On {title_of(row['dataset_x'])}, a {'point' if x.percent else 'step of 1'} of {x.label} goes with "
        f"{_slope(row, y)} of {y.label} over {_over(row['n'])}"
    )
    if best is not None:
        among = _from_on(best["models"], x)
        sentence += f", and with {_slope(best, y)} among {_those(best['n'])} {among}"
        if holds_zero((best["slope_lo"], best["slope_hi"])):
            sentence += ", which may be none"
    shown = best or row
    about = f"of {y.label} for a {'point' if x.percent else 'step'} of {x.label}"
    about += f", among {_those(best['n'])} best" if best else ", over all models"
    return [Finding("saturation", _unit(shown["slope"], y), about, f"{sentence}.", "", *_part("saturation"))]


def _ranks(tables: ReportTables, named: Named) -> list[Finding]:
    """Return how similar two rankings of the models are."""
    rows = [r for r in tables["ranks"].to_pylist() if is_defined(r["tau"])]
    if not rows:
        return []
    row = min(
        rows,
        key=lambda r: (
            r["dataset_x"] != r["dataset_y"],
            r["slice_x"] != r["slice_y"],
            {r["metric_x"], r["metric_y"]} != {"top1", "real1"},
        ),
    )
    x, y = named(row["metric_x"]), named(row["metric_y"])
    over = tables.over(row["dataset_x"], row["dataset_y"])
    intervals = both_intervals(ends((row["lo"], row["hi"])), ends((row["lo_models"], row["hi_models"])), over)
    sentence = (
        f"{_swapped(row).capitalize()}. Kendall's tau between the orders of "
        f"{counted(row['n_models'], 'model')} by {_by(row, x, y)} is {with_minus(row['tau'], 2)} {intervals}."
    )
    figure, about = f"{row['n_swapped']:,} of {row['n_pairs']:,}", "pairs of models"
    if row["n_pairs"] > _WIDE:
        figure, about = f"{row['n_swapped']:,}", f"of {row['n_pairs']:,} pairs of models"
    return [
        Finding(
            "ranks",
            figure,
            f"{about} change order between {x.label} and {y.label}",
            sentence,
            "",
            *_part("ranks"),
        )
    ]


def _by(row: Row, x: Metric, y: Metric) -> str:
    ends_of = [
        (title_of(row[f"dataset_{e}"]), images_of(row[f"slice_{e}"]), m) for e, m in (("x", x), ("y", y))
    ]
    (data, images, _), (other, others, _) = ends_of
    on = "" if images == "images" and others == "images" else f", {images} against {others}"
    if data == other:
        return f"{x.label} and by {y.label} on {data}{on}"
    return f"{x.label} on {data} and by {y.label} on {other}{on}"


def _swapped(row: Row) -> str:
    if not row["n_swapped"]:
        return f"none of {counted(row['n_pairs'], 'pair')} changes order"
    changes = "changes" if row["n_swapped"] == 1 else "change"
    text = f"{row['n_swapped']:,} of {counted(row['n_pairs'], 'pair')} {changes} order"
    beyond = row["n_beyond_noise"]
    if beyond is None:
        return f"{text}; whether beyond noise was not tested"
    return f"{text}, {f'{beyond:,}' if beyond else 'none'} of them beyond noise"


def _errors(datasets: Iterable[DataSet], gallery: GalleryLink | None) -> list[Finding]:
    """Return which share of the errors under the original label are no errors under label sets."""
    for data in datasets:
        column = data.column("valid_errors")
        if column is not None and (values := _defined(column, data)):
            shown = gallery is not None and gallery.title == data.name
            see = gallery.to(show="valid") if gallery is not None and shown else ""
            return [replace(_error(data, column, values), see=see)]
    return []


def _error(data: DataSet, column: MetricColumn, values: Sequence[tuple[Value, Model]]) -> Finding:
    (low, worst), (high, best) = (pick(values, key=lambda e: e[0].value) for pick in (min, max))
    about = "of Top-1 errors are in the label set"
    if len(values) == 1:
        sentence = (
            f"For {worst.name} on {title_of(data.name)}, the top class is in the label set in "
            f"{column.in_full(low)} of the Top-1 errors."
        )
        return Finding("errors", f"{column.metric.text(low.value, 0)} %", about, sentence, "", *_models(data))
    sentence = (
        f"On {title_of(data.name)}, the share of Top-1 errors in which the top class is in the label set "
        f"ranges from {column.in_full(low)} for {worst.name} to {column.in_full(high)} for {best.name}, "
        f"among {counted(len(values), 'model')}."
    )
    figure = f"{column.metric.text(low.value, 0)}–{column.metric.text(high.value, 0)} %"
    return Finding("errors", figure, about, sentence, "", *_models(data))


def _defined(column: MetricColumn, data: DataSet) -> list[tuple[Value, Model]]:
    pairs = zip(column.values, data.models, strict=True)
    return [(value, model) for value, model in pairs if value is not None and value.finite]


def _best(data: DataSet, results: Results) -> list[Finding]:
    """Return the best models of a data set, those that do not differ from them, and the closest to votes."""
    column = data.column(data.primary.name)
    values = [e for e in _defined(column, data) if e[1].is_ranked] if column else []
    if column is None or not values:
        return []
    (first, leader), m = values[0], data.primary
    leaders = [model for value, model in values if value.value == first.value]
    names = listed([model.name for model in leaders], 4)
    if len(values) == 1:
        where = title_of(data.name)
        sentence = f"{names} is the only model with a value: {column.in_full(first)} by {m.label} on {where}."
    else:
        sentence = (
            f"{names} {'is' if len(leaders) == 1 else 'are'} best of {len(values):,} models by {m.label} on "
            f"{title_of(data.name)}: {column.in_full(first)}; {_rivals(data, leader, leaders)}"
        )
        closest = best_and_closest(results, data.name, by_label=True)[1:]
        sentence += "".join(f", but {clause}" for clause in closest) + "."
    figure = m.text(first.value, 1 if m.percent else 3) + m.unit
    return [
        Finding(
            "best", figure, f"{m.label} of {names} on {title_of(data.name)}", sentence, "", *_models(data)
        )
    ]


def _rivals(data: DataSet, leader: Model, leaders: Sequence[Model]) -> str:
    comparison = data.comparisons.get(data.primary.name)
    it = "it" if len(leaders) == 1 else leader.name
    if comparison is None:
        return f"whether other models differ from {it} beyond noise was not tested"
    others = [i for i in comparison.order if i != leader.index]
    states = {
        state: [data.models[i].name for i in others if comparison.states[leader.index, i] == state]
        for state in (UNKNOWN, SAME)
    }
    n_untested = len(states[UNKNOWN])
    if states[SAME]:
        untested = f", and was not compared with {counted(n_untested, 'other model')}" if n_untested else ""
        return f"beyond noise, {it} does not differ from {listed(states[SAME], 4)}{untested}"
    if n_untested == len(others):
        return f"whether other models differ from {it} beyond noise was not tested"
    if not n_untested:
        return f"every other model differs from {it} beyond noise"
    n = len(others) - n_untested
    differ = "differs" if n == 1 else "differ"
    return (
        f"{n:,} of {len(others):,} other models {differ} from {it} beyond noise, and "
        f"{listed(states[UNKNOWN], 4)} {'was' if n_untested == 1 else 'were'} not compared with {it}"
    )


def _means(drops: pa.Table) -> list[Row]:
    """Return the rows of means over models that have a value."""
    rows: list[Row] = drops.filter(pc.is_null(drops["model"])).to_pylist()
    return [r for r in rows if is_defined(r["drop"])]


def _change(tables: ReportTables, row: Row, m: Metric, *, who: bool = True) -> str:
    """Return a drop with its intervals, and over which models: from ``falls by`` on."""
    sign = 1 if row["drop"] >= 0 else -1
    over, between = (row["lo"], row["hi"]), (row["lo_models"], row["hi_models"])
    decimals = fine(m.draw(row["drop"])) if m.percent else 3
    images, models = (ends(e, m, decimals, sign=sign) for e in (over, between))
    verb = "falls" if row["drop"] > 0 else "rises"
    change = f"{verb} by {points(row['drop'], m)}" if row["drop"] else "stays the same"
    if holds_zero(over, between):
        change = f"does not change beyond noise: it {change}"
    intervals = both_intervals(images, models, tables.over(row["dataset_x"], row["dataset_y"]))
    return f"{change}{_who(tables['drops'], row) if who else ''} {intervals}"


def _who(drops: pa.Table, row: Row) -> str:
    """Return over which models, and for how many of them it goes the same way."""
    each = _each(drops, row)
    if row["n_models"] == 1:
        return f" for {each[0][0]}" if len(each) == 1 else " for the one model"
    text = f" on average over {counted(row['n_models'], 'model')}"
    alike = sum(drop * row["drop"] > 0 for _, drop in each)
    if len(each) != row["n_models"] or not alike:
        return text
    return f"{text}, and for {'each of them' if alike == len(each) else f'{alike:,} of them'}"


def _each(drops: pa.Table, row: Row) -> list[tuple[str, float]]:
    """Return the models over which a mean is computed, with their drops."""
    where = pc.is_valid(drops["model"])
    for end in ("dataset_x", "metric_x", "slice_x", "dataset_y", "metric_y", "slice_y"):
        where = pc.and_(where, pc.equal(drops[end], row[end]))
    own = drops.filter(where)
    pairs = zip(own["model"].to_pylist(), own["drop"].to_pylist(), strict=True)
    return [(model, drop) for model, drop in pairs if is_defined(drop)]


def _judged(m: Metric) -> str:
    if m.judged_on == ORIGINAL_LABELS:
        return f"{m.label} with original labels"
    return f"{m.label}, computed on label sets," if m.judged_on == LABEL_SETS else m.label


def _signed_drop(drop: float, m: Metric) -> str:
    drawn = -m.draw(drop)
    decimals = fine(drawn) if m.percent else 3
    text = with_minus(drawn, decimals)
    plus = "+" if drawn > 0 and text[0] != "−" and float(text.replace(",", "")) else ""
    return f"{plus}{text} points" if m.percent else f"{plus}{text}"


def _unsure(row: Row) -> str:
    """Return the caveat that must accompany a large number if one of its intervals contains 0."""
    noise = holds_zero((row["lo"], row["hi"]), (row["lo_models"], row["hi_models"]))
    return " (not beyond noise)" if noise else ""


def _slope(row: Row, y: Metric) -> str:
    between = ends((row["slope_lo"], row["slope_hi"]))
    return f"{_unit(row['slope'], y)} (95 % interval {between} over families of models)"


def _unit(slope: float, y: Metric) -> str:
    return f"{with_minus(slope, 2)} points" if y.percent else with_minus(slope, 2)


def _over(n: int) -> str:
    return "1 model" if n == 1 else f"all {n:,} models"


def _those(n: int) -> str:
    return "the one" if n == 1 else f"the {n:,}"


def _from_on(models: str, x: Metric) -> str:
    """Return ``at 85 % and more`` of ``x>=0.85``."""
    head, sign, bound = models.partition(">=")
    try:
        value = float(bound)
    except ValueError:
        return f"of {models}"
    if not sign or head != "x":
        return f"of {models}"
    return f"at {x.draw(value):.6g}{x.unit} and more"
